# PyPI's kubernetes-validate, which carries the schemas of Kubernetes' own objects. `validate VERSION...` reads objects as JSON, one a line, and
# prints what each of these Kubernetes' schemas has against them: an unknown field is wrong, and so is a kind that a version does not have.
"$SOURCE/pip" "$TOOL" install --quiet --target lib kubernetes-validate==1.37.0
rm -rf pip
cp "$SOURCE/kubernetes-validate/validate.py" .
cat >validate <<'END'
#!/bin/sh
PYTHONPATH=$(dirname "$0")/lib exec python3 "$(dirname "$0")/validate.py" "$@"
END
chmod +x validate
echo '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it-runs"}}' | ./validate 1.37

# The official Python SDKs of both eras, for PYTHONPATH: 1/, 2/; `version` says which they are.
for era in 1 2; do
  "$SOURCE/pip" "$TOOL" install --quiet --target "$era" --requirement "$SOURCE/python-mcp/$era.txt"
done
rm -rf pip
cat >version <<'END'
#!/bin/sh
# version 1|2: which SDK is imported.
PYTHONPATH=$(dirname "$0")/$1 exec python3 -c 'import mcp, importlib.metadata; print(importlib.metadata.version(mcp.__name__))'
END
chmod +x version
[ "$(./version 1) $(./version 2)" = "1.30.0 2.3.0" ]

# The custom resource definitions that charts and GitOps objects of ours are judged by, out of the published Go modules: FOLDER/*.yaml.
# argo-cd/ flagger/ flux/ keda/ prometheus-operator/
export GOFLAGS=-mod=mod
go() { "$SOURCE/go" "$TOOL" "$@"; }

# take FOLDER MODULE@VERSION FILE...: files out of a module.
take() {
  local to=$1 module=$2 from file
  shift 2
  from=$(go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [ -d "$from" ] || { echo "$module is not to be had" >&2; return 1; }
  mkdir -p "$to"
  for file; do
    cp "$from/$file" "$to"
  done
  chmod -R u+w "$to"
}

take argo-cd github.com/argoproj/argo-cd/v3@v3.5.7 manifests/crds/{application,applicationset,appproject}-crd.yaml
take flagger github.com/fluxcd/flagger@v1.44.0 artifacts/flagger/crd.yaml
take keda github.com/kedacore/keda/v2@v2.21.0 config/crd/bases/keda.sh_scaledobjects.yaml
take prometheus-operator github.com/prometheus-operator/prometheus-operator@v0.85.0 \
  example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,podmonitors,prometheusrules}.yaml
take flux github.com/fluxcd/source-controller@v1.9.6 \
  config/crd/bases/source.toolkit.fluxcd.io_{gitrepositories,helmrepositories,ocirepositories}.yaml
# helm-controller itself is published as its Go types alone; its definition is what their own generator makes of them.
(cd "$SOURCE/crds" && GOFLAGS=-mod=readonly go tool controller-gen crd \
  paths=github.com/fluxcd/helm-controller/api/v2 "output:crd:dir=$TOOL/flux")
rm -rf go
grep -q 'name: helmreleases.helm.toolkit.fluxcd.io' flux/helm.toolkit.fluxcd.io_helmreleases.yaml

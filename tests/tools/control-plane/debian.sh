# The control plane that Debian 12 has as source: kube-apiserver and kube-controller-manager 1.20.2 and etcd 3.4, into $1/bin. Usage: debian.sh FOLDER
#
# Everything comes by apt-get and is used where it is unpacked; root is not needed. 2.5 GB while it is made, 230 MB in the end.
folder=$1
made_from=$(sha256sum <"$0")
if [ "$(cat "$folder/.ready" 2>/dev/null)" = "$made_from" ]; then
  exit
fi
rm -rf "$folder"
mkdir -p "$folder/work/lists/partial" "$folder/work/cache/archives/partial" "$folder/work/sources" "$folder/work/tree" "$folder/bin"
cd "$folder/work"

# The machine's own places of packages, for sources instead of binaries.
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
  if grep -qs bookworm "$list"; then
    sed 's/^Types:.*/Types: deb-src/; s/^deb /deb-src /' "$list" >"sources/$(basename "$list")"
  fi
done
from_source() {
  apt-get --quiet -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$PWD/sources" -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" "$@"
}
from_source update
from_source source --download-only kubernetes
tar -xzf kubernetes_*.orig.tar.gz -C tree --strip-components=1

apt-get download golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev etcd-server make rsync libpopt0 libxxhash0
for package in *.deb; do
  dpkg -x "$package" root
done
root=$PWD/root

cd tree
# The vendored release of reflect2 crashes under Go 1.18 and newer on the first write of a custom resource.
rm -r vendor/github.com/modern-go/reflect2
cp -r "$root/usr/share/gocode/src/github.com/modern-go/reflect2" vendor/github.com/modern-go/
cat >../version <<'END'
KUBE_GIT_COMMIT=''
KUBE_GIT_TREE_STATE='archive'
KUBE_GIT_VERSION='v1.20.2'
KUBE_GIT_MAJOR='1'
KUBE_GIT_MINOR='20'
END
# It is built as a part of a GOPATH, as it was in its day, and with nothing of the caller's settings of Go.
mkdir -p .go/src/k8s.io
ln -s ../../.. .go/src/k8s.io/kubernetes
env -i HOME="$folder/work/home" GOPATH="$PWD/.go" GO111MODULE=off CGO_ENABLED=0 KUBE_GIT_VERSION_FILE="$folder/work/version" \
  PATH="$root/usr/lib/go-1.19/bin:$root/usr/bin:/usr/bin:/bin" LD_LIBRARY_PATH="$(echo "$root"/usr/lib/*-linux-gnu)" \
  make WHAT='cmd/kube-apiserver cmd/kube-controller-manager'
cp _output/local/bin/linux/*/kube-apiserver _output/local/bin/linux/*/kube-controller-manager "$root/usr/bin/etcd" "$folder/bin/"

cd "$folder"
chmod -R u+w work
rm -rf work
printf '%s' "$made_from" >.ready

#!/bin/sh
# The root file system of the image: `deploy/rootfs.sh BINARY FOLDER`. deploy/Dockerfile does nothing else, so what a test says of the folder holds
# for the image.
set -eu
binary=$1
root=$2
mkdir -p "$root/etc/ssl/certs"
# Whatever the umask of whoever builds it: every uid may read and run it, and only its owner, root in the image, could write.
cp "$binary" "$root/canary-mcp"
# What the clients of other systems trust. API servers bring an authority of their own, in the kubeconfig or the service account.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# `runAsNonRoot` needs a number, and programs that ask for their name get one.
printf 'canary-mcp:x:65532:65532::/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'canary-mcp:x:65532:\n' >"$root/etc/group"
find "$root" -type d -exec chmod 0755 {} +
find "$root" -type f -exec chmod 0644 {} +
chmod 0755 "$root/canary-mcp"

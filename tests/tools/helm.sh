# helm, from its Go module: bin/helm.
GOBIN=$TOOL/bin "$SOURCE/go" "$TOOL" install -trimpath -buildvcs=false -ldflags=-s\ -w helm.sh/helm/v4/cmd/helm@v4.3.1
rm -rf go
bin/helm version --short

# Flagger's load tester, from its Go module: loadtester.
GOBIN=$TOOL "$SOURCE/go" "$TOOL" install -trimpath -buildvcs=false -ldflags=-s\ -w github.com/fluxcd/flagger/cmd/loadtester@v1.44.0
rm -rf go
./loadtester -h 2>&1 | grep -q namespace-regexp

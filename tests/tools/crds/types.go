// Package crds names the types, so that `go mod tidy` keeps their module.
package crds

import _ "github.com/fluxcd/helm-controller/api/v2"

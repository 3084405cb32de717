//go:build !cgo

package hostop

import _ "github.com/atlock/atlock/go/internal/archive" // says that cgo is needed

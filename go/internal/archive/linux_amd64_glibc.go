//go:build cgo && linux && amd64 && !musl && !atlock_external

package archive

import _ "github.com/atlock/atlock/go/internal/archive/x86_64-unknown-linux-gnu"

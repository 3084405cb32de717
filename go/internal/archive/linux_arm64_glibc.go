//go:build cgo && linux && arm64 && !musl && !atlock_external

package archive

import _ "github.com/atlock/atlock/go/internal/archive/aarch64-unknown-linux-gnu"

// Package capi calls the atlock library. All cgo that links it is here.
//
// It adds nothing to the C API but Go's types: outputs are [Buffer]s that the caller frees, failures are [*Error]s. What
// the functions do is written in include/atlock.h. A release has that header in this folder, where the compiler looks first.
package capi

import _ "github.com/atlock/atlock/go/internal/archive" // says what is missing, if something is

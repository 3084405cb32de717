//go:build cgo && linux && amd64 && !musl && !atlock_external

// Package archive is libatlock.a for Linux on amd64 with glibc.
package archive

// What scripts/go-archive defines beside the archive.
var _ = libatlock_a_is_missing__run_make_lib_in_the_checkout_of_atlock

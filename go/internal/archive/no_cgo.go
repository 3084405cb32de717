//go:build !cgo

package archive

// Without cgo no C library can be linked. The go command turns cgo off for another platform than its own, too: there CC names a compiler.
var _ = atlock_needs_cgo__set_CGO_ENABLED_1_and_have_a_C_compiler_for_the_platform

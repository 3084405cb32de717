//go:build cgo && !atlock_external && !(linux && (amd64 || arm64))

package archive

// Of one's own: with the tag, the linker's flags come from CGO_LDFLAGS, and those of the compiler from CGO_CFLAGS.
var _ = atlock_brings_no_archive_for_this_platform__build_one_and_use_the_tag_atlock_external

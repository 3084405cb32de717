//go:build atlantis_before_v0_40

package release

// KeyFormat is how this release makes the keys of locks: `locking.key_format`.
const KeyFormat = "old"

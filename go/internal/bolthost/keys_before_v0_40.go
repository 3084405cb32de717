//go:build atlantis_before_v0_40

package bolthost

// hasOldKeys: the keys of this release of Atlantis have no project name.
const hasOldKeys = true

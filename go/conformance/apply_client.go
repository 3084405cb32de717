//go:build !atlantis_before_v0_28

package conformance

import (
	"github.com/runatlantis/atlantis/server/core/locking"

	"github.com/atlock/atlock/go/internal/release"
)

// newApplyClient is Atlantis's client of the global apply lock.
func newApplyClient(database release.Database) locking.ApplyLocker {
	return locking.NewApplyClient(database, false, false)
}

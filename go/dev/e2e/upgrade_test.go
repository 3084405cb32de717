//go:build e2e && upgrade

package e2e

import (
	"testing"

	"github.com/atlock/atlock/go/internal/redistest"
)

// TestUpgrades starts an older release of Atlantis (ATLOCK_E2E_OLDER), and then a newer one (ATLOCK_E2E_SERVER) on the same data folder and
// Redis, in each mode, with locks open. scripts/test-releases names the two; the build tag upgrade keeps this from being tried without.
func TestUpgrades(t *testing.T) {
	for _, newer := range []mode{unset, toStrictBolt, toStrictSled, hybridBolt, hybridSled, native, nativeSled} {
		t.Run(newer.name, func(t *testing.T) {
			t.Parallel()
			w := newHost(t)
			w.redis = redistest.Start(t, redistest.Options{AppendOnly: true})
			older := newer
			older.older = true
			w.goThrough(t, []mode{older, newer})
		})
	}
}

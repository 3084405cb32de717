//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/internal/redistest"
)

// The modes between which a server goes have the same folder, the same legacy store and the same Redis, as the README asks for.
var (
	toStrictBolt = mode{name: "strict-boltdb", boltDirectly: true, answers: "strict", settings: enhanced("boltdb", "strict")}
	toStrictSled = mode{name: "strict-sled", answers: "strict", settings: enhanced("sled", "strict")}
	nativeSled   = mode{name: "native-sled", answers: "native", settings: enhanced("sled", "native")}
	// These take Redis's address from Atlantis's own flags.
	hybridFlags = mode{name: "hybrid-by-flags", answers: "hybrid", settings: enhancedByFlags("hybrid")}
	nativeFlags = mode{name: "native-by-flags", answers: "native", settings: enhancedByFlags("native")}
)

// TestSwitchingModes starts a server in one mode after the other, on the same data folder and Redis, with locks open all the way.
func TestSwitchingModes(t *testing.T) {
	for name, modes := range map[string][]mode{
		"boltdb": {stockBolt, unset, toStrictBolt, hybridBolt, native, toStrictBolt, stockBolt},
		"sled":   {toStrictSled, hybridSled, nativeSled, toStrictSled, nativeSled, hybridSled, toStrictSled},
		"redis":  {stockRedis, unsetRedis, hybridFlags, nativeFlags, stockRedis, hybridFlags, stockRedis},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newHost(t)
			w.redis = redistest.Start(t, redistest.Options{AppendOnly: true})
			w.goThrough(t, modes)
		})
	}
}

// goThrough starts the server in each mode. In each, the locks are those of the mode before, and the global apply lock is among
// them; each one refuses others, and names its holder; a plan of the mode before can be applied; and a further lock is taken.
func (w *world) goThrough(t *testing.T, modes []mode) {
	t.Helper()
	r := w.repository(t, "acme/infra")
	last := 0
	held := map[string]int{} // the first pull request holds app, and is never applied
	var before string
	for i, mode := range modes {
		if i > 0 {
			w.stop(t)
		}
		w.start(t, mode)
		where := fmt.Sprintf("step %d, %s", i+1, mode.name)
		if now := w.lockNames(t); now != before {
			t.Fatalf("%s: the locks were:\n%s\nand are:\n%s", where, before, now)
		}
		if i == 0 {
			first, comment := r.open(t, "app")
			wantText(t, comment, planned)
			held["app"] = first
		} else {
			_, refusal := r.open(t, "app", "database")
			wantText(t, refusal, refusedBy(held["app"]), refusedBy(held["database"]))
			wantText(t, r.command(t, last, "atlantis apply"), disabled)
			r.enableApply(t)
			wantText(t, r.command(t, last, "atlantis apply"), applied)
			wantText(t, r.command(t, last, "atlantis unlock"), unlocked)
		}
		number, comment := r.open(t, "database", "network")
		wantText(t, comment, planned)
		held["database"], held["network"], last = number, number, number
		r.wantHolders(t, held)
		r.disableApply(t)
		before = w.lockNames(t)
		t.Logf("%s: %s", where, strings.ReplaceAll(before, "\n", "; "))
	}
	wantText(t, r.command(t, held["app"], "atlantis unlock"), unlocked)
	r.merge(t, last)
	r.eventuallyHolders(t, map[string]int{})
}

// TestEmergencyRollback goes back to strict mode by one environment variable while Redis is away, and on to a stock server.
func TestEmergencyRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hybridBolt)
	r := w.repository(t, "acme/infra")
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	w.redis.Kill()
	second, comment := r.open(t, "database")
	wantText(t, comment, planned)
	before := w.lockNames(t)

	rollback := hybridBolt
	rollback.name, rollback.answers, rollback.boltDirectly = "rollback", "strict", true
	rollback.env = map[string]string{"ATLANTIS_ENHANCED_LOCKING_ENABLED": "false"}
	for _, mode := range []mode{rollback, stockBolt} {
		w.stop(t)
		w.start(t, mode)
		if now := w.lockNames(t); now != before {
			t.Fatalf("%s: the locks were:\n%s\nand are:\n%s", mode.name, before, now)
		}
		_, comment := r.open(t, "network", "database")
		wantText(t, comment, refusedBy(first), refusedBy(second))
	}
	wantText(t, r.command(t, second, "atlantis unlock"), unlocked)
	r.wantHolders(t, map[string]int{"network": first})
}

package linearizability

import (
	"testing"

	"github.com/atlock/atlock/go/atlock"
)

// legacies are the local stores of hybrid mode, each in a fresh folder.
var legacies = map[string]func(t *testing.T) atlock.Locking{
	"sled": func(t *testing.T) atlock.Locking { return atlock.Locking{Backend: "sled", DataDir: t.TempDir()} },
}

// One server in hybrid mode is as one lock store, whatever Redis does and however often the server dies.
func TestHybrid(t *testing.T) {
	for name, legacy := range legacies {
		t.Run(name, func(t *testing.T) {
			r := newRun(t, 8, hybrid(legacy(t), "single"))
			r.execute()
			if r.fallback == 0 {
				t.Error("the local store never answered in Redis's place: this has tested nothing")
			}
			if share := float64(r.errors[degraded]) / float64(len(r.history)); share > 0.01 {
				t.Errorf("%.3f of all operations were told that nobody decides", share)
			}
			if lost := r.errors["timeout"] + r.errors["unreachable"]; lost > 0 {
				t.Errorf("%d operations were told that Redis is away", lost)
			}
		})
	}
}

// Several servers in hybrid mode on one Redis are as one lock store, but for this: while Redis is away they show what was, and a
// release is told at once and made later, if by then the lock was not released by another.
func TestHybridMany(t *testing.T) {
	for name, legacy := range legacies {
		t.Run(name, func(t *testing.T) {
			r := newRun(t, 4, hybrid(legacy(t), "many"), hybrid(legacy(t), "many"))
			r.looks, r.late = false, true
			r.execute()
		})
	}
}

func TestNative(t *testing.T) {
	native := atlock.Config{Locking: atlock.Locking{Enhanced: atlock.Enhanced{Enabled: true, CompatibilityMode: "native"}}}
	newRun(t, 4, native, native).execute()
}

func hybrid(locking atlock.Locking, instances string) atlock.Config {
	locking.Enhanced = atlock.Enhanced{Enabled: true, CompatibilityMode: "hybrid", Instances: instances}
	return atlock.Config{Locking: locking}
}

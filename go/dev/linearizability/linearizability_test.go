package linearizability

import (
	"testing"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// legacies are the local stores of hybrid mode, each in a fresh folder.
var legacies = map[string]func(t *testing.T) settings{
	"sled": func(t *testing.T) settings {
		return settings{Config: atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir()}}}
	},
	"boltdb": func(t *testing.T) settings {
		return settings{Config: atlock.Config{Locking: atlock.Locking{Backend: "boltdb", DataDir: t.TempDir()}}, BoltDB: t.TempDir()}
	},
}

var (
	// keeps is a Redis that keeps what it acknowledged, whatever becomes of it.
	keeps = redistest.Options{AppendOnly: true}
	// forgets is one that is empty after each restart.
	forgets = redistest.Options{}
)

// One server in hybrid mode is as one lock store, whatever Redis does and however often the server dies.
func TestHybrid(t *testing.T) {
	cases := map[string]struct {
		redis      redistest.Options
		durability atlock.Durability
	}{
		"sync":          {keeps, "sync"},
		"async":         {keeps, "async"},
		"Redis forgets": {forgets, "sync"},
	}
	for name, legacy := range legacies {
		for variant, c := range cases {
			t.Run(name+", "+variant, func(t *testing.T) {
				r := newRun(t, c.redis, 8, hybrid(legacy(t), atlock.Enhanced{Durability: c.durability}))
				r.execute()
				if r.fallback == 0 {
					t.Error("the local store never answered in Redis's place: this has tested nothing")
				}
				// After a crash, with async, the local store may lack a lock, and does not decide until it has seen Redis.
				if share := float64(r.errors[degraded]+r.unarmed) / float64(len(r.history)); share > 0.01 && c.durability == "sync" {
					t.Errorf("%.3f of all operations met a local store that may not decide", share)
				}
				if lost := r.errors["timeout"] + r.errors["unreachable"]; lost > 0 {
					t.Errorf("%d operations were told that Redis is away", lost)
				}
			})
		}
	}
}

// Several servers in hybrid mode on one Redis are as one lock store, too; but while Redis is away they are never armed.
func TestHybridMany(t *testing.T) {
	many := atlock.Enhanced{Instances: "many"}
	for name, legacy := range legacies {
		for variant, other := range map[string]settings{"both hybrid": hybrid(legacy(t), many), "beside native": native} {
			t.Run(name+", "+variant, func(t *testing.T) {
				newRun(t, keeps, 4, hybrid(legacy(t), many), other).execute()
			})
		}
	}
}

func TestNative(t *testing.T) {
	newRun(t, keeps, 4, native, native).execute()
}

var native = settings{Config: atlock.Config{Locking: atlock.Locking{
	Enhanced: atlock.Enhanced{Enabled: true, CompatibilityMode: "native"},
}}}

func hybrid(legacy settings, enhanced atlock.Enhanced) settings {
	enhanced.Enabled, enhanced.CompatibilityMode = true, "hybrid"
	legacy.Locking.Enhanced = enhanced
	return legacy
}

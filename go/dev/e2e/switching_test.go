//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.etcd.io/bbolt"

	"github.com/atlock/atlock/go/internal/redistest"
)

// The modes between which a server goes have the same folder, the same legacy store and the same Redis, as docs/modes.md asks for.
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
// them; each one refuses others, and names its holder; a plan of the mode before can be applied; and a further lock is taken. A stock server
// that comes back finds its first pull request's lock and status byte for byte as a stock server wrote them.
func (w *world) goThrough(t *testing.T, modes []mode) {
	t.Helper()
	r := w.repository(t, "acme/infra")
	last := 0
	held := map[string]int{} // the first pull request holds app, and is never applied
	var before string
	var written map[string]string // by stock
	for i, mode := range modes {
		if i > 0 {
			w.stop(t)
			if modes[i-1].stock && written == nil {
				written = w.firstOfStock(t, modes[i-1])
			}
			if mode.stock {
				if now := w.firstOfStock(t, mode); !maps.Equal(now, written) {
					t.Fatalf("step %d, %s: stock wrote:\n%q\nand finds:\n%q", i+1, mode.name, written, now)
				}
			}
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
			wantText(t, r.command(t, last, "atlantis plan"), planned) // before v0.28 no unlock succeeds without the plan's file
			wantUnlocked(t, r.command(t, last, "atlantis unlock"))
		}
		number, comment := r.open(t, "database", "network")
		wantText(t, comment, planned)
		held["database"], held["network"], last = number, number, number
		r.wantHolders(t, held)
		r.disableApply(t)
		before = w.lockNames(t)
		t.Logf("%s: %s", where, strings.ReplaceAll(before, "\n", "; "))
	}
	wantUnlocked(t, r.command(t, held["app"], "atlantis unlock"))
	r.merge(t, last)
	r.eventuallyHolders(t, map[string]int{})
}

// firstOfStock is what the first pull request has in the store of a stock server that does not run: its lock of app, and its status.
func (w *world) firstOfStock(t *testing.T, mode mode) map[string]string {
	t.Helper()
	found := map[string]string{}
	see := func(key, value string) {
		if strings.HasPrefix(key, "{") || strings.HasPrefix(key, "atlock:") { // atlock's, which stock does not look at
			return
		}
		if strings.Contains(key, "acme/infra/app/") || strings.HasSuffix(key, "::acme/infra::1") {
			found[key] = value
		}
	}
	if mode.redis {
		client := w.redis.Client(t)
		keys, err := client.Keys(t.Context(), "*acme/infra*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			value, err := client.Get(t.Context(), key).Result()
			if redis.HasErrorPrefix(err, "WRONGTYPE") { // an index of atlock's
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			see(key, value)
		}
	} else {
		w.viewBolt(t, see)
	}
	if len(found) != 2 {
		t.Fatalf("the first pull request has a lock and a status with stock, but %q was found", found)
	}
	return found
}

// viewBolt shows what the buckets of Atlantis's BoltDB file have. No server runs.
func (w *world) viewBolt(t *testing.T, see func(key, value string)) {
	t.Helper()
	database, err := bbolt.Open(filepath.Join(w.serverFolder(), "data", "atlantis.db"), 0o600, &bbolt.Options{ReadOnly: true, Timeout: answerLimit})
	if err != nil {
		t.Fatal(err)
	}
	err = database.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
			return bucket.ForEach(func(key, value []byte) error {
				see(string(key), string(value))
				return nil
			})
		})
	})
	if err := errors.Join(err, database.Close()); err != nil {
		t.Fatal(err)
	}
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
	wantUnlocked(t, r.command(t, second, "atlantis unlock"))
	r.wantHolders(t, map[string]int{"network": first})
}

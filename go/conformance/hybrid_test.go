package conformance

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/internal/release"
)

// legacies are the local stores of hybrid mode: each gives the settings of one in a fresh folder, and what else it needs.
var legacies = map[string]func(t *testing.T) (atlock.Locking, []atlock.Option){
	"sled": func(t *testing.T) (atlock.Locking, []atlock.Option) {
		return atlock.Locking{Backend: "sled", DataDir: TempDir(t)}, nil
	},
	"boltdb": func(t *testing.T) (atlock.Locking, []atlock.Option) {
		return atlock.Locking{Backend: "boltdb", DataDir: TempDir(t)}, []atlock.Option{atlock.WithBoltDB(TempDir(t))}
	},
}

// One Atlantis alone gets what hybrid mode promises whatever Redis does, so it has none of stock's defects. Its folder is open in
// one process at a time. What others write into Redis counts only while that answers.
const hybridAlways = Persistent | CloseIsSafe | StableReads

func TestHybridWithRedis(t *testing.T) {
	for name := range legacies {
		server := redistest.Start(t, redistest.Options{})
		client := server.Client(t)
		Run(t, Subject{
			Name: "hybrid-" + name,
			NewStore: func(t *testing.T) Store {
				flush(t, client)
				store := newHybridStore(t, name, server.Addr)
				store.Raw = redisRaw{client}
				return store
			},
			Capabilities: hybridAlways | RawBytes | ForeignKeys,
		})
	}
}

// Redis is away from before the folder is first opened until the end.
func TestHybridWithoutRedis(t *testing.T) {
	for name := range legacies {
		server := redistest.Start(t, redistest.Options{})
		server.Kill()
		Run(t, Subject{
			Name:         "hybrid-" + name + "-alone",
			NewStore:     func(t *testing.T) Store { return newHybridStore(t, name, server.Addr) },
			Capabilities: hybridAlways,
		})
	}
}

// Redis comes and goes meanwhile, and no caller notices.
func TestHybridWithUnrest(t *testing.T) {
	for name := range legacies {
		server := redistest.Start(t, redistest.Options{AppendOnly: true})
		client := server.Client(t)
		unrest := server.Disturb(t, newRandom(t))
		Run(t, Subject{
			Name: "hybrid-" + name + "-unrest",
			NewStore: func(t *testing.T) Store {
				unrest.Calm(func() { flush(t, client) })
				return newHybridStore(t, name, server.Addr)
			},
			Capabilities: hybridAlways,
		})
		if kills := unrest.Stop(); kills == 0 {
			t.Error("Redis was never killed: this has tested nothing")
		}
	}
}

func newHybridStore(t *testing.T, legacy, redis string) Store {
	locking, options := legacies[legacy](t)
	config := hybridConfig(locking, redis)
	return Store{Open: func() (release.Database, error) { return atlock.Open(config, options...) }}
}

func hybridConfig(locking atlock.Locking, redis string) atlock.Config {
	// Some suites run without a Redis from the first moment.
	locking.Enhanced = atlock.Enhanced{
		Enabled: true, CompatibilityMode: "hybrid", AllowUnseenRedis: true, Redis: atlock.Redis{Address: redis},
	}
	return atlock.Config{Locking: locking}
}

// newRandom is of the seed that what is run afterwards has, too.
func newRandom(t *testing.T) *rand.Rand {
	seed := readSettings(t).seed
	t.Setenv(seedVariable, strconv.FormatUint(seed, 10))
	return rand.New(rand.NewPCG(seed, 1))
}

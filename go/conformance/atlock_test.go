package conformance

import (
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/core/db"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// Strict mode on the embedded store has none of stock's defects.
func TestStrictSled(t *testing.T) {
	Run(t, Subject{
		Name:         "strict-sled",
		NewStore:     newSledStore,
		Capabilities: Persistent | CloseIsSafe | StableReads,
	})
}

// Strict mode on Atlantis's own BoltDB code answers bug for bug as that does.
func TestStrictBoltDB(t *testing.T) {
	Run(t, Subject{
		Name:         "strict-boltdb",
		NewStore:     newStrictBoltStore,
		Capabilities: Persistent | RawBytes | CloseIsSafe,
		Defects:      stockDefects,
	})
}

// Native mode has none of stock's defects, whether it shares its Redis with stock servers or not.
func TestNative(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	for _, opener := range []string{nativeOpener, nativeAloneOpener} {
		Run(t, Subject{
			Name:         opener,
			NewStore:     newRedisStore(server.Client(t), opener, atlockOpeners[opener], server.Addr),
			Capabilities: Persistent | RawBytes | ForeignKeys | ManyProcesses | CloseIsSafe | StableReads,
		})
	}
}

func TestNativeCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	Run(t, Subject{
		Name:         "native-cluster",
		NewStore:     newRedisStore(cluster.Client(t), nativeOpener, openNative, strings.Join(cluster.Addrs, ",")),
		Capabilities: Persistent | RawBytes | ForeignKeys | ManyProcesses | CloseIsSafe | StableReads,
	})
}

// A stock server and one in native mode on the same Redis see, refuse and release each other's locks.
func TestNativeSharedWithStock(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	client := server.Client(t)
	RunShared(t, Pair{
		Name: "native-and-stock", A: "native", B: "stock",
		NewStorage: func(t *testing.T) SharedStorage {
			flush(t, client)
			return SharedStorage{
				OpenA: func() (db.Database, error) { return openNative(server.Addr) },
				OpenB: func() (db.Database, error) { return openStockRedis(server.Addr) },
				Raw:   redisRaw{client},
			}
		},
	})
}

const (
	nativeOpener      = "native"
	nativeAloneOpener = "native-alone"
)

// atlockOpeners open a Redis server ("host:port") or a cluster (several, with commas) in native mode.
var atlockOpeners = map[string]Opener{
	nativeOpener:      openNative,
	nativeAloneOpener: openNativeAlone,
}

func openNative(address string) (db.Database, error) {
	return atlock.Open(nativeConfig(address))
}

// openNativeAlone is for a Redis without stock servers, whose locks are listed from the indexes alone.
func openNativeAlone(address string) (db.Database, error) {
	config := nativeConfig(address)
	shared := false
	config.Locking.Enhanced.Redis.SharedWithStock = &shared
	return atlock.Open(config)
}

func nativeConfig(address string) atlock.Config {
	redis := atlock.Redis{Address: address}
	if strings.Contains(address, ",") {
		redis = atlock.Redis{ClusterMode: true, Addresses: strings.Split(address, ",")}
	}
	return atlock.Config{Locking: atlock.Locking{
		Enhanced: atlock.Enhanced{Enabled: true, CompatibilityMode: "native", Redis: redis},
	}}
}

func newSledStore(t *testing.T) Store {
	folder := TempDir(t)
	return Store{Open: func() (db.Database, error) {
		return atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: folder}})
	}}
}

func newStrictBoltStore(t *testing.T) Store {
	folder := TempDir(t)
	return Store{
		Open: func() (db.Database, error) { return atlock.Open(atlock.Config{}, atlock.WithBoltDB(folder)) },
		Raw:  BoltRaw(folder),
	}
}

package conformance

import (
	"strings"
	"testing"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/internal/release"
)

// Strict mode on the embedded store has none of stock's defects.
func TestStrictSled(t *testing.T) {
	Run(t, Subject{
		Name:         "strict-sled",
		NewStore:     newSledStore,
		Capabilities: Persistent | CloseIsSafe | StableReads,
	})
}

// A queue for which nobody waits changes no answer. What is tried elsewhere without one is the same here, but for the races: one of several
// processes is enough, on the one server, and few rounds of each.
func TestIdleQueue(t *testing.T) {
	server, hybrids, cluster := redistest.Start(t, redistest.Options{}), redistest.Start(t, redistest.Options{}), redistest.StartCluster(t)
	client := hybrids.Client(t)
	nodes := strings.Join(cluster.Addrs, ",")
	t.Setenv(roundsVariable, idleRounds)
	for _, subject := range []Subject{
		{
			Name: "strict-sled",
			NewStore: func(t *testing.T) Store {
				return inOrder(atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: TempDir(t)}})
			},
			Capabilities: Persistent | CloseIsSafe | StableReads,
		},
		{
			Name:         "native",
			NewStore:     newRedisStore(server.Client(t), nativeQueueOpener, openNativeQueue, server.Addr),
			Capabilities: Persistent | RawBytes | ForeignKeys | ManyProcesses | CloseIsSafe | StableReads,
		},
		{
			Name:         "native-alone",
			NewStore:     newRedisStore(server.Client(t), nativeQueueOpener, openNativeAloneQueue, server.Addr),
			Capabilities: Persistent | RawBytes | ForeignKeys | CloseIsSafe | StableReads,
		},
		{
			Name:         "native-cluster",
			NewStore:     newRedisStore(cluster.Client(t), nativeQueueOpener, openNativeQueue, nodes),
			Capabilities: Persistent | RawBytes | ForeignKeys | CloseIsSafe | StableReads,
		},
		{
			Name: "hybrid-sled",
			NewStore: func(t *testing.T) Store {
				flush(t, client)
				return inOrder(hybridConfig(atlock.Locking{Backend: "sled", DataDir: TempDir(t)}, hybrids.Addr))
			},
			Capabilities: hybridAlways, // unreadable values take half a minute, and no queue
		},
	} {
		Run(t, subject)
	}
}

// idleRounds are those of each race.
const idleRounds = "10"

// inOrder is a store of these settings with a queue.
func inOrder(config atlock.Config) Store {
	config.Locking.Enhanced.PriorityQueue.Enabled = true
	return Store{Open: func() (release.Database, error) { return atlock.Open(config) }}
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
	for name, open := range map[string]Opener{"native": openNative, "native-queue": openNativeQueue} {
		RunShared(t, Pair{
			Name: name + "-and-stock", A: name, B: "stock",
			NewStorage: func(t *testing.T) SharedStorage {
				flush(t, client)
				return SharedStorage{
					OpenA: func() (release.Database, error) { return open(server.Addr) },
					OpenB: func() (release.Database, error) { return openStockRedis(server.Addr) },
					Raw:   redisRaw{client},
				}
			},
		})
	}
}

const (
	nativeOpener      = "native"
	nativeAloneOpener = "native-alone"
	nativeQueueOpener = "native-queue"
)

// atlockOpeners open a Redis server ("host:port") or a cluster (several, with commas) in native mode.
var atlockOpeners = map[string]Opener{
	nativeOpener:      openNative,
	nativeAloneOpener: openNativeAlone,
	nativeQueueOpener: openNativeQueue,
}

func openNative(address string) (release.Database, error) {
	return atlock.Open(nativeConfig(address))
}

// openNativeAlone is for a Redis without stock servers, whose locks are listed from the indexes alone.
func openNativeAlone(address string) (release.Database, error) {
	return atlock.Open(nativeAloneConfig(address))
}

func openNativeQueue(address string) (release.Database, error) {
	return inOrder(nativeConfig(address)).Open()
}

func openNativeAloneQueue(address string) (release.Database, error) {
	return inOrder(nativeAloneConfig(address)).Open()
}

func nativeAloneConfig(address string) atlock.Config {
	config := nativeConfig(address)
	shared := false
	config.Locking.Enhanced.Redis.SharedWithStock = &shared
	return config
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
	return Store{Open: func() (release.Database, error) {
		return atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: folder}})
	}}
}

func newStrictBoltStore(t *testing.T) Store {
	folder := TempDir(t)
	return Store{
		Open: func() (release.Database, error) { return atlock.Open(atlock.Config{}, atlock.WithBoltDB(folder)) },
		Raw:  BoltRaw(folder),
	}
}

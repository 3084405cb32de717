package conformance

import (
	"context"
	"errors"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/runatlantis/atlantis/server/core/boltdb"

	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/internal/release"
)

// The defects of stock Atlantis. Those of both backends are in its design; the races are Redis's alone, since BoltDB has one writer at a time.
var (
	stockDefects = append([]Defect{
		UnlockByPullPrefix,
		NumberIsIdentity,
		KeyCollision,
		CorruptValueHidesOthers,
	}, releaseDefects...)
	stockRedisDefects = append([]Defect{
		TryLockRace,
		UnlockRace,
		CommandLockRace,
		CommandUnlockRace,
		PullStatusLostUpdate,
		UnlockByPullGlob,
		ListForeignKey,
		ListForeignPullStatus,
		CorruptValueIsReleased,
	}, stockDefects...)
)

func TestStockBoltDB(t *testing.T) {
	Run(t, Subject{
		Name:         "boltdb",
		NewStore:     newBoltStore,
		Capabilities: Persistent | RawBytes | CloseIsSafe,
		Defects:      stockDefects,
	})
}

func TestStockRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	Run(t, Subject{
		Name:         "redis",
		NewStore:     newRedisStore(server.Client(t), stockRedisOpener, openStockRedis, server.Addr),
		Capabilities: Persistent | RawBytes | ForeignKeys | ManyProcesses,
		Defects:      stockRedisDefects,
	})
}

// Two stock servers on one Redis understand each other: so the behaviours of
// RunShared are those of stock.
func TestStockRedisShared(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	client := server.Client(t)
	open := func() (release.Database, error) { return openStockRedis(server.Addr) }
	RunShared(t, Pair{
		Name: "redis", A: "one", B: "other",
		NewStorage: func(t *testing.T) SharedStorage {
			flush(t, client)
			return SharedStorage{OpenA: open, OpenB: open, Raw: redisRaw{client}}
		},
	})
}

func newBoltStore(t *testing.T) Store {
	dir := TempDir(t)
	return Store{
		Open: func() (release.Database, error) { return boltdb.New(dir) },
		Raw:  BoltRaw(dir),
	}
}

const stockRedisOpener = "stock-redis"

// newRedisStore returns a Subject's NewStore over one server, which it empties
// each time.
func newRedisStore(client goredis.Cmdable, opener string, open Opener, address string) func(*testing.T) Store {
	return func(t *testing.T) Store {
		flush(t, client)
		return Store{
			Open: func() (release.Database, error) { return open(address) },
			Raw:  redisRaw{client},
			Spec: Spec{Opener: opener, Address: address},
		}
	}
}

// flush empties a server, or every node of a cluster.
func flush(t *testing.T, client goredis.Cmdable) {
	t.Helper()
	ctx := context.Background()
	var err error
	if cluster, ok := client.(*goredis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error { return node.FlushAll(ctx).Err() })
	} else {
		err = client.FlushAll(ctx).Err()
	}
	if err != nil {
		t.Fatalf("empty Redis: %v", err)
	}
}

// redisRaw reaches the keys of a Redis.
type redisRaw struct{ client goredis.Cmdable }

func (r redisRaw) Get(table Table, key string) (value []byte, found bool, err error) {
	value, err = r.client.Get(context.Background(), redisKey(table, key)).Bytes()
	if errors.Is(err, goredis.Nil) {
		return nil, false, nil
	}
	return value, err == nil, err
}

func (r redisRaw) Put(table Table, key string, value []byte) error {
	return r.client.Set(context.Background(), redisKey(table, key), value, 0).Err()
}

func redisKey(table Table, key string) string {
	switch table {
	case Locks:
		return "pr/" + key
	case Commands:
		return "global/" + key + "/lock"
	default: // pull statuses and foreign keys are literal
		return key
	}
}

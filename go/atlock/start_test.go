package atlock_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/core/redis"
	"github.com/runatlantis/atlantis/server/events/command"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// An embedded store does not know what is held in the BoltDB file that is passed along.
func TestAnEmbeddedStoreDoesNotForgetTheFilesLocks(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	for name, fill := range map[string]func(db.Database) error{
		"a project's lock": func(stock db.Database) error { _, _, err := stock.TryLock(lockOf("a", 1)); return err },
		"a command's lock": func(stock db.Database) error { _, err := stock.LockCommand(command.Apply, time.Now()); return err },
	} {
		files := t.TempDir()
		withStock(t, files, func(stock db.Database) { must(t, fill(stock)) })
		for _, mode := range []string{"strict", "hybrid", "native"} {
			config := settings("sled", mode, t.TempDir(), redis.Addr)
			_, err := atlock.Open(config, atlock.WithBoltDB(files))
			if !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), "has locks (1), which locking.backend: sled would not know") {
				t.Errorf("%s, %s: %v", name, mode, err)
			}
		}
	}
}

// A file without locks is no hindrance. One that fills later is: its locks are as unknown to a store that has begun.
func TestAnEmbeddedStoreThatHasBegunGoesOnBesideAFileWithoutLocks(t *testing.T) {
	files := t.TempDir()
	stock, err := boltdb.New(files)
	must(t, err)
	config := settings("sled", "strict", t.TempDir(), "")
	if _, err := atlock.Open(config, atlock.WithBoltDB(files)); err == nil || !strings.Contains(err.Error(), "another Atlantis instance") {
		t.Errorf("while another process has the file: %v", err)
	}
	must(t, stock.Close())
	begun, err := atlock.Open(config, atlock.WithBoltDB(files))
	must(t, err)
	take(t, begun, "a", 1)
	closed(t, begun)
	withStock(t, files, func(stock db.Database) { take(t, stock, "b", 2) })
	if _, err := atlock.Open(config, atlock.WithBoltDB(files)); !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), "has locks (1), which locking.backend: sled would not know") {
		t.Errorf("beside a file that has been used since: %v", err)
	}
	withStock(t, files, func(stock db.Database) { release(t, stock, "b") })
	again, err := atlock.Open(config, atlock.WithBoltDB(files))
	must(t, err)
	defer closed(t, again)
	if got := held(t, again); got != "a" {
		t.Errorf("held: %s", got)
	}
}

// What strict mode held in the embedded store is not forgotten by strict mode on the file; hybrid mode takes it along.
func TestTheFileDoesNotForgetTheEmbeddedStoresLocks(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	files, local := t.TempDir(), t.TempDir()
	open := func(backend, mode string) (*atlock.Database, error) {
		return atlock.Open(settings(backend, mode, local, redis.Addr), atlock.WithBoltDB(files))
	}
	embedded, err := open("sled", "strict")
	must(t, err)
	take(t, embedded, "a", 1)
	closed(t, embedded)
	if _, err := open("boltdb", "strict"); !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), "has locks (1), which locking.backend: boltdb would not know") {
		t.Errorf("strict on boltdb: %v", err)
	}
	hybrid, err := open("boltdb", "hybrid")
	must(t, err)
	closed(t, hybrid)
	strict, err := open("boltdb", "strict")
	must(t, err)
	defer closed(t, strict)
	if got := held(t, strict); got != "a" {
		t.Errorf("held: %s", got)
	}
}

// Unknown is not empty: a folder that cannot be looked at may have a store with locks, and nothing begins without them.
func TestAFolderThatCannotBeLookedAtStopsTheStart(t *testing.T) {
	files := t.TempDir()
	circle := filepath.Join(t.TempDir(), "circle")
	must(t, os.Symlink(circle, circle))
	config := settings("boltdb", "strict", circle, "")
	if _, err := config.HasLocalStore(); !errors.Is(err, atlock.ErrStoreNotWritable) {
		t.Errorf("HasLocalStore: %v", err)
	}
	if err := atlock.HandOverToRedis(config); !errors.Is(err, atlock.ErrStoreNotWritable) {
		t.Errorf("HandOverToRedis: %v", err)
	}
	if _, err := atlock.Open(config, atlock.WithBoltDB(files)); !errors.Is(err, atlock.ErrStoreNotWritable) || !strings.Contains(err.Error(), "cannot be looked at") {
		t.Errorf("WithBoltDB: %v", err)
	}
	withStock(t, files, func(stock db.Database) {
		if _, err := atlock.Open(config, atlock.WithLegacy(stock)); !errors.Is(err, atlock.ErrStoreNotWritable) {
			t.Errorf("WithLegacy: %v", err)
		}
	})
	config.Locking.DataDir = filepath.Join(t.TempDir(), "none")
	strict, err := atlock.Open(config, atlock.WithBoltDB(files))
	must(t, err)
	closed(t, strict)
}

// stockRedis opens stock's own Redis code.
func stockRedis(t *testing.T, server *redistest.Server) db.Database {
	t.Helper()
	host, port, err := net.SplitHostPort(server.Addr)
	must(t, err)
	number, err := strconv.Atoi(port)
	must(t, err)
	stock, err := redis.NewWithConfig(redis.Config{Hostname: host, Port: number})
	must(t, err)
	return stock
}

// Stock's code on the Redis of hybrid mode has what hybrid mode decided without it, and hybrid mode knows afterwards that others decided.
func TestHandOverToRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Options{AppendOnly: true})
	config := settings("sled", "hybrid", t.TempDir(), server.Addr)
	must(t, atlock.HandOverToRedis(config)) // nothing is there
	open := func() *atlock.Database {
		t.Helper()
		database, err := atlock.Open(config)
		must(t, err)
		return database
	}
	database := open()
	take(t, database, "with-redis", 1)
	server.Kill()
	take(t, database, "without", 2)
	closed(t, database)

	if err := atlock.HandOverToRedis(config); err == nil || !strings.Contains(err.Error(), "move "+config.Locking.DataDir+" away") {
		t.Errorf("without Redis: %v", err)
	}
	server.Restart(t)
	strict := settings("boltdb", "strict", config.Locking.DataDir, server.Addr)
	stock := stockRedis(t, server)
	if _, err := atlock.Open(strict, atlock.WithLegacy(stock)); !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), "call HandOverToRedis") {
		t.Errorf("before: %v", err)
	}
	must(t, atlock.HandOverToRedis(strict))
	strict.Locking.DataDir = ""
	rolledBack, err := atlock.Open(strict, atlock.WithLegacy(stock))
	must(t, err)
	if got := held(t, rolledBack); got != "with-redis without" {
		t.Errorf("stock finds %s", got)
	}
	take(t, rolledBack, "stocks", 3)
	closed(t, rolledBack)

	server.Kill()
	database = open()
	defer closed(t, database)
	if acquired, _, err := database.TryLock(lockOf("stocks", 4)); acquired || !errors.Is(err, atlock.ErrDegraded) {
		t.Errorf("what stock holds, asked of hybrid mode without Redis: %t, %v", acquired, err)
	}
}

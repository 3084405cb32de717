package atlock_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// An embedded store that is new does not know what is held in the BoltDB file that is passed along.
func TestANewEmbeddedStoreDoesNotForgetTheFilesLocks(t *testing.T) {
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
			if !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), files+"/atlantis.db has locks (1), which locking.backend: sled would not know") {
				t.Errorf("%s, %s: %v", name, mode, err)
			}
		}
	}
}

// A file without locks is no hindrance, and one that fills later is no concern of a store that has begun.
func TestAnEmbeddedStoreThatHasBegunGoesOn(t *testing.T) {
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
	again, err := atlock.Open(config, atlock.WithBoltDB(files))
	must(t, err)
	defer closed(t, again)
	if got := held(t, again); got != "a" {
		t.Errorf("held: %s", got)
	}
}

package bolthost

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"

	"github.com/atlock/atlock/go/internal/hostop"
)

const (
	leaving = `{"set":{"mark":"m1","refusal":"its locks are being moved","state":"leaving"}}`
	moved   = `{"set":{"mark":"m2","refusal":"its locks were moved","state":"moved"}}`
	decides = `{"set":{"mark":"m3","refusal":null,"state":"decides"}}`
	unset   = `{"set":{"mark":null}}`
)

func toMigrate(t *testing.T, dir string) *Store {
	t.Helper()
	store, err := OpenToMigrate(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// marked gives the file in a folder a mark.
func marked(t *testing.T, dir, mark string) {
	t.Helper()
	store := toMigrate(t, dir)
	expect(t, store, hostop.Migration, mark, "{}")
	closeStore(t, store)
}

// seededFile has one lock, at today's key.
func seededFile(t *testing.T) (dir, key, value string) {
	t.Helper()
	dir, lock := t.TempDir(), sampleLock("acme/infra", "a", 1)
	key, value = "acme/infra/a/default/p<&>\u2028", quoted(t, lock)
	seed(t, dir, map[string]string{key: value})
	closeStore(t, opened(t, dir))
	return dir, key, value
}

// stockReads opens the file with stock's code, and finds the lock.
func stockReads(t *testing.T, dir string) {
	t.Helper()
	stock, err := boltdb.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	locks, err := stock.List()
	if err != nil || len(locks) != 1 || locks[0].Pull.Num != 1 {
		t.Fatalf("%v, %v", locks, err)
	}
	if err := stock.Close(); err != nil {
		t.Fatal(err)
	}
}

func nobodyOpens(t *testing.T, dir string, look string) {
	t.Helper()
	if stock, err := boltdb.New(dir); err == nil {
		stock.Close()
		t.Fatal("stock opens it")
	}
	if _, err := Open(dir); !errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), "its locks") {
		t.Fatalf("a linked server: %v", err)
	}
	if err := Check(dir); !errors.Is(err, ErrMoved) {
		t.Fatalf("strict mode: %v", err)
	}
	got, err := Look{dir}.Call(hostop.Dump, []byte("{}"))
	if look == "" && !errors.Is(err, ErrMoved) || look != "" && string(got) != look {
		t.Fatalf("a look: %s, %v", got, err)
	}
}

func TestWhileItsMarkRefusesNobodyOpensAFile(t *testing.T) {
	dir, _, _ := seededFile(t)
	before, err := os.Stat(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	marked(t, dir, leaving)
	nobodyOpens(t, dir, "")
	marked(t, dir, moved)
	nobodyOpens(t, dir, "[]") // its locks are elsewhere
	// A migration finds it, and all that is in it.
	look := LookToMigrate{Path(dir)}
	if got, err := look.Call(hostop.Migration, []byte("{}")); err != nil || string(got) != `{"mark":"m2"}` {
		t.Fatalf("%s, %v", got, err)
	}
	if got, err := look.Call(hostop.Dump, []byte("{}")); err != nil || !strings.Contains(string(got), "acme/infra/a/default") {
		t.Fatalf("%s, %v", got, err)
	}
	marked(t, dir, decides)
	stockReads(t, dir)
	if after, err := os.Stat(Path(dir)); err != nil || !os.SameFile(before, after) {
		t.Fatalf("it is another file now (%v)", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Fatalf("%v were left (%v)", left, err)
	}
	if got, err := look.Call(hostop.Migration, []byte("{}")); err != nil || string(got) != `{"mark":"m3"}` {
		t.Fatalf("%s, %v", got, err)
	}
	marked(t, dir, unset)
	if got, err := look.Call(hostop.Migration, []byte("{}")); err != nil || string(got) != `{"mark":null}` {
		t.Fatalf("%s, %v", got, err)
	}
}

// A process that was killed between two steps: whoever opens the file to migrate it finds it whole, and no server finds it empty.
func TestACrashBetweenTwoNames(t *testing.T) {
	fatal := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, crash := range map[string]struct {
		mark   string // in the database
		left   func(t *testing.T, dir string)
		covers bool // whether servers are kept away until the migration goes on
		after  string
	}{
		"a second name alone": {left: func(t *testing.T, dir string) {
			fatal(t, os.Link(Path(dir), Path(dir)+keptSuffix))
		}, after: `{"mark":null}`},
		"a sentinel that is not whole": {left: func(t *testing.T, dir string) {
			fatal(t, os.Link(Path(dir), Path(dir)+keptSuffix))
			fatal(t, os.WriteFile(Path(dir)+newSuffix, []byte(`{"this`), 0o600))
		}, after: `{"mark":null}`},
		"a sentinel without a mark": {left: func(t *testing.T, dir string) {
			fatal(t, os.Link(Path(dir), Path(dir)+keptSuffix))
			fatal(t, writeSentinel(Path(dir), sentinel{"its locks are being moved", "leaving"}))
		}, covers: true, after: `{"mark":null}`},
		"a mark that decides, behind a sentinel": {mark: decides, left: func(t *testing.T, dir string) {
			fatal(t, os.Rename(Path(dir), Path(dir)+keptSuffix))
			fatal(t, writeSentinel(Path(dir), sentinel{"its locks are being moved", "arriving"}))
		}, covers: true, after: `{"mark":"m3"}`},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _, _ := seededFile(t)
			if crash.mark != "" {
				marked(t, dir, crash.mark)
			}
			crash.left(t, dir)
			if crash.covers {
				nobodyOpens(t, dir, "")
			} else {
				stockReads(t, dir)
			}
			store := toMigrate(t, dir)
			expect(t, store, hostop.Migration, "{}", crash.after)
			closeStore(t, store)
			stockReads(t, dir)
			if _, err := os.Stat(Path(dir) + keptSuffix); err == nil {
				t.Fatal("the other name is still there")
			}
			// And goes on.
			marked(t, dir, leaving)
			nobodyOpens(t, dir, "")
			marked(t, dir, unset)
			stockReads(t, dir)
		})
	}
}

// A crash before the sentinel's second state: the mark counts.
func TestTheMarkCountsNotTheSentinel(t *testing.T) {
	dir, _, _ := seededFile(t)
	marked(t, dir, leaving)
	if err := writeSentinel(Path(dir), sentinel{"its locks were moved", stateMoved}); err != nil {
		t.Fatal(err)
	}
	store := toMigrate(t, dir)
	expect(t, store, hostop.Migration, "{}", `{"mark":"m1"}`)
	expect(t, store, hostop.Apply, `{"writes":[{"key":{"project":"b"},"value":"{}"}]}`, "{}")
	closeStore(t, store)
	nobodyOpens(t, dir, "[]")
}

// What an operator did to the names is told, and nothing is guessed.
func TestOtherFilesUnderTheNames(t *testing.T) {
	dir, _, _ := seededFile(t)
	marked(t, dir, moved)
	kept := Path(dir) + keptSuffix
	// The sentinel was removed: the database is still found.
	if err := os.Remove(Path(dir)); err != nil {
		t.Fatal(err)
	}
	closeStore(t, toMigrate(t, dir))
	// And a server began with a new one.
	closeStore(t, opened(t, dir))
	if _, err := OpenToMigrate(Path(dir)); err == nil || !strings.Contains(err.Error(), "there are two databases") {
		t.Fatalf("%v", err)
	}
	if err := os.Remove(Path(dir)); err != nil {
		t.Fatal(err)
	}
	marked(t, dir, moved)
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	for _, change := range []bool{false, true} {
		host, err := OpenFile(Path(dir), change)
		if err == nil {
			_, err = host.Call(hostop.Dump, []byte("{}"))
		}
		if err == nil || !strings.Contains(err.Error(), "is gone") {
			t.Fatalf("%v", err)
		}
	}
}

// The lock of who has it open goes with the file: a server that is there keeps a migration out, and the other way round.
func TestAMigrationAndAServerKeepEachOtherOut(t *testing.T) {
	dir, _, _ := seededFile(t)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(Path(dir), link); err != nil {
		t.Fatal(err)
	}
	stock, err := boltdb.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenToMigrate(link); !errors.Is(err, ErrBusy) {
		t.Fatalf("%v", err)
	}
	if _, err := (LookToMigrate{link}).Call(hostop.Dump, []byte("{}")); !errors.Is(err, ErrBusy) {
		t.Fatalf("%v", err)
	}
	if err := stock.Close(); err != nil {
		t.Fatal(err)
	}
	store, err := OpenToMigrate(link)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := boltdb.New(dir); err == nil {
		t.Fatal("stock opens it beside a migration")
	}
	expect(t, store, hostop.Migration, leaving, "{}")
	nobodyOpens(t, dir, "")
	// Not through a link that was replaced: the file itself has the other name.
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Fatalf("%v, %v", info, err)
	}
	expect(t, store, hostop.Migration, unset, "{}")
	closeStore(t, store)
	stockReads(t, dir)
}

// A store that a server has open gives no marks.
func TestAServersStoreIsNotMarked(t *testing.T) {
	dir, _, _ := seededFile(t)
	store := opened(t, dir)
	refuses(t, store, hostop.Migration, leaving, "not opened to migrate")
	expect(t, store, hostop.Migration, "{}", `{"mark":null}`)
}

// A server that waits for the lock of the file, which it has opened under its old name, does not get it when the migration ends.
func TestAServerAtTheDoorDoesNotComeIn(t *testing.T) {
	dir, _, _ := seededFile(t)
	store := toMigrate(t, dir)
	failed := make(chan error)
	go func() {
		stock, err := boltdb.New(dir)
		if err == nil {
			err = stock.Close()
		}
		failed <- err
	}()
	time.Sleep(100 * time.Millisecond) // it waits now
	expect(t, store, hostop.Migration, leaving, "{}")
	closeStore(t, store)
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Fatalf("%v", err)
	}
}

// Nor does another migration that has opened the file before.
func TestAMigrationAtTheDoorIsToldThatTheFileIsBusy(t *testing.T) {
	dir, _, _ := seededFile(t)
	store, err := openFile(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, store)
	if err := errors.Join(os.Rename(Path(dir), Path(dir)+keptSuffix), writeSentinel(Path(dir), sentinel{"its locks were moved", stateMoved})); err != nil {
		t.Fatal(err)
	}
	store.place = Path(dir)
	if err := store.settle(); !errors.Is(err, ErrBusy) {
		t.Fatalf("%v", err)
	}
}

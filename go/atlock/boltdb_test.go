package atlock_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/conformance"
	generation "github.com/atlock/atlock/go/internal/release"
)

// The raw BoltDB host store, through the library, has none of stock's defects.
func TestBoltDBThroughTheLibrary(t *testing.T) {
	conformance.Run(t, conformance.Subject{
		Name: "boltdb-host",
		NewStore: func(t *testing.T) conformance.Store {
			folder := conformance.TempDir(t)
			return conformance.Store{
				Open: func() (generation.Database, error) { return atlock.OpenOverBoltDB(folder) },
				Raw:  conformance.BoltRaw(folder),
			}
		},
		Capabilities: conformance.Persistent | conformance.RawBytes | conformance.CloseIsSafe | conformance.StableReads,
	})
}

func hybrid(folder string) atlock.Config {
	return atlock.Config{Locking: atlock.Locking{
		DataDir:  folder,
		Enhanced: atlock.Enhanced{Enabled: true, CompatibilityMode: "hybrid", Redis: atlock.Redis{Address: "127.0.0.1:1"}},
	}}
}

func TestWithBoltDBInStrictMode(t *testing.T) {
	folder := t.TempDir()
	database, err := atlock.Open(atlock.Config{}, atlock.WithBoltDB(folder))
	if err != nil {
		t.Fatal(err)
	}
	lock := models.ProjectLock{Project: models.NewProject("acme/infra", ".", ""), Workspace: "default", Pull: models.PullRequest{Num: 5}}
	if acquired, _, err := database.TryLock(lock); err != nil || !acquired {
		t.Fatalf("TryLock: %v, %v", acquired, err)
	}
	if status, err := database.Status(); err != nil || status.Mode != "strict" {
		t.Errorf("status %+v, %v", status, err)
	}
	_, err = atlock.Open(atlock.Config{}, atlock.WithBoltDB(folder))
	if _, want := boltdb.New(folder); err == nil || err.Error() != want.Error() {
		t.Errorf("while it is open: %v, want %v", err, want)
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	stock, err := boltdb.New(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer stock.Close()
	if held, err := stock.GetLock(lock.Project, lock.Workspace); err != nil || held == nil || held.Pull.Num != 5 {
		t.Errorf("stock finds %v, %v", held, err)
	}
}

func TestLegacyStoresThatDoNotFit(t *testing.T) {
	legacy, err := boltdb.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	cases := map[string]struct {
		config  atlock.Config
		options []atlock.Option
	}{
		"both, strict":        {atlock.Config{}, []atlock.Option{atlock.WithLegacy(legacy), atlock.WithBoltDB(t.TempDir())}},
		"both, hybrid":        {hybrid(t.TempDir()), []atlock.Option{atlock.WithBoltDB(t.TempDir()), atlock.WithLegacy(legacy)}},
		"hybrid, legacy only": {hybrid(t.TempDir()), []atlock.Option{atlock.WithLegacy(legacy)}},
	}
	for name, c := range cases {
		_, err := atlock.Open(c.config, c.options...)
		if !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), "pass WithBoltDB") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := legacy.Ping(); err != nil {
		t.Errorf("a legacy store that was refused is closed: %v", err)
	}
}

// A BoltDB file that was opened is free again when opening fails later, and one that is not used is not opened.
func TestBoltDBFileIsLeftFree(t *testing.T) {
	folder := t.TempDir()
	withoutJournal := hybrid("")
	if _, err := atlock.Open(withoutJournal, atlock.WithBoltDB(folder)); !errors.Is(err, atlock.ErrInvalidConfig) {
		t.Errorf("hybrid mode without data_dir: %v", err)
	}
	stock, err := boltdb.New(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := stock.Close(); err != nil {
		t.Error(err)
	}

	unused := t.TempDir()
	sled := atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir()}}
	database, err := atlock.Open(sled, atlock.WithBoltDB(unused))
	if err != nil {
		t.Fatal(err)
	}
	if err := database.Close(); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(unused); err != nil || len(files) != 0 {
		t.Errorf("in its folder: %v, %v", files, err)
	}
}

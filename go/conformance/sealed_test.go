package conformance

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/internal/release"
)

// With a key, what Atlantis sees is the same byte for byte, though its credentials are sealed in the store.
func TestSealedCredentials(t *testing.T) {
	server, hybrids := redistest.Start(t, redistest.Options{}), redistest.Start(t, redistest.Options{})
	t.Setenv(roundsVariable, idleRounds)
	client := server.Client(t)
	for _, subject := range []Subject{
		{
			Name: "native",
			NewStore: func(t *testing.T) Store {
				flush(t, client)
				return Store{Open: func() (release.Database, error) { return atlock.Open(sealed(t, nativeConfig(server.Addr))) }}
			},
			Capabilities: Persistent | CloseIsSafe | StableReads,
		},
		{
			Name: "hybrid-boltdb",
			NewStore: func(t *testing.T) Store {
				flush(t, hybrids.Client(t))
				locking, options := legacies["boltdb"](t)
				config := sealed(t, hybridConfig(locking, hybrids.Addr))
				return Store{Open: func() (release.Database, error) { return atlock.Open(config, options...) }}
			},
			Capabilities: hybridAlways,
		},
	} {
		Run(t, subject)
	}
}

// A stock server on the same Redis meets sealed clone URLs, and does all that it does with locks and pull statuses: it reads no clone URL of
// those (D58 has the lines).
func TestStockBesideSealedCredentials(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	raw := redisRaw{server.Client(t)}
	ours := opened(t, func() (release.Database, error) { return atlock.Open(sealed(t, nativeConfig(server.Addr))) })
	stock := opened(t, func() (release.Database, error) { return openStockRedis(server.Addr) })
	if err := sharedWhileSealed(ours, stock, raw); err != nil {
		t.Error(err)
	}
}

// The same of Atlantis's file, which hybrid mode keeps as a copy, after atlock is gone.
func TestStockAfterSealedCredentials(t *testing.T) {
	server, folder := redistest.Start(t, redistest.Options{}), TempDir(t)
	config := sealed(t, hybridConfig(atlock.Locking{Backend: "boltdb", DataDir: TempDir(t)}, server.Addr))
	lock := simpleLock("acme/infra", "a", 5)
	ours, err := atlock.Open(config, atlock.WithBoltDB(folder))
	if err != nil {
		t.Fatal(err)
	}
	err = first(
		func() error { return granted(ours, lock) },
		func() error { return updated(ours, lock.Pull, planned("default", "a", "")) },
		ours.Close,
	)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(folder, "atlantis.db"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(file, []byte("user:token@")) || !bytes.Contains(file, []byte("https://atlock.")) {
		t.Error("the file has the token, or no sealed one")
	}
	shown, err := sealedAs(BoltRaw(folder), Locks, keyOf(lock), lock)
	if err != nil {
		t.Fatal(err)
	}
	stock := opened(t, func() (release.Database, error) { return boltdb.New(folder) })
	err = first(
		func() error { return held(stock, shown) },
		func() error { return refused(stock, rivalOf(lock), shown) },
		func() error { return stock.UpdateProjectStatus(lock.Pull, "default", "a", models.AppliedPlanStatus) },
		func() error { return deletedStatus(stock, lock.Pull) },
		func() error { return releasedByPull(stock, "acme/infra", 5, shown) },
		func() error { return granted(stock, lock) },
	)
	if err != nil {
		t.Error(err)
	}
}

func sharedWhileSealed(ours, stock release.Database, raw Raw) error {
	lock, second := simpleLock("acme/infra", "a", 5), simpleLock("acme/infra", "b", 5)
	pull, a, b := lock.Pull, planned("default", "a", ""), planned("default", "b", "")
	var shown models.ProjectLock
	statusOf := func(results ...command.ProjectResult) *models.PullStatus {
		status := models.PullStatus{Pull: pull}
		for _, result := range results {
			status.Projects = append(status.Projects, projectStatus(result))
		}
		return &status
	}
	return first(
		func() error { return granted(ours, lock) },
		func() (err error) { shown, err = sealedAs(raw, Locks, keyOf(lock), lock); return err },
		func() error { return held(stock, shown) },
		func() error { return listed(stock, shown) },
		func() error { return refused(stock, rivalOf(lock), shown) },
		// Each reads what the other wrote, also what stock wrote anew of a status with a sealed URL.
		func() error { return updated(ours, pull, a) },
		func() error { _, err := sealedAs(raw, Pulls, pullKey(pull), lock); return err },
		func() error { return updated(stock, pull, b) },
		func() error { return statusIs(ours, pull, statusOf(a, b)) },
		func() error { return stock.UpdateProjectStatus(pull, "default", "a", models.AppliedPlanStatus) },
		func() error { return statusIs(ours, pull, statusOf(applied("default", "a", ""), b)) },
		func() error { return updated(ours, pull, applied("default", "b", "")) },
		func() error {
			return statusIs(ours, pull, statusOf(applied("default", "a", ""), applied("default", "b", "")))
		},
		func() error { return deletedStatus(stock, pull) },
		func() error { return granted(stock, second) },
		func() error { return held(ours, second) },
		func() error { return refused(ours, rivalOf(second), second) },
		func() error { return listed(ours, lock, second) },
		func() error { return releasedByPull(stock, "acme/infra", 5, shown, second) },
		func() error { return listed(ours) },
	)
}

// sealedAs is what a server without the key sees of a lock whose clone URL is sealed in this entry.
func sealedAs(raw Raw, table Table, key string, lock models.ProjectLock) (models.ProjectLock, error) {
	value, found, err := raw.Get(table, key)
	if err != nil {
		return lock, err
	}
	var entry struct{ Pull models.PullRequest }
	if err := json.Unmarshal(value, &entry); err != nil {
		return lock, err
	}
	if url := entry.Pull.BaseRepo.CloneURL; !found || bytes.Contains(value, []byte("user:token@")) || !strings.HasPrefix(url, "https://atlock.") {
		return lock, violated("stored under %q (found: %v): %s", key, found, value)
	}
	lock.Pull.BaseRepo.CloneURL = entry.Pull.BaseRepo.CloneURL
	return lock, nil
}

// sealed is the same with a key.
func sealed(t *testing.T, config atlock.Config) atlock.Config {
	t.Helper()
	key := filepath.Join(TempDir(t), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("ab", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config.Locking.Encryption = atlock.Encryption{KeyFile: key}
	return config
}

// opened is closed at the test's end.
func opened(t *testing.T, open func() (release.Database, error)) release.Database {
	t.Helper()
	database, err := open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = database.Close() })
	return database
}

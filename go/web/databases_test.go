package web_test

import (
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// modes opens a database of each mode and store.
func modes(t *testing.T) map[string]func(t *testing.T) *atlock.Database {
	redis := redistest.Start(t, redistest.Options{})
	return map[string]func(t *testing.T) *atlock.Database{
		"strict on sled":   func(t *testing.T) *atlock.Database { return openSled(t) },
		"strict on boltdb": func(t *testing.T) *atlock.Database { return open(t, atlock.Config{}, atlock.WithBoltDB(t.TempDir())) },
		"strict on a database passed in": func(t *testing.T) *atlock.Database {
			legacy, err := boltdb.New(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return open(t, atlock.Config{}, atlock.WithLegacy(legacy))
		},
		"hybrid": func(t *testing.T) *atlock.Database { return openHybrid(t, redis.Addr) },
		"native": func(t *testing.T) *atlock.Database {
			return openNative(t, redistest.Start(t, redistest.Options{}).Addr)
		},
	}
}

func open(t testing.TB, config atlock.Config, options ...atlock.Option) *atlock.Database {
	t.Helper()
	database, err := atlock.Open(config, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = database.Close() })
	return database
}

func openSled(t testing.TB) *atlock.Database {
	t.Helper()
	return open(t, atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir()}})
}

func openHybrid(t testing.TB, redis string) *atlock.Database {
	t.Helper()
	return open(t, atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir(), Enhanced: atlock.Enhanced{
		Enabled: true, CompatibilityMode: "hybrid", Redis: atlock.Redis{Address: redis, Timeouts: shortTimeouts},
	}}})
}

func openNative(t testing.TB, redis string) *atlock.Database {
	t.Helper()
	return open(t, atlock.Config{Locking: atlock.Locking{Enhanced: atlock.Enhanced{
		Enabled: true, CompatibilityMode: "native", Redis: atlock.Redis{Address: redis, Timeouts: shortTimeouts},
	}}})
}

var shortTimeouts = atlock.RedisTimeouts{Connect: atlock.Duration(200 * time.Millisecond), Operation: atlock.Duration(200 * time.Millisecond)}

// newLock is a lock of ada's.
func newLock(repo, path string, pull int) models.ProjectLock {
	return models.ProjectLock{
		Project:   models.Project{RepoFullName: repo, Path: path},
		Workspace: "default",
		User:      models.User{Username: "ada"},
		Pull:      models.PullRequest{Num: pull, Author: "ada", URL: "https://git.example.com/" + repo + "/pull/1"},
		Time:      time.Now(),
	}
}

func take(t testing.TB, database database, repo, path string, pull int) {
	t.Helper()
	takeLock(t, database, newLock(repo, path, pull))
}

func takeLock(t testing.TB, database database, lock models.ProjectLock) {
	t.Helper()
	if acquired, _, err := database.TryLock(lock); !acquired || err != nil {
		t.Fatal(acquired, err)
	}
}

// waitUntil asks again and again, for twenty seconds at most.
func waitUntil(t testing.TB, what string, reached func() bool) {
	t.Helper()
	for giveUp := time.Now().Add(20 * time.Second); !reached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// watched tells when its health was asked for.
type watched struct {
	*atlock.Database
	looked chan<- struct{}
}

func (w watched) Health() (atlock.Health, error) {
	health, err := w.Database.Health()
	w.looked <- struct{}{}
	return health, err
}

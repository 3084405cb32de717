package main

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/core/redis"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

const sledFile = "locking: {backend: sled}\n"

func lock(name string) models.ProjectLock {
	return models.ProjectLock{Project: models.NewProject("acme/infra", name, ""), Workspace: "default", Pull: models.PullRequest{Num: 1}}
}

func take(t *testing.T, database db.Database, name string) {
	t.Helper()
	if acquired, _, err := database.TryLock(lock(name)); err != nil || !acquired {
		t.Fatalf("taking %s: %t, %v", name, acquired, err)
	}
}

func held(t *testing.T, database db.Database) []string {
	t.Helper()
	locks, err := database.List()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, held := range locks {
		names = append(names, held.Project.Path)
	}
	slices.Sort(names)
	return names
}

func wantHeld(t *testing.T, database db.Database, want ...string) {
	t.Helper()
	if got := held(t, database); !slices.Equal(got, want) {
		t.Fatalf("held are %v, want %v", got, want)
	}
}

func closed(t *testing.T, database db.Database) {
	t.Helper()
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
}

// open does what a start does: settings from a text, or none but the rollback, and the database that they ask for.
func open(t *testing.T, user server.UserConfig, text string, environment ...string) (*atlock.Database, error) {
	t.Helper()
	file := ""
	if text != "" {
		file = writeFile(t, filepath.Join(t.TempDir(), "x.yaml"), text)
	}
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
		defer os.Unsetenv(name)
	}
	settings, err := loadSettings(file, user, environment)
	if err != nil || settings == nil {
		t.Fatalf("settings %+v, %v", settings, err)
	}
	return openDatabase(*settings, user, slog.New(slog.DiscardHandler))
}

func mustOpen(t *testing.T, user server.UserConfig, mode, text string, environment ...string) *atlock.Database {
	t.Helper()
	database, err := open(t, user, text, environment...)
	if err != nil {
		t.Fatal(err)
	}
	status, err := database.Status()
	if err != nil || status.Mode != atlock.Mode(mode) {
		t.Fatalf("mode %s, %v; want %s", status.Mode, err, mode)
	}
	return database
}

func withRedis(t *testing.T, dbType string) (server.UserConfig, *redistest.Server) {
	t.Helper()
	running := redistest.Start(t, redistest.Options{AppendOnly: true})
	host, port, err := net.SplitHostPort(running.Addr)
	if err != nil {
		t.Fatal(err)
	}
	configured := user(t)
	configured.LockingDBType, configured.RedisHost = dbType, host
	configured.RedisPort, err = strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return configured, running
}

const rollback = "ATLANTIS_ENHANCED_LOCKING_ENABLED=false"

func inMode(mode string) string {
	return "locking: {enhanced: {enabled: true, compatibility_mode: " + mode + "}}\n"
}

// throughTheModes goes from stock through every mode and back; each step finds all locks and takes one more. It returns stock's
// database, open, and what is held.
func throughTheModes(t *testing.T, user server.UserConfig, stock func() db.Database) (db.Database, []string) {
	t.Helper()
	database := stock()
	take(t, database, "a")
	closed(t, database)
	want := []string{"a"}
	for _, step := range []struct{ mode, file, variable string }{
		{"strict", "locking: {}\n", ""}, {"hybrid", inMode("hybrid"), ""}, {"native", inMode("native"), ""},
		{"strict", inMode("native"), rollback}, {"hybrid", inMode("hybrid"), ""}, {"strict", inMode("hybrid"), rollback},
	} {
		var environment []string
		if step.variable != "" {
			environment = []string{step.variable}
		}
		database := mustOpen(t, user, step.mode, step.file, environment...)
		wantHeld(t, database, want...)
		name := string(rune('a' + len(want)))
		take(t, database, name)
		want = append(want, name)
		closed(t, database)
	}
	database = stock()
	wantHeld(t, database, want...)
	return database, want
}

// Stock, every mode, and stock again, on the same BoltDB file and Redis, with locks open all the way.
func TestTheWayThroughTheModes(t *testing.T) {
	user, _ := withRedis(t, "boltdb")
	stock := func() db.Database {
		t.Helper()
		opened, err := boltdb.New(user.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		return opened
	}
	database, _ := throughTheModes(t, user, stock)
	closed(t, database)
}

// The same for a server whose own store is Redis.
func TestTheWayThroughTheModesOnRedis(t *testing.T) {
	user, _ := withRedis(t, "redis")
	// From before Redis; nobody reads it, and nobody gets its lock.
	old, err := boltdb.New(user.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	take(t, old, "old")
	closed(t, old)
	stock := func() db.Database {
		t.Helper()
		opened, err := redis.NewWithConfig(redis.Config{Hostname: user.RedisHost, Port: user.RedisPort})
		if err != nil {
			t.Fatal(err)
		}
		return opened
	}
	database, want := throughTheModes(t, user, stock)
	// What stock releases stays released, though hybrid mode left a copy of it.
	if _, err := database.Unlock(lock("b").Project, "default"); err != nil {
		t.Fatal(err)
	}
	closed(t, database)
	want = slices.DeleteFunc(want, func(name string) bool { return name == "b" })
	rolledBack := mustOpen(t, user, "strict", inMode("hybrid"), rollback)
	wantHeld(t, rolledBack, want...)
	closed(t, rolledBack)
}

// What hybrid mode decided without Redis is in Redis before stock's Redis code answers.
func TestRollbackToRedisTakesTheJournalAlong(t *testing.T) {
	user, running := withRedis(t, "redis")
	closed(t, mustOpen(t, user, "hybrid", inMode("hybrid")))
	running.Kill()
	database := mustOpen(t, user, "hybrid", inMode("hybrid"))
	take(t, database, "without-redis")
	closed(t, database)

	if _, err := open(t, user, inMode("hybrid"), rollback); err == nil || !strings.Contains(err.Error(), "failed to connect to redis") {
		t.Errorf("without Redis: got %v", err)
	}
	running.Restart(t)
	rolledBack := mustOpen(t, user, "strict", inMode("hybrid"), rollback)
	wantHeld(t, rolledBack, "without-redis")
	closed(t, rolledBack)
}

// Strict mode on stock's Redis leaves the local store behind: what others did in Redis meanwhile is unknown to it. Hybrid mode that
// begins again while Redis is away must not grant what stock has given to somebody.
func TestHybridAfterStrictOnRedisDoesNotBelieveItsOldStore(t *testing.T) {
	user, running := withRedis(t, "redis")
	database := mustOpen(t, user, "hybrid", inMode("hybrid"))
	take(t, database, "a")
	closed(t, database)
	closed(t, mustOpen(t, user, "strict", inMode("hybrid"), rollback))
	stock, err := redis.NewWithConfig(redis.Config{Hostname: user.RedisHost, Port: user.RedisPort})
	if err != nil {
		t.Fatal(err)
	}
	take(t, stock, "b")
	closed(t, stock)
	running.Kill()
	database = mustOpen(t, user, "hybrid", inMode("hybrid"))
	if acquired, _, err := database.TryLock(lock("b")); acquired || !errors.Is(err, atlock.ErrDegraded) {
		t.Errorf("what stock holds: %t, %v", acquired, err)
	}
	running.Restart(t)
	wantRedisToDecide(t, database)
	wantHeld(t, database, "a", "b")
	closed(t, database)
}

// wantRedisToDecide waits until hybrid mode has Redis back.
func wantRedisToDecide(t *testing.T, database *atlock.Database) {
	t.Helper()
	for giveUp := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		status, err := database.Status()
		if err == nil && status.CircuitState == "closed" {
			return
		}
		if err != nil || time.Now().After(giveUp) {
			t.Fatalf("status %+v, %v", status, err)
		}
	}
}

// A local store that is new knows nothing of the locks that stock has in Redis: without Redis it grants none, start after start.
func TestHybridsFirstStartOverStocksRedisGrantsNothingWithoutIt(t *testing.T) {
	user, running := withRedis(t, "redis")
	stock, err := redis.NewWithConfig(redis.Config{Hostname: user.RedisHost, Port: user.RedisPort})
	if err != nil {
		t.Fatal(err)
	}
	take(t, stock, "a")
	closed(t, stock)
	running.Kill()
	for range 2 {
		database := mustOpen(t, user, "hybrid", inMode("hybrid"))
		for _, name := range []string{"a", "b"} {
			if acquired, _, err := database.TryLock(lock(name)); acquired || !errors.Is(err, atlock.ErrDegraded) {
				t.Fatalf("%s: %t, %v", name, acquired, err)
			}
		}
		status, err := database.Status()
		if err != nil || status.Armed || !strings.Contains(status.UnarmedBecause, "has never seen the Redis") {
			t.Fatalf("status %+v, %v", status, err)
		}
		closed(t, database)
	}
	running.Restart(t)
	closed(t, mustOpen(t, user, "hybrid", inMode("hybrid")))
	running.Kill()
	database := mustOpen(t, user, "hybrid", inMode("hybrid"))
	wantHeld(t, database, "a")
	take(t, database, "b")
	closed(t, database)
}

func TestRollbackToAnotherRedisIsRefused(t *testing.T) {
	user, _ := withRedis(t, "redis")
	elsewhere := strings.Replace(inMode("hybrid"), "hybrid", "hybrid, redis: {db: 1}", 1)
	closed(t, mustOpen(t, user, "hybrid", elsewhere))
	if _, err := open(t, user, elsewhere, rollback); err == nil || !strings.Contains(err.Error(), "is not the Redis of --redis-host") {
		t.Errorf("got %v", err)
	}
}

func TestTheEmbeddedStoreDoesNotForgetStocksLocks(t *testing.T) {
	user := user(t)
	stock, err := boltdb.New(user.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	take(t, stock, "a")
	closed(t, stock)
	if _, err := open(t, user, sledFile); err == nil || !strings.Contains(err.Error(), "has locks (1), which locking.backend: sled would not know") {
		t.Fatalf("got %v", err)
	}
	if stock, err = boltdb.New(user.DataDir); err != nil {
		t.Fatal(err)
	}
	if _, err := stock.Unlock(lock("a").Project, "default"); err != nil {
		t.Fatal(err)
	}
	closed(t, stock)
	database := mustOpen(t, user, "strict", sledFile)
	take(t, database, "b")
	closed(t, database)

	// The embedded store has begun: what stock takes in its file now is as unknown to it.
	if stock, err = boltdb.New(user.DataDir); err != nil {
		t.Fatal(err)
	}
	take(t, stock, "c")
	closed(t, stock)
	if _, err := open(t, user, sledFile); err == nil || !strings.Contains(err.Error(), "has locks (1), which locking.backend: sled would not know") {
		t.Fatalf("got %v", err)
	}
}

// In strict mode nobody looks at what stock holds in Redis: the embedded store must not begin beside it.
func TestTheEmbeddedStoreDoesNotForgetStocksLocksInRedis(t *testing.T) {
	onRedis, onBolt := user(t), user(t)
	onRedis.LockingDBType = "redis"
	sled := writeFile(t, filepath.Join(t.TempDir(), "sled.yaml"), sledFile)
	hybrid := writeFile(t, filepath.Join(t.TempDir(), "hybrid.yaml"), strings.Replace(inMode("hybrid"), "{", "{backend: sled, ", 1))
	for _, c := range []struct {
		name, file string
		user       server.UserConfig
		enabled    string
		isRefused  bool
	}{
		{"strict", sled, onRedis, "", true},
		{"a rollback", hybrid, onRedis, "false", true},
		{"hybrid", hybrid, onRedis, "true", false},
		{"strict on BoltDB", sled, onBolt, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.enabled != "" {
				t.Setenv("ATLANTIS_ENHANCED_LOCKING_ENABLED", c.enabled)
			}
			_, err := loadSettings(c.file, c.user, nil)
			if refused := err != nil && strings.Contains(err.Error(), "what stock Atlantis holds in Redis"); refused != c.isRefused || (err != nil && !refused) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestClosedLater(t *testing.T) {
	database := mustOpen(t, user(t), "strict", sledFile)
	inAtlantis := closedLater{database}
	closed(t, inAtlantis)
	take(t, inAtlantis, "late")
	closed(t, database)
	if _, err := inAtlantis.List(); err == nil {
		t.Error("it is still open")
	}
}

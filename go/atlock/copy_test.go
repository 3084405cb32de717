package atlock_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// copied is a server in hybrid mode on a BoltDB file, its copy.
type copied struct {
	redis  *redistest.Server
	files  string
	config atlock.Config
}

func newCopied(t *testing.T, instances atlock.Instances) copied {
	redis := redistest.Start(t, redistest.Options{})
	return copied{redis, t.TempDir(), atlock.Config{Locking: atlock.Locking{
		DataDir: t.TempDir(),
		Enhanced: atlock.Enhanced{
			Enabled: true, CompatibilityMode: "hybrid", Instances: instances,
			Redis: atlock.Redis{Address: redis.Addr, Timeouts: atlock.RedisTimeouts{
				Connect: atlock.Duration(300 * time.Millisecond), Operation: atlock.Duration(300 * time.Millisecond),
			}},
		},
	}}}
}

func (c copied) path() string { return filepath.Join(c.files, "atlantis.db") }

func (c copied) open(t *testing.T) *atlock.Database {
	t.Helper()
	database, err := atlock.Open(c.config, atlock.WithBoltDB(c.files))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { database.Close() })
	return database
}

func closed(t *testing.T, database db.Database) {
	t.Helper()
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
}

func lockOf(path string, pull int) models.ProjectLock {
	return models.ProjectLock{Project: models.Project{RepoFullName: "acme/infra", Path: path}, Workspace: "default", Pull: models.PullRequest{Num: pull}}
}

func take(t *testing.T, database db.Database, path string, pull int) {
	t.Helper()
	if acquired, _, err := database.TryLock(lockOf(path, pull)); !acquired || err != nil {
		t.Fatalf("%s: %v, %v", path, acquired, err)
	}
}

func release(t *testing.T, database db.Database, path string) {
	t.Helper()
	if lock, err := database.Unlock(lockOf(path, 0).Project, "default"); lock == nil || err != nil {
		t.Fatalf("%s: %v, %v", path, lock, err)
	}
}

// held are the paths of the locks, in order, and "apply".
func held(t *testing.T, database db.Database) string {
	t.Helper()
	locks, err := database.List()
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, lock := range locks {
		paths = append(paths, lock.Project.Path)
	}
	slices.Sort(paths)
	lock, err := database.CheckCommandLock(command.Apply)
	if err != nil {
		t.Fatal(err)
	}
	if lock != nil {
		paths = append(paths, "apply")
	}
	return strings.Join(paths, " ")
}

func warning(t *testing.T, database *atlock.Database, text string) string {
	t.Helper()
	status, err := database.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range status.Warnings {
		if strings.Contains(warning, text) {
			return warning
		}
	}
	return ""
}

// eventually waits until a test holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 2000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(what)
}

func withStock(t *testing.T, files string, act func(stock db.Database)) {
	t.Helper()
	stock, err := boltdb.New(files)
	if err != nil {
		t.Fatal(err)
	}
	act(stock)
	closed(t, stock)
}

// TestAFileThatIsNotTheCopyReleasesNothing does to the file what users do, between a stop and a start.
func TestAFileThatIsNotTheCopyReleasesNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, path string, old []byte)
		want   string
	}{
		{"removed", func(t *testing.T, path string, _ []byte) { must(t, os.Remove(path)) }, "a b apply"},
		{"empty", func(t *testing.T, path string, _ []byte) { must(t, os.Truncate(path, 0)) }, "a b apply"},
		{"a new one of stock", func(t *testing.T, path string, _ []byte) {
			must(t, os.Remove(path))
			withStock(t, filepath.Dir(path), func(db.Database) {})
		}, "a b apply"},
		{"older", func(t *testing.T, path string, old []byte) { must(t, os.WriteFile(path, old, 0o600)) }, "a b apply"},
		{"older, used by stock", func(t *testing.T, path string, old []byte) {
			must(t, os.WriteFile(path, old, 0o600))
			withStock(t, filepath.Dir(path), func(stock db.Database) {
				release(t, stock, "a")
				take(t, stock, "stocks", 9)
			})
		}, "a b stocks apply"},
	} {
		for _, instances := range []string{"single", "many"} {
			for _, withRedis := range []bool{true, false} {
				t.Run(c.name+" "+instances+map[bool]string{false: " without Redis"}[withRedis], func(t *testing.T) {
					s := newCopied(t, atlock.Instances(instances))
					hybrid := s.open(t)
					take(t, hybrid, "a", 1)
					take(t, hybrid, "gone", 1)
					closed(t, hybrid)
					old, err := os.ReadFile(s.path())
					must(t, err)
					hybrid = s.open(t)
					release(t, hybrid, "gone")
					take(t, hybrid, "b", 2)
					if _, err := hybrid.LockCommand(command.Apply, time.Now()); err != nil {
						t.Fatal(err)
					}
					closed(t, hybrid)
					c.damage(t, s.path(), old)
					if !withRedis {
						s.redis.Kill()
					}
					hybrid = s.open(t)
					if got := held(t, hybrid); got != c.want {
						t.Errorf("held: %s, want %s", got, c.want)
					}
					if warning(t, hybrid, "was not believed") == "" {
						t.Error("nothing is said")
					}
					if withRedis {
						keys, err := s.redis.Client(t).Keys(context.Background(), "pr/*").Result()
						if want := len(strings.Fields(c.want)) - 1; err != nil || len(keys) != want {
							t.Errorf("in Redis: %v, %v", keys, err)
						}
					}
					closed(t, hybrid)
					withStock(t, s.files, func(stock db.Database) {
						if got := held(t, stock); got != c.want {
							t.Errorf("stock finds %s, want %s", got, c.want)
						}
					})
				})
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhatStrictModeReleasedIsReleased: the file is the copy, and strict mode and stock changed it.
func TestWhatStrictModeReleasedIsReleased(t *testing.T) {
	s := newCopied(t, "single")
	s.config.Locking.Audit.File = filepath.Join(t.TempDir(), "trail")
	hybrid := s.open(t)
	for _, path := range []string{"a", "b", "c"} {
		take(t, hybrid, path, 1)
	}
	closed(t, hybrid)
	s.config.Locking.Enhanced.Enabled = false
	strict := s.open(t)
	release(t, strict, "a")
	take(t, strict, "d", 4)
	closed(t, strict)
	closed(t, s.open(t))
	withStock(t, s.files, func(stock db.Database) { release(t, stock, "b") })
	s.config.Locking.Enhanced.Enabled = true
	hybrid = s.open(t)
	if got := held(t, hybrid); got != "c d" {
		t.Errorf("held: %s", got)
	}
	status, err := hybrid.Status()
	if host := status.HostStore; err != nil || host == nil || host.ReleasedBefore != 2 || host.TakenBefore != 1 || warning(t, hybrid, "host store") != "" {
		t.Errorf("%+v, %v", status, err)
	}
	trail, err := os.ReadFile(s.config.Locking.Audit.File)
	// The one in strict mode has an entry of its own; at the next start, both that hybrid mode did not see have.
	if releases := strings.Count(string(trail), `"kind":"release"`); err != nil || releases != 3 {
		t.Errorf("%d releases, %v in\n%s", releases, err, trail)
	}
	if unseen := strings.Count(string(trail), `"kind":"release","key"`); unseen != 2 {
		t.Errorf("%d releases were found at the start, want 2:\n%s", unseen, trail)
	}
}

// TestADamagedFile is no obstacle to hybrid mode, and an error in strict mode.
func TestADamagedFile(t *testing.T) {
	s := newCopied(t, "single")
	hybrid := s.open(t)
	take(t, hybrid, "a", 1)
	closed(t, hybrid)
	must(t, os.Truncate(s.path(), 8192))
	hybrid = s.open(t)
	if got := held(t, hybrid); got != "a" {
		t.Errorf("held: %s", got)
	}
	take(t, hybrid, "b", 2)
	if text := warning(t, hybrid, "the file is damaged"); !strings.Contains(text, s.path()) || !strings.Contains(text, "replace_damaged_copy") {
		t.Errorf("the warning is %q", text)
	}
	health, err := hybrid.Health()
	if err != nil || health.State != "degraded" || health.Legacy.Healthy || !strings.Contains(health.Legacy.Error, s.path()) {
		t.Errorf("%+v, %v", health, err)
	}
	closed(t, hybrid)

	s.config.Locking.Enhanced.Enabled = false
	if _, err := atlock.Open(s.config, atlock.WithBoltDB(s.files)); err == nil || !strings.Contains(err.Error(), s.path()) {
		t.Errorf("strict mode after hybrid mode: %v", err)
	}
	if _, err := atlock.Open(atlock.Config{}, atlock.WithBoltDB(s.files)); err == nil || !strings.Contains(err.Error(), s.path()) {
		t.Errorf("strict mode: %v", err)
	}
	fresh := s.config
	fresh.Locking.DataDir = t.TempDir()
	fresh.Locking.Enhanced.Enabled, fresh.Locking.Enhanced.ReplaceDamagedCopy = true, true
	if _, err := atlock.Open(fresh, atlock.WithBoltDB(s.files)); !errors.Is(err, atlock.ErrHostStore) || !strings.Contains(err.Error(), s.path()) {
		t.Errorf("the first start of hybrid mode: %v", err)
	}

	s.config.Locking.Enhanced.Enabled, s.config.Locking.Enhanced.ReplaceDamagedCopy = true, true
	hybrid = s.open(t)
	if got := held(t, hybrid); got != "a b" {
		t.Errorf("held: %s", got)
	}
	closed(t, hybrid)
	if aside, err := filepath.Glob(s.path() + ".damaged-*"); err != nil || len(aside) != 1 {
		t.Errorf("moved aside: %v, %v", aside, err)
	}
	withStock(t, s.files, func(stock db.Database) {
		if got := held(t, stock); got != "a b" {
			t.Errorf("stock finds %s", got)
		}
	})
}

// TestAnEntryThatTheFileRefuses: BoltDB has no empty key, Redis and the embedded store have one. What no local store keeps, as a key
// of 40,000 bytes, does not reach the file at all.
func TestAnEntryThatTheFileRefuses(t *testing.T) {
	s := newCopied(t, "single")
	for _, foreign := range []string{"pr/", "pr/" + strings.Repeat("x", 40_000)} {
		must(t, s.redis.Client(t).Set(context.Background(), foreign, "{}", 0).Err())
	}
	hybrid := s.open(t)
	take(t, hybrid, "a", 1)
	eventually(t, "both are named", func() bool {
		return warning(t, hybrid, "key required") != "" && warning(t, hybrid, "this key has 40000 bytes") != ""
	})
	for _, words := range []string{"key required", "this key has 40000 bytes"} {
		if text := warning(t, hybrid, words); len(text) > 600 {
			t.Errorf("%d bytes: %.700s", len(text), text)
		}
	}
	health, err := hybrid.Health()
	if err != nil || health.State != "healthy" {
		t.Errorf("%+v, %v", health, err)
	}
	closed(t, hybrid)
	s.redis.Kill()
	s.config.Locking.Enhanced.Enabled = false
	strict := s.open(t)
	if got := held(t, strict); got != "a" {
		t.Errorf("held: %s", got)
	}
	if warning(t, strict, "key required") == "" {
		t.Error("nothing is said")
	}
}

// TestAFileInUseStaysAnError: it may be another server on this folder.
func TestAFileInUseStaysAnError(t *testing.T) {
	s := newCopied(t, "single")
	closed(t, s.open(t))
	withStock(t, s.files, func(db.Database) {
		if _, err := atlock.Open(s.config, atlock.WithBoltDB(s.files)); err == nil || !strings.Contains(err.Error(), "another Atlantis instance") {
			t.Errorf("got %v", err)
		}
	})
}

package atlock_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// TestSwitchingModesOnBoltDB goes from stock Atlantis through every mode and back on one BoltDB file and one Redis, with locks,
// a command's lock and a pull status open all the way. Each step takes a lock and releases one.
func TestSwitchingModesOnBoltDB(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	files, local := t.TempDir(), t.TempDir()
	pull := models.PullRequest{Num: 1, HeadCommit: "c", BaseRepo: models.Repo{FullName: "acme/infra", VCSHost: models.VCSHost{Hostname: "h"}}}
	open := map[string]func() (db.Database, error){"stock": func() (db.Database, error) { return boltdb.New(files) }}
	for _, mode := range []string{"strict", "hybrid", "native"} {
		open[mode] = func() (db.Database, error) {
			return atlock.Open(atlock.Config{Locking: atlock.Locking{
				DataDir:  local,
				Enhanced: atlock.Enhanced{Enabled: true, CompatibilityMode: atlock.Mode(mode), Redis: atlock.Redis{Address: redis.Addr}},
			}}, atlock.WithBoltDB(files))
		}
	}
	held := map[string]bool{}
	steps := []string{"stock", "strict", "hybrid", "native", "strict", "stock", "hybrid", "stock", "hybrid", "strict", "native", "hybrid", "stock"}
	for step, mode := range steps {
		database, err := open[mode]()
		if err != nil {
			t.Fatalf("step %d, %s: %v", step, mode, err)
		}
		if step == 0 {
			if _, err := database.LockCommand(command.Apply, time.Now()); err != nil {
				t.Fatal(err)
			}
			if _, err := database.UpdatePullWithResults(pull, []command.ProjectResult{{RepoRelDir: "x", Workspace: "default"}}); err != nil {
				t.Fatal(err)
			}
		}
		locks, err := database.List()
		if err != nil || len(locks) != len(held) {
			t.Fatalf("step %d, %s: %d locks are listed (%v), %d are held", step, mode, len(locks), err, len(held))
		}
		for _, lock := range locks {
			if !held[lock.Project.Path] {
				t.Errorf("step %d, %s: %s is listed, and not held", step, mode, lock.Project.Path)
			}
		}
		if lock, err := database.CheckCommandLock(command.Apply); lock == nil || err != nil {
			t.Errorf("step %d, %s: the apply lock is gone (%v)", step, mode, err)
		}
		if status, err := database.GetPullStatus(pull); status == nil || err != nil || len(status.Projects) != 1 {
			t.Errorf("step %d, %s: the pull status is %+v (%v)", step, mode, status, err)
		}
		lock := models.ProjectLock{
			Project: models.Project{RepoFullName: "acme/infra", Path: string(rune('a' + step))}, Workspace: "default",
			Pull: pull, Time: time.Now(),
		}
		if acquired, _, err := database.TryLock(lock); !acquired || err != nil {
			t.Fatalf("step %d, %s: %v, %v", step, mode, acquired, err)
		}
		held[lock.Project.Path] = true
		for path := range held {
			if path != lock.Project.Path && len(held) > 2 {
				if released, err := database.Unlock(models.Project{RepoFullName: "acme/infra", Path: path}, "default"); released == nil || err != nil {
					t.Fatalf("step %d, %s: releasing %s: %v, %v", step, mode, path, released, err)
				}
				delete(held, path)
				break
			}
		}
		if err := database.Close(); err != nil {
			t.Fatalf("step %d, %s: %v", step, mode, err)
		}
	}
}

// TestRollbackToBoltDBWithoutRedis is the emergency: hybrid mode ends while Redis is away, and strict mode has every lock.
func TestRollbackToBoltDBWithoutRedis(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	files, local := t.TempDir(), t.TempDir()
	config := atlock.Config{Locking: atlock.Locking{
		DataDir:  local,
		Enhanced: atlock.Enhanced{Enabled: true, CompatibilityMode: "hybrid", Redis: atlock.Redis{Address: redis.Addr}},
	}}
	hybrid, err := atlock.Open(config, atlock.WithBoltDB(files))
	if err != nil {
		t.Fatal(err)
	}
	take := func(path string) {
		t.Helper()
		lock := models.ProjectLock{Project: models.Project{RepoFullName: "acme/infra", Path: path}, Workspace: "default", Pull: models.PullRequest{Num: 7}}
		if acquired, _, err := hybrid.TryLock(lock); !acquired || err != nil {
			t.Fatal(acquired, err)
		}
	}
	take("with-redis")
	redis.Kill()
	take("without")
	if err := hybrid.Close(); err != nil {
		t.Fatal(err)
	}
	config.Locking.Enhanced.Enabled = false
	strict, err := atlock.Open(config, atlock.WithBoltDB(files))
	if err != nil {
		t.Fatal(err)
	}
	defer strict.Close()
	if locks, err := strict.List(); err != nil || len(locks) != 2 {
		text, _ := json.Marshal(locks)
		t.Errorf("got %s, %v", text, err)
	}
	legacy, err := boltdb.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	if _, err := atlock.Open(config, atlock.WithLegacy(legacy)); !errors.Is(err, atlock.ErrInvalidConfig) {
		t.Errorf("WithLegacy after hybrid mode: %v", err)
	}
}

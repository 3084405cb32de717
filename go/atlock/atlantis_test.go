package atlock_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"
)

// owner is one that nobody else has, of all repositories that the tests lock.
var owner = "atlock-test-" + rand.Text()

// atlantis is an Atlantis server on a store.
type atlantis struct {
	*locking.Client
	t        *testing.T
	database db.Database
	open     func() (db.Database, error)
}

func start(t *testing.T, s store, redis string) *atlantis {
	folder := t.TempDir()
	a := &atlantis{t: t, open: func() (db.Database, error) { return s.open(folder, redis) }}
	a.boots()
	t.Cleanup(func() {
		for key := range a.listed() {
			if _, err := a.Unlock(key); err != nil {
				t.Errorf("the lock %s of this test may be left: %v", key, err)
			}
		}
		a.stops()
	})
	return a
}

func (a *atlantis) boots() {
	a.t.Helper()
	database, err := a.open()
	if err != nil {
		a.t.Fatal(err)
	}
	a.database, a.Client = database, locking.NewClient(database)
}

func (a *atlantis) stops() {
	a.t.Helper()
	if err := a.database.Close(); err != nil {
		a.t.Fatal(err)
	}
}

func (a *atlantis) restarts() {
	a.t.Helper()
	a.stops()
	a.boots()
}

// lock is what names a lock.
type lock struct {
	project   models.Project
	workspace string
}

func (l lock) key() string { return models.GenerateLockKey(l.project, l.workspace) }

func (a *atlantis) lock(path string) lock {
	return lock{models.NewProject(owner+"/infra", path, ""), "default"}
}

func (a *atlantis) tryLock(l lock, pull int) (locking.TryLockResponse, error) {
	return a.TryLock(l.project, l.workspace, models.PullRequest{Num: pull}, models.User{Username: fmt.Sprintf("user%d", pull)})
}

func (a *atlantis) takes(l lock, pull int) { a.t.Helper(); a.tries(l, pull, true, pull) }

func (a *atlantis) isRefused(l lock, pull, holder int) { a.t.Helper(); a.tries(l, pull, false, holder) }

func (a *atlantis) tries(l lock, pull int, granted bool, holder int) {
	a.t.Helper()
	got, err := a.tryLock(l, pull)
	if err != nil {
		a.t.Fatal(err)
	}
	if got.LockAcquired != granted || got.LockKey != l.key() {
		a.t.Fatalf("pull %d, %s: granted %t, want %t", pull, got.LockKey, got.LockAcquired, granted)
	}
	a.isLock(&got.CurrLock, l, holder)
}

func (a *atlantis) holds(l lock, pull int) {
	a.t.Helper()
	got, err := a.GetLock(l.key())
	if err != nil {
		a.t.Fatal(err)
	}
	a.isLock(got, l, pull)
}

func (a *atlantis) isFree(l lock) {
	a.t.Helper()
	if got, err := a.GetLock(l.key()); got != nil || err != nil {
		a.t.Fatalf("a free lock: %v, %v", got, err)
	}
	if got, err := a.Unlock(l.key()); got != nil || err != nil {
		a.t.Fatalf("the release of a free lock: %v, %v", got, err)
	}
}

func (a *atlantis) releases(l lock, pull int) {
	a.t.Helper()
	got, err := a.Unlock(l.key())
	if err != nil {
		a.t.Fatal(err)
	}
	a.isLock(got, l, pull)
}

func (a *atlantis) isLock(got *models.ProjectLock, l lock, pull int) {
	a.t.Helper()
	if got == nil {
		a.t.Fatalf("%s: no lock, want pull %d's", l.key(), pull)
	}
	if got.Project != l.project || got.Workspace != l.workspace || got.Pull.Num != pull || got.User.Username != fmt.Sprintf("user%d", pull) {
		a.t.Fatalf("got %+v, want pull %d's lock %s", *got, pull, l.key())
	}
}

func (a *atlantis) lists(want map[string]int) {
	a.t.Helper()
	if got := a.listed(); !maps.Equal(got, want) {
		a.t.Errorf("listed %v, want %v", got, want)
	}
}

// listed is the pull of each of this owner's locks by its key, in a store that others may use as well.
func (a *atlantis) listed() map[string]int {
	a.t.Helper()
	locks, err := a.List()
	if err != nil {
		a.t.Fatal(err)
	}
	pulls := map[string]int{}
	for key, lock := range locks {
		if strings.HasPrefix(key, owner+"/") {
			pulls[key] = lock.Pull.Num
		}
	}
	return pulls
}

// leavesNothing removes what is left in a Redis after all locks were released: the store's memory of them, which must be of
// the kind that expires.
func leavesNothing(t *testing.T, redis string) {
	ctx := context.Background()
	client := goredis.NewClient(&goredis.Options{Addr: redis})
	defer client.Close()
	keys := client.Scan(ctx, 0, "*"+owner+"*", 1000).Iterator()
	for keys.Next(ctx) {
		if left, err := client.TTL(ctx, keys.Val()).Result(); left <= 0 || err != nil {
			t.Errorf("%s would stay for ever: %v, %v", keys.Val(), left, err)
		}
		if err := client.Del(ctx, keys.Val()).Err(); err != nil {
			t.Error(err)
		}
	}
	if err := keys.Err(); err != nil {
		t.Error(err)
	}
}

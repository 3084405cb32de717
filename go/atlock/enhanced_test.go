package atlock_test

// Written from the specification of the EnhancedLocker alone: the interface, its four methods, and what their comments promise. What is
// atlock's own beside it is in enhanced_more_test.go.

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// The interface as the specification writes it.
type specified interface {
	locking.Locker
	LockWithPriority(ctx context.Context, project models.Project, workspace string, user models.User, priority atlock.Priority) (*models.ProjectLock, error)
	LockWithTimeout(ctx context.Context, project models.Project, workspace string, user models.User, timeout time.Duration) (*models.ProjectLock, error)
	GetQueuePosition(ctx context.Context, project models.Project, workspace string) (int, error)
	GetEnhancedStats(ctx context.Context) (*atlock.BackendStats, error)
}

var (
	_ atlock.EnhancedLocker = specified(nil)
	_ specified             = atlock.EnhancedLocker(nil)

	project = models.Project{RepoFullName: "acme/infra", Path: "network"}
	user    = models.User{Username: "ada"}
)

const (
	workspace = "default"
	key       = "acme/infra/network/default/"
	// patience is how long a test waits for what must happen.
	patience = 30 * time.Second
)

func pullRequest(num int) models.PullRequest {
	host := models.VCSHost{Hostname: "git.example.com"}
	return models.PullRequest{
		Num: num, URL: fmt.Sprintf("https://git.example.com/%d", num), Author: "ada", BaseBranch: "main",
		BaseRepo: models.Repo{FullName: "acme/infra", Owner: "acme", Name: "infra", VCSHost: host},
	}
}

// of is a context of a pull request.
func of(t *testing.T, num int) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return atlock.WithPull(ctx, pullRequest(num))
}

// everyQueue runs a test over each kind of store that has a queue.
func everyQueue(t *testing.T, test func(t *testing.T, database *atlock.Database)) {
	queue := atlock.PriorityQueue{Enabled: true}
	run := func(name string, config func(t *testing.T) atlock.Config, opts ...atlock.Option) {
		t.Run(name, func(t *testing.T) {
			settings := config(t)
			settings.Locking.Enhanced.PriorityQueue = queue
			database, err := atlock.Open(settings, opts...)
			must(t, err)
			defer closed(t, database)
			test(t, database)
		})
	}
	withRedis := func(mode string) func(t *testing.T) atlock.Config {
		return func(t *testing.T) atlock.Config {
			redis := redistest.Start(t, redistest.Options{})
			return settings("sled", mode, t.TempDir(), redis.Addr)
		}
	}
	run("sled", func(t *testing.T) atlock.Config { return settings("sled", "strict", t.TempDir(), "") })
	run("native", withRedis("native"))
	run("hybrid", withRedis("hybrid"))
	run("hybrid over BoltDB", func(t *testing.T) atlock.Config {
		redis := redistest.Start(t, redistest.Options{})
		return settings("boltdb", "hybrid", t.TempDir(), redis.Addr)
	}, atlock.WithBoltDB(t.TempDir()))
}

func positionIs(t *testing.T, locker atlock.EnhancedLocker, num, want int) {
	t.Helper()
	got := -1
	eventually(t, fmt.Sprintf("pull %d is number %d", num, want), func() bool {
		position, err := locker.GetQueuePosition(of(t, num), project, workspace)
		got = position
		return err == nil && got == want
	})
}

func hold(t *testing.T, locker atlock.EnhancedLocker, num int) {
	t.Helper()
	response, err := locker.TryLock(project, workspace, pullRequest(num), user)
	if err != nil || !response.LockAcquired {
		t.Fatalf("pull %d: %+v, %v", num, response, err)
	}
}

func TestEnhancedPrioritiesOrderWhoWaits(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		locker := database.Enhanced()
		hold(t, locker, 1)
		var mutex sync.Mutex
		var order []int
		var group sync.WaitGroup
		waits := func(num int, priority atlock.Priority) {
			ctx := of(t, num)
			group.Go(func() {
				lock, err := locker.LockWithPriority(ctx, project, workspace, user, priority)
				if err != nil || lock.Pull.Num != num {
					t.Errorf("pull %d: %+v, %v", num, lock, err)
					return
				}
				mutex.Lock()
				order = append(order, num)
				mutex.Unlock()
				if _, err := locker.Unlock(key); err != nil {
					t.Errorf("pull %d: %v", num, err)
				}
			})
			eventually(t, fmt.Sprintf("pull %d waits", num), func() bool {
				_, err := locker.GetQueuePosition(of(t, num), project, workspace)
				return err == nil
			})
		}
		waits(2, atlock.PriorityLow)
		waits(3, atlock.PriorityNormal)
		waits(4, atlock.PriorityNormal)
		waits(5, atlock.PriorityHigh)
		waits(6, atlock.PriorityCritical)
		for num, want := range map[int]int{1: 0, 6: 1, 5: 2, 3: 3, 4: 4, 2: 5} {
			positionIs(t, locker, num, want)
		}
		if next, err := locker.GetQueuePosition(t.Context(), project, workspace); err != nil || next != 6 {
			t.Errorf("the place of a newcomer is %d, %v", next, err)
		}
		stats, err := locker.GetEnhancedStats(t.Context())
		if err != nil || stats.QueueDepth != 5 || stats.ActiveLocks != 1 {
			t.Errorf("%+v, %v", stats, err)
		}
		if _, err := locker.Unlock(key); err != nil {
			t.Fatal(err)
		}
		group.Wait()
		if !slices.Equal(order, []int{6, 5, 3, 4, 2}) {
			t.Errorf("the order was %v", order)
		}
		stats, err = locker.GetEnhancedStats(t.Context())
		if err != nil || stats.QueueDepth != 0 || stats.ActiveLocks != 0 || stats.AverageWaitTime <= 0 {
			t.Errorf("in the end %+v, %v", stats, err)
		}
	})
}

func TestEnhancedTimeoutLeavesNoPlace(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		locker := database.Enhanced()
		hold(t, locker, 1)
		lock, err := locker.LockWithTimeout(of(t, 2), project, workspace, user, 50*time.Millisecond)
		var waiting *atlock.Waiting
		if lock != nil || !errors.Is(err, atlock.ErrTimeout) || !errors.As(err, &waiting) {
			t.Fatalf("%+v, %v", lock, err)
		}
		if waiting.Position != 1 || len(waiting.Ahead) != 0 || waiting.Holder.Pull.Num != 1 || time.Since(waiting.Since) > patience {
			t.Errorf("%+v", waiting)
		}
		hasNoPlace(t, locker, 2)
	})
}

func hasNoPlace(t *testing.T, locker atlock.EnhancedLocker, num int) {
	t.Helper()
	if position, err := locker.GetQueuePosition(of(t, num), project, workspace); !errors.Is(err, atlock.ErrNotQueued) {
		t.Errorf("pull %d has the place %d, %v", num, position, err)
	}
	if stats, err := locker.GetEnhancedStats(t.Context()); err != nil || stats.QueueDepth != 0 {
		t.Errorf("%+v, %v", stats, err)
	}
}

func TestEnhancedContextsAreHonoured(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		locker := database.Enhanced()
		hold(t, locker, 1)

		ctx, cancel := context.WithCancel(of(t, 2))
		ended := make(chan error)
		go func() {
			_, err := locker.LockWithPriority(ctx, project, workspace, user, atlock.PriorityHigh)
			ended <- err
		}()
		positionIs(t, locker, 2, 1)
		cancel()
		err := <-ended
		var waiting *atlock.Waiting
		if !errors.Is(err, context.Canceled) || !errors.As(err, &waiting) || waiting.Holder.Pull.Num != 1 {
			t.Errorf("%v", err)
		}
		hasNoPlace(t, locker, 2)

		short, stop := context.WithTimeout(of(t, 3), 50*time.Millisecond)
		defer stop()
		_, err = locker.LockWithTimeout(short, project, workspace, user, time.Hour)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &waiting) {
			t.Errorf("%v", err)
		}
		hasNoPlace(t, locker, 3)

		if _, err := locker.LockWithTimeout(ctx, project, workspace, user, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("done before it began: %v", err)
		}
		if _, err := locker.Unlock(key); err != nil {
			t.Fatal(err)
		}
		if _, err := locker.LockWithTimeout(ctx, project, workspace, user, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("done before it began, and the lock is free: %v", err)
		}
		if lock, err := locker.GetLock(key); lock != nil || err != nil {
			t.Errorf("%+v, %v", lock, err)
		}
	})
}

func TestEnhancedWithoutAPullNothingIsLocked(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		locker := database.Enhanced()
		for _, ctx := range []context.Context{t.Context(), of(t, 0), of(t, -5)} {
			if _, err := locker.LockWithPriority(ctx, project, workspace, user, atlock.PriorityHigh); !errors.Is(err, atlock.ErrNoPull) {
				t.Errorf("%v", err)
			}
			if _, err := locker.LockWithTimeout(ctx, project, workspace, user, time.Minute); !errors.Is(err, atlock.ErrNoPull) {
				t.Errorf("%v", err)
			}
		}
		if locks, err := locker.List(); err != nil || len(locks) != 0 {
			t.Errorf("%v, %v", locks, err)
		}
		if place, err := locker.GetQueuePosition(t.Context(), project, workspace); place != 0 || err != nil {
			t.Errorf("a free lock: %d, %v", place, err)
		}
	})
}

func TestEnhancedOwnLockIsReturnedAtOnce(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		locker := database.Enhanced()
		first, err := locker.LockWithTimeout(of(t, 1), project, workspace, user, time.Minute)
		must(t, err)
		second, err := locker.LockWithPriority(of(t, 1), project, workspace, models.User{Username: "bob"}, atlock.PriorityLow)
		if err != nil || second.User.Username != "ada" || !second.Time.Equal(first.Time) || second.Project != project || second.Workspace != workspace {
			t.Errorf("%+v after %+v, %v", second, first, err)
		}
		stored, err := locker.GetLock(key)
		if err != nil || stored == nil || stored.Pull.Num != 1 || !stored.Time.Equal(first.Time) {
			t.Errorf("%+v, %v", stored, err)
		}
	})
}

func TestEnhancedBadInputIsRefused(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		locker := database.Enhanced()
		for _, priority := range []atlock.Priority{-1, 4, 1 << 40} {
			_, err := locker.LockWithPriority(of(t, 1), project, workspace, user, priority)
			if !errors.Is(err, atlock.ErrInvalidArgument) || !strings.Contains(err.Error(), "is none: give 0 (low)") {
				t.Errorf("%d: %v", priority, err)
			}
		}
		for timeout, part := range map[time.Duration]string{
			-1:            "is negative",
			-time.Hour:    "is negative",
			3 * time.Hour: "over the 2h that locking.enhanced.timeouts.max allows",
		} {
			_, err := locker.LockWithTimeout(of(t, 1), project, workspace, user, timeout)
			if !errors.Is(err, atlock.ErrInvalidArgument) || !strings.Contains(err.Error(), part) {
				t.Errorf("%v: %v", timeout, err)
			}
		}
		if locks, err := locker.List(); err != nil || len(locks) != 0 {
			t.Errorf("%v, %v", locks, err)
		}
	})
}

func TestEnhancedStatsAreCounted(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		locker, before := database.Enhanced(), time.Now()
		hold(t, locker, 1)
		if response, err := locker.TryLock(project, workspace, pullRequest(2), user); err != nil || response.LockAcquired {
			t.Fatalf("%+v, %v", response, err)
		}
		time.Sleep(5 * time.Millisecond)
		if _, err := locker.UnlockByPull("acme/infra", 1); err != nil {
			t.Fatal(err)
		}
		hold(t, locker, 3)
		stats, err := locker.GetEnhancedStats(t.Context())
		must(t, err)
		if stats.ActiveLocks != 1 || stats.TotalRequests != 3 || stats.SuccessfulAcquires != 2 || stats.FailedAcquires != 1 {
			t.Errorf("%+v", stats)
		}
		if stats.AverageHoldTime < 5*time.Millisecond || stats.HealthScore != 100 || stats.LastUpdated.Before(before.Truncate(time.Millisecond)) {
			t.Errorf("%+v", stats)
		}
	})
}

// A wait that ends leaves no goroutine behind, however it ends.
func TestEnhancedWaitsLeaveNoGoroutine(t *testing.T) {
	database, err := atlock.Open(settingsWithQueue(t))
	must(t, err)
	defer closed(t, database)
	locker := database.Enhanced()
	hold(t, locker, 1)
	before := runtime.NumGoroutine()
	var group sync.WaitGroup
	for num := 2; num < 42; num++ {
		ctx, cancel := context.WithTimeout(of(t, num), time.Duration(num)*time.Millisecond)
		group.Go(func() {
			defer cancel()
			if _, err := locker.LockWithTimeout(ctx, project, workspace, user, 25*time.Millisecond); err == nil {
				t.Errorf("pull %d has the lock", num)
			}
		})
	}
	group.Wait()
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	hasNoPlace(t, locker, 2)
}

func settingsWithQueue(t *testing.T) atlock.Config {
	t.Helper()
	config := settings("sled", "strict", t.TempDir(), "")
	config.Locking.Enhanced.PriorityQueue.Enabled = true
	return config
}

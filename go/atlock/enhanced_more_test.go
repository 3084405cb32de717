package atlock_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

func named(path string) atlock.ProjectWorkspace {
	return atlock.ProjectWorkspace{Project: models.Project{RepoFullName: "acme/infra", Path: path}, Workspace: workspace}
}

// The token of a grant is larger than those before it, and says whether that grant still stands.
func TestEnhancedTokensAreChecked(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		one, two := database.For(pullRequest(1)), database.For(pullRequest(2))
		first, err := one.Lock(t.Context(), project, workspace, user, atlock.PriorityNormal, 0)
		if err != nil || first.Token == atlock.NoToken || first.Lock.Pull.Num != 1 {
			t.Fatalf("%+v, %v", first, err)
		}
		again, err := one.Lock(t.Context(), project, workspace, user, atlock.PriorityNormal, 0)
		if err != nil || again.Token != first.Token {
			t.Errorf("%+v, %v", again, err)
		}
		holds := func(locker atlock.PullLocker, token atlock.FencingToken, want bool, holder int) {
			t.Helper()
			checked, err := locker.Check(project, workspace, token)
			if err != nil || checked.Holds != want || (holder > 0 && (checked.Holder == nil || checked.Holder.Num != holder)) {
				t.Errorf("%+v, %v", checked, err)
			}
		}
		holds(one, first.Token, true, 1)
		holds(one, atlock.NoToken, true, 1)
		holds(one, first.Token+1, false, 1)
		holds(two, first.Token, false, 1)
		if _, err := one.Unlock(key); err != nil {
			t.Fatal(err)
		}
		holds(one, first.Token, false, 0)
		second, err := two.Lock(t.Context(), project, workspace, user, atlock.PriorityNormal, 0)
		if err != nil || second.Token <= first.Token {
			t.Errorf("%+v after %+v, %v", second, first, err)
		}
		holds(one, first.Token, false, 2)
		holds(two, second.Token, true, 2)
	})
}

// A plan gives its locks up and takes them again: nobody gets one in between (L8). What it does not take again is free at its end.
func TestEnhancedARunKeepsItsLocks(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		one, two, rest := database.For(pullRequest(1)), database.For(pullRequest(2)), named("rest")
		for _, lock := range []atlock.ProjectWorkspace{{Project: project, Workspace: workspace}, rest} {
			_, err := one.Lock(t.Context(), lock.Project, lock.Workspace, user, atlock.PriorityNormal, 0)
			must(t, err)
		}
		waits, err := two.Begin(atlock.RunPlan)
		must(t, err)
		grant, err := waits.TryLock(project, workspace, user)
		if err != nil || grant.Acquired || grant.Lock.Pull.Num != 1 || grant.Waiting == nil || grant.Waiting.Position != 1 || grant.Waiting.Why != "held" {
			t.Fatalf("%+v, %v", grant, err)
		}
		ended, err := waits.End()
		if err != nil || len(ended.Released) != 0 || ended.Waiting[key].Position != 1 {
			t.Errorf("%+v, %v", ended, err)
		}

		for name, giveUp := range map[string]func() error{
			"UnlockIfOwnedByPull": func() error {
				_, err := one.UnlockIfOwnedByPull(project, workspace, 1)
				return err
			},
			"UnlockByPull": func() error {
				_, err := one.UnlockByPull("acme/infra", 1)
				return err
			},
		} {
			run, err := one.Begin(atlock.RunPlan)
			must(t, err)
			must(t, giveUp())
			if _, err := two.LockWithTimeout(t.Context(), project, workspace, user, 20*time.Millisecond); !errors.Is(err, atlock.ErrTimeout) {
				t.Errorf("%s: within the run: %v", name, err)
			}
			for _, lock := range []atlock.ProjectWorkspace{{Project: project, Workspace: workspace}, rest} {
				if grant, err := run.TryLock(lock.Project, lock.Workspace, user); err != nil || !grant.Acquired || grant.Token == atlock.NoToken {
					t.Errorf("%s: %+v, %v", name, grant, err)
				}
			}
			if ended, err := run.End(); err != nil || len(ended.Released) != 0 {
				t.Errorf("%s: %+v, %v", name, ended, err)
			}
		}
		if place, err := two.GetQueuePosition(t.Context(), project, workspace); err != nil || place != 1 {
			t.Errorf("the place of Atlantis's own was lost to a caller's: %d, %v", place, err)
		}

		run, err := one.Begin(atlock.RunPlan)
		must(t, err)
		_, err = one.UnlockByPull("acme/infra", 1)
		must(t, err)
		_, err = run.TryLock(rest.Project, workspace, user)
		must(t, err)
		ended, err = run.End()
		if err != nil || !slices.Equal(ended.Released, []string{key}) {
			t.Errorf("%+v, %v", ended, err)
		}
		if _, err := run.End(); !errors.Is(err, atlock.ErrInvalidArgument) {
			t.Errorf("ended twice: %v", err)
		}
		if response, err := database.Enhanced().TryLock(project, workspace, pullRequest(3), user); err != nil || response.LockAcquired || response.CurrLock.Pull.Num != 2 {
			t.Errorf("the lock is kept for pull 2: %+v, %v", response, err)
		}
		hold(t, database.Enhanced(), 2)
	})
}

// A set is taken whole or not at all, and waits for its last lock.
func TestEnhancedASetIsTakenWhole(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		one, two := database.For(pullRequest(1)), database.For(pullRequest(2))
		set := []atlock.ProjectWorkspace{named("a"), {Project: project, Workspace: workspace}, named("z")}
		hold(t, database.Enhanced(), 1)
		_, err := two.LockSet(t.Context(), user, atlock.PriorityNormal, 30*time.Millisecond, set...)
		var waiting *atlock.Waiting
		if !errors.Is(err, atlock.ErrTimeout) || !errors.As(err, &waiting) {
			t.Fatal(err)
		}
		if waiting.Why != "set" || waiting.Holder.Pull.Num != 1 || waiting.Blocker == nil || waiting.Blocker.Key != key {
			t.Errorf("%+v", waiting)
		}
		hasNoPlace(t, database.Enhanced(), 2)
		if locks, err := database.List(); err != nil || len(locks) != 1 {
			t.Fatalf("%+v, %v", locks, err)
		}

		taken := make(chan []atlock.Held)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		go func() {
			held, err := two.LockSet(ctx, user, atlock.PriorityNormal, 0, set...)
			if err != nil {
				t.Error(err)
			}
			taken <- held
		}()
		positionIs(t, database.Enhanced(), 2, 1)
		if locks, err := database.List(); err != nil || len(locks) != 1 {
			t.Errorf("while it waits: %+v, %v", locks, err)
		}
		_, err = one.Unlock(key)
		must(t, err)
		held := <-taken
		if len(held) != 3 {
			t.Fatalf("%+v", held)
		}
		for i, path := range []string{"a", "network", "z"} {
			if held[i].Lock.Project.Path != path || held[i].Token == atlock.NoToken || held[i].Lock.Pull.Num != 2 {
				t.Errorf("%+v", held[i])
			}
		}
		again, err := two.LockSet(t.Context(), user, atlock.PriorityNormal, 0, set...)
		if err != nil || len(again) != 3 || again[1].Token != held[1].Token {
			t.Errorf("%+v, %v", again, err)
		}
		if queues, err := database.Queues(""); err != nil || len(queues) != 0 {
			t.Errorf("%+v, %v", queues, err)
		}
	})
}

func TestEnhancedASetThatCannotBeIsRefused(t *testing.T) {
	database, err := atlock.Open(settingsWithQueue(t))
	must(t, err)
	defer closed(t, database)
	one, other := database.For(pullRequest(1)), named("b")
	other.Project.RepoFullName = "acme/web"
	many := make([]atlock.ProjectWorkspace, 501)
	for i := range many {
		many[i] = named(time.Duration(i).String())
	}
	for name, set := range map[string]struct {
		locks []atlock.ProjectWorkspace
		is    error
	}{
		"empty":            {nil, atlock.ErrInvalidArgument},
		"twice":            {[]atlock.ProjectWorkspace{named("a"), named("a")}, atlock.ErrInvalidArgument},
		"two repositories": {[]atlock.ProjectWorkspace{named("a"), other}, atlock.ErrInvalidArgument},
		"501":              {many, atlock.ErrTooLarge},
	} {
		if _, err := one.LockSet(t.Context(), user, atlock.PriorityNormal, 0, set.locks...); !errors.Is(err, set.is) {
			t.Errorf("%s: %v", name, err)
		}
		run, err := one.Begin(atlock.RunPlan)
		must(t, err)
		if err := run.Declare(user, set.locks...); len(set.locks) > 0 && !errors.Is(err, set.is) {
			t.Errorf("%s, declared: %v", name, err)
		}
		_, err = run.End()
		must(t, err)
	}
	if locks, err := database.List(); err != nil || len(locks) != 0 {
		t.Errorf("%+v, %v", locks, err)
	}
	if _, err := database.For(pullRequest(0)).Begin(atlock.RunPlan); !errors.Is(err, atlock.ErrNoPull) {
		t.Error(err)
	}
	if _, err := one.Begin("deploy"); !errors.Is(err, atlock.ErrInvalidJSON) {
		t.Error(err)
	}
}

// Who is taken out of the queue is told so, and who waits can be seen.
func TestEnhancedWhoLeavesIsTold(t *testing.T) {
	everyQueue(t, func(t *testing.T, database *atlock.Database) {
		two := database.For(pullRequest(2))
		hold(t, database.Enhanced(), 1)
		ended := make(chan error)
		go func() {
			_, err := two.LockWithPriority(t.Context(), project, workspace, user, atlock.PriorityHigh)
			ended <- err
		}()
		positionIs(t, database.Enhanced(), 2, 1)
		queues, err := database.Queues("acme/infra")
		if err != nil || len(queues["acme/infra"]) != 1 {
			t.Fatalf("%+v, %v", queues, err)
		}
		queued := queues["acme/infra"][0]
		if queued.Pull.Num != 2 || queued.User != "ada" || queued.Priority != atlock.PriorityHigh || queued.Keys[key].Position != 1 || queued.Keys[key].ReservedUntil != nil {
			t.Errorf("%+v", queued)
		}
		if left, err := two.Leave(atlock.ProjectWorkspace{Project: project, Workspace: workspace}); left != 1 || err != nil {
			t.Errorf("%d, %v", left, err)
		}
		var waiting *atlock.Waiting
		if err := <-ended; !errors.Is(err, atlock.ErrNotQueued) || !errors.As(err, &waiting) {
			t.Error(err)
		}
		if left, err := two.Leave(); left != 0 || err != nil {
			t.Errorf("%d, %v", left, err)
		}
	})
}

// One pull request waits by two callers: the first who gives up takes no place of the other, and both have the lock in the end.
func TestEnhancedTwoCallersOfAPull(t *testing.T) {
	database, err := atlock.Open(settingsWithQueue(t))
	must(t, err)
	defer closed(t, database)
	two := database.For(pullRequest(2))
	hold(t, database.Enhanced(), 1)
	ended := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := two.LockWithTimeout(t.Context(), project, workspace, user, patience)
			ended <- err
		}()
	}
	positionIs(t, database.Enhanced(), 2, 1)
	if _, err := two.LockWithTimeout(t.Context(), project, workspace, user, 50*time.Millisecond); !errors.Is(err, atlock.ErrTimeout) {
		t.Error(err)
	}
	if place, err := two.GetQueuePosition(t.Context(), project, workspace); place != 1 || err != nil {
		t.Errorf("%d, %v", place, err)
	}
	// With somebody behind it the queue is not empty, nor lost, when the first has the lock.
	behind, err := database.For(pullRequest(3)).Begin(atlock.RunPlan)
	must(t, err)
	_, err = behind.TryLock(project, workspace, user)
	must(t, err)
	_, err = database.Enhanced().Unlock(key)
	must(t, err)
	for range 2 {
		must(t, <-ended)
	}
}

// Who waits has the lock, too, if its pull request takes it at another server, and others wait behind.
func TestEnhancedTheLockCameByAnotherServer(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	open := func() *atlock.Database {
		config := settings("sled", "native", t.TempDir(), redis.Addr)
		config.Locking.Enhanced.PriorityQueue.Enabled = true
		database, err := atlock.Open(config)
		must(t, err)
		return database
	}
	here, there := open(), open()
	defer closed(t, here)
	defer closed(t, there)
	hold(t, there.Enhanced(), 1)
	ended := make(chan error)
	go func() {
		lock, err := here.Enhanced().LockWithTimeout(of(t, 2), project, workspace, user, patience)
		if err == nil && lock.Pull.Num != 2 {
			t.Errorf("%+v", lock)
		}
		ended <- err
	}()
	positionIs(t, there.Enhanced(), 2, 1)
	behind, err := there.For(pullRequest(3)).Begin(atlock.RunPlan)
	must(t, err)
	_, err = behind.TryLock(project, workspace, user)
	must(t, err)
	release(t, there, "network")
	// Here it may have been seen already that the lock is free.
	response, err := there.Enhanced().TryLock(project, workspace, pullRequest(2), user)
	if err != nil || response.CurrLock.Pull.Num != 2 {
		t.Errorf("%+v, %v", response, err)
	}
	must(t, <-ended)
}

// More wait than calls may be under way at once: they keep nobody out who releases.
func TestEnhancedWhoWaitsKeepsNobodyOut(t *testing.T) {
	database, err := atlock.Open(settingsWithQueue(t))
	must(t, err)
	defer closed(t, database)
	locker := database.Enhanced()
	hold(t, locker, 1)
	const callers = 60
	ended := make(chan error, callers)
	for num := 2; num < 2+callers; num++ {
		ctx := of(t, num)
		go func() {
			_, err := locker.LockWithPriority(ctx, project, workspace, user, atlock.PriorityNormal)
			if err == nil {
				_, err = locker.Unlock(key)
			}
			ended <- err
		}()
	}
	eventually(t, "all wait", func() bool {
		place, err := locker.GetQueuePosition(t.Context(), project, workspace)
		return err == nil && place == callers+1
	})
	release(t, database, "network")
	for range callers {
		must(t, <-ended)
	}
}

// Without a queue the library asks again and again, and so does Atlantis's own store, called directly.
func TestEnhancedWithoutAQueueWaitsAllTheSame(t *testing.T) {
	for name, open := range map[string]func() (*atlock.Database, error){
		"sled":   func() (*atlock.Database, error) { return atlock.Open(settings("sled", "strict", t.TempDir(), "")) },
		"boltdb": func() (*atlock.Database, error) { return atlock.Open(atlock.Config{}, atlock.WithBoltDB(t.TempDir())) },
		"host":   func() (*atlock.Database, error) { return atlock.OpenOverBoltDB(t.TempDir()) },
	} {
		t.Run(name, func(t *testing.T) {
			database, err := open()
			must(t, err)
			defer closed(t, database)
			locker := database.Enhanced()
			hold(t, locker, 1)
			_, err = locker.LockWithTimeout(of(t, 2), project, workspace, user, 30*time.Millisecond)
			var waiting *atlock.Waiting
			if !errors.Is(err, atlock.ErrTimeout) || !errors.As(err, &waiting) || waiting.Holder.Pull.Num != 1 || waiting.Position != 0 {
				t.Errorf("%v", err)
			}
			ctx, cancel := context.WithTimeout(of(t, 2), 30*time.Millisecond)
			defer cancel()
			if _, err = locker.LockWithPriority(ctx, project, workspace, user, atlock.PriorityLow); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &waiting) {
				t.Errorf("%v", err)
			}
			if _, err := locker.LockWithTimeout(of(t, 2), project, workspace, user, 3*time.Hour); !errors.Is(err, atlock.ErrInvalidArgument) {
				t.Errorf("%v", err)
			}
			if place, err := locker.GetQueuePosition(of(t, 1), project, workspace); place != 0 || err != nil {
				t.Errorf("the holder: %d, %v", place, err)
			}
			for _, ctx := range []context.Context{of(t, 2), t.Context()} {
				if _, err := locker.GetQueuePosition(ctx, project, workspace); !errors.Is(err, atlock.ErrQueueDisabled) {
					t.Errorf("%v", err)
				}
			}
			taken := make(chan error)
			go func() {
				lock, err := locker.LockWithPriority(of(t, 2), project, workspace, user, atlock.PriorityLow)
				if err == nil && lock.Pull.Num != 2 {
					t.Errorf("%+v", lock)
				}
				taken <- err
			}()
			time.Sleep(20 * time.Millisecond)
			release(t, database, "network")
			must(t, <-taken)
			own, err := locker.LockWithTimeout(of(t, 2), project, workspace, user, time.Minute)
			if err != nil || own.Pull.Num != 2 {
				t.Errorf("%+v, %v", own, err)
			}
			stats, err := locker.GetEnhancedStats(t.Context())
			if err != nil || stats.ActiveLocks != 1 || stats.SuccessfulAcquires < 2 || stats.FailedAcquires < 2 || stats.HealthScore != 100 || stats.AverageWaitTime <= 0 {
				t.Errorf("%+v, %v", stats, err)
			}
			two := database.For(pullRequest(2))
			_, setErr := two.LockSet(t.Context(), user, atlock.PriorityNormal, 0, named("a"))
			_, runErr := two.Begin(atlock.RunPlan)
			_, leaveErr := two.Leave()
			_, queuesErr := database.Queues("")
			for _, err := range []error{setErr, runErr, leaveErr, queuesErr} {
				if !errors.Is(err, atlock.ErrQueueDisabled) {
					t.Error(err)
				}
			}
			if checked, err := two.Check(project, workspace, atlock.NoToken); err != nil || !checked.Holds {
				t.Errorf("%+v, %v", checked, err)
			}
		})
	}
}

// Atlantis's own file has no queue: what a stock server does with the file meanwhile says nothing of who waits.
func TestEnhancedPlacesOutliveAStockServerOnTheFile(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	files := t.TempDir()
	config := settings("boltdb", "hybrid", t.TempDir(), redis.Addr)
	config.Locking.Enhanced.PriorityQueue.Enabled = true
	open := func() *atlock.Database {
		database, err := atlock.Open(config, atlock.WithBoltDB(files))
		must(t, err)
		return database
	}
	database := open()
	hold(t, database.Enhanced(), 1)
	run, err := database.For(pullRequest(2)).Begin(atlock.RunPlan)
	must(t, err)
	_, err = run.TryLock(project, workspace, user)
	must(t, err)
	_, err = run.End()
	must(t, err)
	closed(t, database)

	stock, err := boltdb.New(files)
	must(t, err)
	take(t, stock, "other", 9)
	must(t, stock.Close())
	redis.Kill() // and Redis, which has no copy of its own, lost everything
	redis.Restart(t)

	database = open()
	defer closed(t, database)
	positionIs(t, database.Enhanced(), 2, 1)
	release(t, database, "network")
	if response, err := database.Enhanced().TryLock(project, workspace, pullRequest(3), user); err != nil || response.LockAcquired || response.CurrLock.Pull.Num != 2 {
		t.Errorf("%+v, %v", response, err)
	}
}

func TestEnhancedPlacesOfTheLocalStoreAreStale(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	config := settings("sled", "hybrid", t.TempDir(), redis.Addr)
	config.Locking.Enhanced.PriorityQueue.Enabled = true
	database, err := atlock.Open(config)
	must(t, err)
	defer closed(t, database)
	hold(t, database.Enhanced(), 1)
	isStale := func() bool {
		t.Helper()
		_, err := database.Enhanced().LockWithTimeout(of(t, 2), project, workspace, user, 50*time.Millisecond)
		var waiting *atlock.Waiting
		if !errors.As(err, &waiting) || waiting.Position != 1 {
			t.Fatalf("%+v, %v", waiting, err)
		}
		return waiting.Stale
	}
	if isStale() {
		t.Error("Redis told the place")
	}
	redis.Kill()
	eventually(t, "the local store decides", func() bool {
		_, err := database.List() // a question that Redis does not answer
		status, statusErr := database.Status()
		return err == nil && statusErr == nil && status.FallbackActive
	})
	if !isStale() {
		t.Error("the local store told the place")
	}
}

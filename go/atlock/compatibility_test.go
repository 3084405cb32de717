package atlock_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// What Atlantis counts on, for each store that may be behind its locking.Client, stock's own first. It is short, to be read and
// to be run against a Redis of one's own, where it takes and removes locks of a random owner's repositories alone:
//
//	ATLOCK_TEST_REDIS=host:port go test ./atlock -run TestBackwardCompatibility -v
//
// Without the variable it starts a private redis-server. All that is promised, and where stock falls short, is in go/conformance.
func TestBackwardCompatibility(t *testing.T) {
	redis := os.Getenv(redisVariable)
	if redis == "" {
		redis = redistest.Start(t, redistest.Options{}).Addr
	}
	t.Cleanup(func() { leavesNothing(t, redis) })
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			t.Run("BasicLockUnlock", func(t *testing.T) { basicLockUnlock(start(t, s, redis)) })
			t.Run("ConcurrentAccess", func(t *testing.T) { concurrentAccess(start(t, s, redis)) })
			t.Run("UnlockByPull", func(t *testing.T) { unlockByPull(start(t, s, redis)) })
			t.Run("ListConsistency", func(t *testing.T) { listConsistency(start(t, s, redis)) })
			t.Run("FallbackBehavior", func(t *testing.T) { s.withoutRedis(t, s) })
		})
	}
}

const redisVariable = "ATLOCK_TEST_REDIS"

// store is a place for locks. It may use a folder and a Redis; withoutRedis is what must hold when that Redis is away.
type store struct {
	name         string
	open         func(folder, redis string) (db.Database, error)
	withoutRedis func(*testing.T, store)
}

var stores = []store{
	{"stock-boltdb", openStock, nothingChanges},
	{"strict-boltdb", openStrictBoltDB, nothingChanges},
	{"strict-sled", configured("sled", "strict"), nothingChanges},
	{"native", configured("sled", "native"), failsClosed},
	{"hybrid-sled", configured("sled", "hybrid"), standsIn},
}

func openStock(folder, _ string) (db.Database, error) { return boltdb.New(folder) }

func openStrictBoltDB(folder, redis string) (db.Database, error) {
	stock, err := openStock(folder, redis)
	if err != nil {
		return nil, err
	}
	return atlock.Open(settings("boltdb", "strict", "", redis), atlock.WithLegacy(stock))
}

func configured(backend, mode string) func(folder, redis string) (db.Database, error) {
	return func(folder, redis string) (db.Database, error) {
		return atlock.Open(settings(backend, mode, folder, redis))
	}
}

func settings(backend, mode, folder, redis string) atlock.Config {
	return atlock.Config{Locking: atlock.Locking{
		Backend:  atlock.BackendKind(backend),
		DataDir:  folder,
		Enhanced: atlock.Enhanced{Enabled: true, CompatibilityMode: atlock.Mode(mode), Redis: atlock.Redis{Address: redis}},
	}}
}

func basicLockUnlock(a *atlantis) {
	network := a.lock("network")
	a.takes(network, 1)
	a.isRefused(network, 2, 1)
	a.isRefused(network, 1, 1) // the holder, too: who has the lock is for Atlantis to compare
	a.holds(network, 1)
	a.releases(network, 1)
	a.isFree(network)
	a.takes(network, 2)

	if released, err := a.UnlockIfOwnedByPull(network.project, network.workspace, 1); released != nil || err != nil {
		a.t.Errorf("pull 1 released the lock of pull 2: %v, %v", released, err)
	}
	a.holds(network, 2)
	if released, err := a.UnlockIfOwnedByPull(network.project, network.workspace, 2); err != nil || released == nil {
		a.t.Errorf("pull 2 did not release its own lock: %v", err)
	}
	a.isFree(network)
}

func concurrentAccess(a *atlantis) {
	const pulls, rounds = 32, 20
	for round := range rounds {
		network := a.lock(fmt.Sprintf("network%d", round))
		var answers [pulls]locking.TryLockResponse
		var errs [pulls]error
		var racing sync.WaitGroup
		begin := make(chan struct{})
		for i := range pulls {
			racing.Go(func() {
				<-begin
				answers[i], errs[i] = a.tryLock(network, i+1)
			})
		}
		close(begin)
		racing.Wait()

		if err := errors.Join(errs[:]...); err != nil {
			a.t.Fatal(err)
		}
		var winners []int
		for i, answer := range answers {
			if answer.LockAcquired {
				winners = append(winners, i+1)
			}
		}
		if len(winners) != 1 {
			a.t.Fatalf("round %d: the lock was granted to pulls %v, want exactly one", round, winners)
		}
		for i, answer := range answers {
			if got := answer.CurrLock.Pull.Num; got != winners[0] {
				a.t.Errorf("round %d: pull %d was told that pull %d has the lock; pull %d has it", round, i+1, got, winners[0])
			}
		}
		a.releases(network, winners[0])
	}
}

func unlockByPull(a *atlantis) {
	network, staging, cluster, foreign := a.lock("network"), a.lock("network"), a.lock("cluster"), a.lock("network")
	staging.workspace = "staging"
	foreign.project.RepoFullName = owner + "/other"
	a.takes(network, 1)
	a.takes(staging, 1)
	a.takes(cluster, 2)
	a.takes(foreign, 1)

	released, err := a.UnlockByPull(network.project.RepoFullName, 1)
	if err != nil {
		a.t.Fatal(err)
	}
	got := map[string]int{}
	for _, lock := range released {
		got[models.GenerateLockKey(lock.Project, lock.Workspace)] = lock.Pull.Num
	}
	if want := map[string]int{network.key(): 1, staging.key(): 1}; !maps.Equal(got, want) {
		a.t.Errorf("released %v, want %v", got, want)
	}
	a.lists(map[string]int{cluster.key(): 2, foreign.key(): 1})
	if again, err := a.UnlockByPull(network.project.RepoFullName, 1); len(again) != 0 || err != nil {
		a.t.Errorf("released again: %v, %v", again, err)
	}
}

func listConsistency(a *atlantis) {
	want := map[string]int{}
	for i := range 20 {
		stack := a.lock(fmt.Sprintf("stacks/%d", i))
		a.takes(stack, i+1)
		want[stack.key()] = i + 1
	}
	a.lists(want)
	for i := 0; i < 20; i += 2 {
		stack := a.lock(fmt.Sprintf("stacks/%d", i))
		a.releases(stack, i+1)
		delete(want, stack.key())
		a.isRefused(a.lock(fmt.Sprintf("stacks/%d", i+1)), 99, i+2) // a refusal adds nothing
	}
	a.lists(want)
	a.restarts()
	a.lists(want)
}

// nothingChanges is for stores that do not use Redis: they work as ever with a Redis in their settings that is not there.
func nothingChanges(t *testing.T, s store) {
	const nobody = "127.0.0.1:1"
	a := start(t, s, nobody)
	network := a.lock("network")
	a.takes(network, 1)
	a.restarts()
	a.isRefused(network, 2, 1)
	a.lists(map[string]int{network.key(): 1})
	a.releases(network, 1)
	a.takes(network, 2)
}

// failsClosed is for stores that have nothing but Redis: while it is away, each call fails in time and says why, and nothing is
// granted; when it is back with its data, so are the locks.
func failsClosed(t *testing.T, s store) {
	redis := ownRedis(t)
	a := start(t, s, redis.Addr)
	held, free := a.lock("held"), a.lock("free")
	a.takes(held, 1)

	// A change may be sent before it is known that the server died: then nobody knows whether it was made.
	looks, changes := []error{atlock.ErrUnreachable}, []error{atlock.ErrUnreachable, atlock.ErrOutcomeUnknown}
	const operationTimeout, slack = time.Second, 10 * time.Second // the default of redis.timeouts.operation; a busy machine
	redis.Kill()
	for _, call := range []struct {
		name  string
		wants []error
		make  func() error
	}{
		{"TryLock", changes, func() error { _, err := a.tryLock(free, 2); return err }},
		{"Unlock", changes, func() error { _, err := a.Unlock(held.key()); return err }},
		{"UnlockByPull", changes, func() error { _, err := a.UnlockByPull(held.project.RepoFullName, 1); return err }},
		{"GetLock", looks, func() error { _, err := a.GetLock(held.key()); return err }},
		{"List", looks, func() error { _, err := a.List(); return err }},
		{"Ping", looks, a.database.Ping},
	} {
		began := time.Now()
		err := call.make()
		if !slices.ContainsFunc(call.wants, func(want error) bool { return errors.Is(err, want) }) || !strings.Contains(err.Error(), redis.Addr) {
			t.Errorf("%s: %v; want that %s cannot be reached", call.name, err, redis.Addr)
		}
		if took := time.Since(began); took > operationTimeout+slack {
			t.Errorf("%s took %v", call.name, took)
		}
	}

	redis.Restart(t)
	a.lists(map[string]int{held.key(): 1})
	a.isRefused(held, 2, 1)
	a.releases(held, 1)
	a.takes(held, 2)
}

// standsIn is for stores that have another beside Redis: while that is away, all goes on; when it is back, it learns what was done.
func standsIn(t *testing.T, s store) {
	redis := ownRedis(t)
	a := start(t, s, redis.Addr)
	kept, given, fresh := a.lock("kept"), a.lock("given"), a.lock("fresh")
	a.takes(kept, 1)
	a.takes(given, 1)
	end := a.contends(a.lock("contended"))

	redis.Kill()
	a.isRefused(kept, 2, 1)
	a.takes(fresh, 2)
	a.isRefused(fresh, 1, 2)
	a.holds(fresh, 2)
	a.releases(given, 1)
	a.takes(given, 3)
	want := map[string]int{kept.key(): 1, given.key(): 3, fresh.key(): 2}
	if status := a.status(); !status.FallbackActive || status.FallbackOps == 0 || status.CircuitState == "closed" || status.Cause == "" {
		t.Errorf("while Redis is away: %+v", status)
	}

	redis.Restart(t)
	a.isRefused(given, 4, 3) // before Redis knows of it
	for deadline := time.Now().Add(10 * time.Second); a.status().FallbackActive; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Redis is back and does not decide: %+v", a.status())
		}
	}
	if status := a.status(); status.CircuitState != "closed" || len(status.Conflicts) != 0 || status.JournalLength != 0 || status.LastRecovery == nil {
		t.Errorf("after the recovery: %+v", status)
	}
	end()
	a.lists(want)
	other := start(t, store{open: configured("sled", "native")}, redis.Addr)
	other.lists(want)
	for _, lock := range []lock{kept, given, fresh} {
		other.isRefused(lock, 4, want[lock.key()])
		a.isRefused(lock, 4, want[lock.key()])
	}
}

// contends lets pulls take and release a lock, each when no other has it, until the returned function is called.
func (a *atlantis) contends(l lock) (end func()) {
	const pulls, hold = 4, time.Millisecond
	var holders, held atomic.Int32
	var running sync.WaitGroup
	stop := make(chan struct{})
	for pull := 1; pull <= pulls; pull++ {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(hold):
				}
				answer, err := a.tryLock(l, pull)
				if err == nil && answer.LockAcquired {
					if now := holders.Add(1); now != 1 {
						a.t.Errorf("%d pulls hold the lock at once", now)
					}
					held.Add(1)
					time.Sleep(hold)
					holders.Add(-1)
					_, err = a.UnlockIfOwnedByPull(l.project, l.workspace, pull)
				}
				if err != nil {
					a.t.Errorf("pull %d: %v", pull, err)
				}
			}
		})
	}
	end = sync.OnceFunc(func() {
		close(stop)
		running.Wait()
		if held.Load() == 0 {
			a.t.Error("nobody ever held the contended lock")
		}
	})
	a.t.Cleanup(end)
	return end
}

// ownRedis is a Redis that a test may stop, and that keeps what it acknowledged.
func ownRedis(t *testing.T) *redistest.Server {
	t.Helper()
	if own := os.Getenv(redisVariable); own != "" {
		t.Skipf("%s is not this test's to stop: unset %s", own, redisVariable)
	}
	return redistest.Start(t, redistest.Options{AppendOnly: true})
}

func (a *atlantis) status() atlock.Status {
	a.t.Helper()
	status, err := a.database.(*atlock.Database).Status()
	if err != nil {
		a.t.Fatal(err)
	}
	return status
}

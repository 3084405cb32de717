package atlock_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

// changing is a database whose mode changes.
type changing struct {
	t        *testing.T
	database *atlock.Database
	open     func(mode atlock.Mode) func() (*atlock.Database, error)
	mode     atlock.Mode
	local    string // the data folder
}

func newChanging(t *testing.T, backend atlock.BackendKind, redis string, mode atlock.Mode) *changing {
	t.Helper()
	files, local := t.TempDir(), t.TempDir()
	c := &changing{t: t, mode: mode, local: local}
	c.open = func(mode atlock.Mode) func() (*atlock.Database, error) {
		config := atlock.Config{Locking: atlock.Locking{
			Backend: backend, DataDir: local, Audit: atlock.Audit{File: filepath.Join(local, "audit.jsonl")},
			Enhanced: atlock.Enhanced{
				Enabled: mode != atlock.ModeStrict, CompatibilityMode: mode, Redis: atlock.Redis{Address: redis},
				PriorityQueue: atlock.PriorityQueue{Enabled: true},
			},
		}}
		if mode == atlock.ModeStrict {
			config.Locking.Enhanced.CompatibilityMode = atlock.ModeHybrid // a rollback
		}
		return func() (*atlock.Database, error) {
			return atlock.Open(config, atlock.WithBoltDB(files), atlock.WithLogger(slog.New(slog.DiscardHandler)))
		}
	}
	database, err := c.open(mode)()
	if err != nil {
		t.Fatal(err)
	}
	c.database = database
	t.Cleanup(func() { database.Close() })
	return c
}

func (c *changing) to(mode atlock.Mode) (atlock.Exchanged, error) {
	exchanged, err := c.database.Change(atlock.Exchange{To: mode, Open: c.open(mode), Reopen: c.open(c.mode), By: "signal"})
	if err == nil {
		c.mode = mode
	}
	return exchanged, err
}

func (c *changing) mustBe(mode atlock.Mode) {
	c.t.Helper()
	exchanged, err := c.to(mode)
	if err != nil {
		c.t.Fatalf("to %s: %v", mode, err)
	}
	if len(exchanged.Missing) > 0 {
		c.t.Fatalf("to %s: missing are %q", mode, exchanged.Missing)
	}
	if status, err := c.database.Status(); err != nil || status.Mode != mode {
		c.t.Fatalf("the mode is %s (%v), want %s", status.Mode, err, mode)
	}
}

var ways = map[atlock.BackendKind][]atlock.Mode{
	atlock.BackendBoltDB: {"strict", "hybrid", "native", "hybrid", "strict", "native", "strict"},
	atlock.BackendSled:   {"strict", "hybrid", "native", "hybrid", "strict", "native", "strict"},
}

// judge knows who holds each lock by what callers were told, and hears of nothing else.
type judge struct {
	t       *testing.T
	seed    uint64
	onStock bool            // Atlantis's own store answers now and then
	holders [4]atomic.Int64 // by path; 0: nobody
	granted atomic.Int64
}

func (j *judge) grants(path int, pull int64) {
	j.granted.Add(1)
	if !j.holders[path].CompareAndSwap(0, pull) {
		j.t.Errorf("seed %d: %d was granted to #%d and is held by #%d", j.seed, path, pull, j.holders[path].Load())
	}
}

func pathOf(path int) models.Project { return models.NewProject("acme/infra", strconv.Itoa(path), "") }

// holds works with a lock for a while, and gives it back.
func (j *judge) holds(database *atlock.Database, path int, pull int64, random *rand.Rand) {
	for range random.IntN(4) {
		if j.onStock { // its GetLock fails beside a writer, and so does its List (docs/defects.md): that may end the process
			time.Sleep(time.Millisecond)
			continue
		}
		lock, err := database.GetLock(pathOf(path), "default")
		switch {
		case errors.Is(err, atlock.ErrTimeout): // the gate was closed for long
		case err != nil, lock == nil, int64(lock.Pull.Num) != pull:
			j.t.Errorf("seed %d: #%d was granted %d, and there is %v, %v", j.seed, pull, path, lock, err)
		}
	}
	for {
		j.holders[path].Store(0)
		released, err := database.UnlockIfOwnedByPull(pathOf(path), "default", int(pull))
		if err == nil && released != nil {
			return
		}
		if !errors.Is(err, atlock.ErrTimeout) {
			j.t.Errorf("seed %d: #%d could not release %d: %v, %v", j.seed, pull, path, released, err)
			return
		}
		j.grants(path, pull) // nothing was changed
	}
}

func (j *judge) works(ctx context.Context, database *atlock.Database, pull int64, waits bool) {
	random := rand.New(rand.NewPCG(j.seed, uint64(pull)))
	request := models.PullRequest{Num: int(pull), BaseRepo: models.Repo{FullName: "acme/infra"}}
	for ctx.Err() == nil {
		path := random.IntN(len(j.holders))
		asked := models.ProjectLock{Project: pathOf(path), Workspace: "default", Pull: request, Time: time.Now()}
		switch {
		case waits && random.IntN(2) == 0:
			_, err := database.For(request).LockWithTimeout(ctx, asked.Project, asked.Workspace, models.User{}, 20*time.Second)
			var waiting *atlock.Waiting
			switch {
			case err == nil:
				j.grants(path, pull)
				j.holds(database, path, pull, random)
			case !errors.As(err, &waiting) && !errors.Is(err, context.Canceled):
				j.t.Errorf("seed %d: waiting: %v", j.seed, err)
			}
		case !j.onStock && random.IntN(3) == 0:
			if _, err := database.List(); err != nil && !errors.Is(err, atlock.ErrTimeout) {
				j.t.Errorf("seed %d: list: %v", j.seed, err)
			}
		default:
			acquired, _, err := database.TryLock(asked)
			switch {
			case acquired:
				j.grants(path, pull)
				j.holds(database, path, pull, random)
			case err != nil && !errors.Is(err, atlock.ErrTimeout):
				j.t.Errorf("seed %d: #%d: %v", j.seed, pull, err)
			}
		}
	}
}

// seedOf is a seed of its own for each run, or the one of ATLOCK_SEED.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	if text := os.Getenv("ATLOCK_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return seed
	}
	return rand.Uint64()
}

// Callers take, ask for, wait for and release locks while the mode changes: none is granted twice, none is lost, nobody hears more than to try
// again.
func TestTheModeChangesUnderLoad(t *testing.T) {
	for backend, way := range ways {
		t.Run(string(backend), func(t *testing.T) {
			changing := newChanging(t, backend, redistest.Start(t, redistest.Options{AppendOnly: true}).Addr, "strict")
			judge := &judge{t: t, seed: seedOf(t), onStock: backend == "boltdb"}
			random := rand.New(rand.NewPCG(judge.seed, 0))
			ctx, stop := context.WithCancel(t.Context())
			var workers sync.WaitGroup
			for pull := range int64(8) {
				workers.Go(func() { judge.works(ctx, changing.database, pull+1, pull%2 == 0) })
			}
			for _, mode := range append(way, way...) {
				changing.mustBe(mode)
				before := judge.granted.Load()
				time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
				for until := time.Now().Add(20 * time.Second); judge.granted.Load() == before && time.Now().Before(until); {
					time.Sleep(time.Millisecond)
				}
				if judge.granted.Load() == before {
					t.Fatalf("seed %d: nothing is granted in %s", judge.seed, mode)
				}
			}
			stop()
			workers.Wait()
			if locks, err := changing.database.List(); err != nil || len(locks) > 0 {
				t.Errorf("seed %d: everything was released, and there are %v, %v", judge.seed, locks, err)
			}
			t.Logf("%d locks were granted", judge.granted.Load())
		})
	}
}

// Locks, a command's lock and a pull status go along; so does whoever waits, with its place, and a plan under way.
func TestWhatGoesAlongWithAChange(t *testing.T) {
	for backend, way := range ways {
		t.Run(string(backend), func(t *testing.T) {
			c := newChanging(t, backend, redistest.Start(t, redistest.Options{AppendOnly: true}).Addr, "hybrid")
			take(t, c.database, "a", 1)
			take(t, c.database, "applied", 1)
			if _, err := c.database.LockCommand(command.Apply, time.Now()); err != nil {
				t.Fatal(err)
			}
			pull := func(num int) models.PullRequest {
				return models.PullRequest{Num: num, BaseRepo: models.Repo{FullName: "acme/infra"}}
			}
			waited := make(chan error, 1)
			go func() {
				_, err := c.database.For(pull(2)).LockWithTimeout(t.Context(), lockOf("a", 2).Project, "default", models.User{}, time.Minute)
				waited <- err
			}()
			run, err := c.database.For(pull(1)).BeginWith(atlock.RunOptions{Command: atlock.RunPlan, Applied: []string{lockOf("applied", 1).Project.RepoFullName + "/applied/default/"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, mode := range way {
				c.mustBe(mode)
				if locks, err := c.database.List(); err != nil || len(locks) != 2 {
					t.Fatalf("%s: %v, %v", mode, locks, err)
				}
				if lock, err := c.database.CheckCommandLock(command.Apply); err != nil || lock == nil {
					t.Fatalf("%s: %v, %v", mode, lock, err)
				}
				if grant, err := run.TryLock(lockOf("a", 1).Project, "default", models.User{}); err != nil || !grant.Acquired {
					t.Fatalf("%s: %+v, %v", mode, grant, err)
				}
				if backend == atlock.BackendSled || mode != "strict" {
					place := func() int {
						position, err := c.database.For(pull(2)).GetQueuePosition(t.Context(), lockOf("a", 2).Project, "default")
						if err != nil {
							return -1
						}
						return position
					}
					for until := time.Now().Add(10 * time.Second); place() != 1; time.Sleep(5 * time.Millisecond) {
						if time.Now().After(until) {
							t.Fatalf("%s: who waits has no place", mode)
						}
					}
				}
			}
			c.mustBe("hybrid")
			if _, err := run.End(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.database.UnlockIfOwnedByPull(lockOf("a", 1).Project, "default", 1); err != nil {
				t.Fatal(err)
			}
			if err := <-waited; err != nil {
				t.Errorf("who waited has not got the lock: %v", err)
			}
			audit, err := os.ReadFile(filepath.Join(c.local, "audit.jsonl"))
			if text := string(audit); err != nil || !strings.Contains(text, `"kind":"change"`) || !strings.Contains(text, `strict to hybrid: ok`) || !strings.Contains(text, `"via":"signal"`) {
				t.Errorf("the audit trail has\n%s\n%v", text, err)
			}
		})
	}
}

// What cannot be opened leaves the mode as it was.
func TestAChangeThatCannotBeMadeIsUndone(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{AppendOnly: true})
	c := newChanging(t, atlock.BackendBoltDB, redis.Addr, "strict")
	take(t, c.database, "a", 1)
	redis.Kill()
	exchanged, err := c.to("native")
	if !errors.Is(err, atlock.ErrUnreachable) || !strings.Contains(err.Error(), "The settings of before hold again") || exchanged.Result != atlock.ChangeFailed {
		t.Fatalf("%+v, %v", exchanged, err)
	}
	status, err := c.database.Status()
	if err != nil || status.Mode != "strict" || status.LastChange == nil || status.LastChange.Result != atlock.ChangeFailed || status.LastChange.To != "native" {
		t.Fatalf("%+v, %v", status, err)
	}
	metrics, err := c.database.Metrics()
	if err != nil || !strings.Contains(metrics, `atlock_mode_changes_total{result="failed"} 1`) || !strings.HasSuffix(metrics, "# EOF\n") {
		t.Errorf("%s\n%v", metrics, err)
	}
	release(t, c.database, "a")
	redis.Restart(t)
	c.mustBe("native")
}

// Where neither the new stores nor those of before can be opened, everything is refused, with the reason, until those of before can be.
func TestWhereNoStoreCanBeOpenedEverythingIsRefused(t *testing.T) {
	c := newChanging(t, atlock.BackendSled, "127.0.0.1:1", "strict")
	take(t, c.database, "a", 1)
	broken, isBroken := errors.New("it is broken"), atomic.Bool{}
	isBroken.Store(true)
	fails := func() (*atlock.Database, error) {
		if isBroken.Load() {
			return nil, broken
		}
		return c.open("strict")()
	}
	waited := make(chan error, 1)
	go func() {
		pull := models.PullRequest{Num: 2, BaseRepo: models.Repo{FullName: "acme/infra"}}
		_, err := c.database.For(pull).LockWithTimeout(t.Context(), lockOf("a", 2).Project, "default", models.User{}, time.Minute)
		waited <- err
	}()
	if _, err := c.database.Change(atlock.Exchange{To: "native", Open: fails, Reopen: fails}); !errors.Is(err, atlock.ErrDegraded) || !strings.Contains(err.Error(), "it is broken") {
		t.Fatalf("%v", err)
	}
	if acquired, _, err := c.database.TryLock(lockOf("b", 3)); acquired || !errors.Is(err, atlock.ErrDegraded) || !strings.Contains(err.Error(), "no lock store is open") {
		t.Errorf("%v, %v", acquired, err)
	}
	if health, err := c.database.Health(); err != nil || health.Overall || !strings.HasPrefix(health.Headline, "No lock is granted") {
		t.Errorf("%+v, %v", health, err)
	}
	if err := <-waited; !errors.Is(err, atlock.ErrDegraded) {
		t.Errorf("who waited heard %v", err)
	}
	isBroken.Store(false)
	for until := time.Now().Add(30 * time.Second); c.database.Ping() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it is not opened again")
		}
	}
	if lock, err := c.database.GetLock(lockOf("a", 1).Project, "default"); lock == nil || err != nil {
		t.Errorf("%v, %v", lock, err)
	}
}

// A change does not wait for ever, and who comes meanwhile does not, either.
func TestAnOperationThatHangsKeepsTheModeAsItIs(t *testing.T) {
	legacy := &hanging{entered: make(chan struct{}), proceed: make(chan struct{})}
	config := atlock.Config{Locking: atlock.Locking{Timeout: atlock.Duration(200 * time.Millisecond)}}
	database, err := atlock.Open(config, atlock.WithLegacy(legacy))
	if err != nil {
		t.Fatal(err)
	}
	listed := make(chan error, 1)
	go func() { _, err := database.List(); listed <- err }()
	<-legacy.entered
	never := func() (*atlock.Database, error) {
		t.Error("it is opened beside an operation")
		return nil, errors.New("never")
	}
	if _, err := database.Change(atlock.Exchange{To: "hybrid", Open: never, Reopen: never}); !errors.Is(err, atlock.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	close(legacy.proceed)
	if err := <-listed; err != nil {
		t.Error(err)
	}

	opening, opened := make(chan struct{}), make(chan struct{})
	slow := func() (*atlock.Database, error) {
		close(opening)
		<-opened
		return atlock.Open(config, atlock.WithLegacy(&hanging{}))
	}
	changed := make(chan error, 1)
	go func() {
		_, err := database.Change(atlock.Exchange{To: "strict", Open: slow, Reopen: slow})
		changed <- err
	}()
	<-opening
	if err := database.Ping(); !errors.Is(err, atlock.ErrTimeout) || !strings.Contains(err.Error(), "nothing was changed, try again") {
		t.Errorf("got %v", err)
	}
	if _, err := database.Change(atlock.Exchange{}); !errors.Is(err, atlock.ErrStoreBusy) {
		t.Errorf("two changes at once: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- database.Ping() }()
	close(opened)
	if err := errors.Join(<-changed, <-waited, database.Close()); err != nil {
		t.Error(err)
	}
	if _, err := database.Change(atlock.Exchange{}); !errors.Is(err, atlock.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// hanging is a database whose List hangs.
type hanging struct {
	db.Database
	entered, proceed chan struct{}
}

func (h *hanging) List() ([]models.ProjectLock, error) {
	if h.entered != nil {
		h.entered <- struct{}{}
		<-h.proceed
		h.entered = nil
	}
	return nil, nil
}

func (*hanging) Ping() error  { return nil }
func (*hanging) Close() error { return nil }

// Redis dies and comes back while the mode changes: a change may fail, and where no store can be opened for a while everything is refused. None of
// what was granted is granted twice or lost.
func TestRedisFailsDuringChanges(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{AppendOnly: true})
	c := newChanging(t, atlock.BackendSled, redis.Addr, "hybrid")
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 0))
	held := map[string]int{}
	for round := range 8 {
		path := strconv.Itoa(round)
		if acquired, _, err := c.database.TryLock(lockOf(path, round+1)); err == nil && acquired {
			held[path] = round + 1
		}
		killed, after := make(chan struct{}), time.Duration(random.IntN(200))*time.Millisecond
		go func() {
			defer close(killed)
			time.Sleep(after)
			redis.Kill()
		}()
		_, err := c.to([]atlock.Mode{"native", "strict", "hybrid"}[random.IntN(3)])
		t.Logf("change %d: %v", round, err)
		<-killed
		redis.Restart(t)
		for until := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			health, err := c.database.Health()
			if err == nil && health.Overall {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("seed %d: no lock is granted any more: %+v, %v", seed, health, err)
			}
		}
		for path, pull := range held {
			lock, err := c.database.GetLock(lockOf(path, pull).Project, "default")
			if err != nil || lock == nil || lock.Pull.Num != pull {
				t.Fatalf("seed %d, change %d: %s is held by #%d, and there is %v, %v", seed, round, path, pull, lock, err)
			}
			if acquired, _, err := c.database.TryLock(lockOf(path, 99)); acquired || err != nil {
				t.Fatalf("seed %d, change %d: %s is held by #%d: %v, %v", seed, round, path, pull, acquired, err)
			}
		}
	}
}

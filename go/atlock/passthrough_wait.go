package atlock

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
)

// Who waits for a lock of Atlantis's own store asks again and again: so often at first, and so seldom in the end.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// waits is how long callers wait, and waited.
type waits struct {
	limits LockTimeouts

	mutex  sync.Mutex
	waited time.Duration
	count  int64
}

// newWaits has the library's defaults.
func newWaits(limits LockTimeouts) *waits {
	if limits.Default == 0 {
		limits.Default = Duration(30 * time.Minute)
	}
	if limits.Max == 0 {
		limits.Max = Duration(2 * time.Hour)
	}
	return &waits{limits: limits}
}

// longest is how long a wait takes at most for which no time is given.
func (w *waits) longest() time.Duration { return time.Duration(w.limits.Default) }

func (w *waits) add(waited time.Duration) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.waited += waited
	w.count++
}

func (w *waits) average() time.Duration {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.waited / time.Duration(max(w.count, 1))
}

var errNoQueue = &Error{
	Code:    capi.QueueDisabled,
	Message: "Atlantis's own store, called directly, has no queue: set locking.backend: sled, or hybrid or native mode",
}

func (p *passthrough) lock(ctx context.Context, asked models.ProjectLock, _ Priority, timeout time.Duration) (Held, error) {
	limits := p.waits.limits
	if timeout > time.Duration(limits.Max) {
		text := fmt.Sprintf("a timeout of %v is over the %v that locking.enhanced.timeouts.max allows", timeout, limits.Max)
		return Held{}, &Error{Code: capi.InvalidArgument, Message: text}
	}
	if timeout == 0 {
		timeout = time.Duration(limits.Default)
	}
	begun := time.Now()
	over := time.NewTimer(timeout)
	defer over.Stop()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		acquired, current, err := p.TryLock(asked)
		switch {
		case err != nil:
			return Held{}, err
		case acquired, current.Pull.Num == asked.Pull.Num && current.Project.RepoFullName == asked.Project.RepoFullName:
			p.waits.add(time.Since(begun))
			return Held{Lock: current}, nil
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-over.C:
			again.Stop()
			return Held{}, fmt.Errorf("%w: %w", errWaitedLong, &Waiting{Holder: current, Why: "held"})
		case <-ctx.Done():
			again.Stop()
			return Held{}, fmt.Errorf("%w: %w", ctx.Err(), &Waiting{Holder: current, Why: "held"})
		}
	}
}

func (p *passthrough) lockSet(context.Context, []models.ProjectLock, Priority, time.Duration) ([]Held, error) {
	return nil, errNoQueue
}

func (p *passthrough) position(lock ProjectWorkspace, pull *PullID) (int, error) {
	held, err := p.GetLock(lock.Project, lock.Workspace)
	if err != nil {
		return 0, err
	}
	switch {
	case pull == nil && held == nil, pull != nil && held != nil && held.Pull.Num == pull.Num:
		return 0, nil
	default:
		return 0, errNoQueue
	}
}

func (p *passthrough) queues(string) (map[string][]QueuedPull, error) { return nil, errNoQueue }

func (p *passthrough) next(NextRequest) (Next, error) { return Next{}, errNoQueue }

func (p *passthrough) leave(string, PullID, string) (int, error) { return 0, errNoQueue }

// check knows no grant by its token: stock has none.
func (p *passthrough) check(lock ProjectWorkspace, pull PullID, token FencingToken) (Checked, error) {
	held, err := p.GetLock(lock.Project, lock.Workspace)
	if held == nil || err != nil {
		return Checked{}, err
	}
	holder := PullID{Host: held.Pull.BaseRepo.VCSHost.Hostname, Num: held.Pull.Num}
	return Checked{Holds: held.Pull.Num == pull.Num && token == NoToken, Holder: &holder}, nil
}

func (p *passthrough) stats() (BackendStats, error) {
	locks, err := p.List()
	if err != nil {
		return BackendStats{}, err
	}
	health, err := p.Health()
	if err != nil {
		return BackendStats{}, err
	}
	count := func(result result) int64 { return int64(p.counters[tryLock][result].Load()) }
	stats := BackendStats{
		ActiveLocks:        int64(len(locks)),
		SuccessfulAcquires: count(done),
		FailedAcquires:     count(refused) + count(failed),
		AverageWaitTime:    p.waits.average(),
		LastUpdated:        time.Now(),
	}
	stats.TotalRequests = stats.SuccessfulAcquires + stats.FailedAcquires
	if health.Overall {
		stats.HealthScore = 100
	}
	return stats, nil
}

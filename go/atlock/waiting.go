package atlock

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/internal/capi"
)

// Waiting is in the error of whoever waited for a lock in vain, for errors.As: where the pull request stood when it gave up.
type Waiting struct {
	Position int                // 1 was next; 0 without a place in a queue
	Ahead    []PullID           // who was before it, the next one first
	Holder   models.ProjectLock // the lock in the way, or that of the pull request for which it is kept
	Since    time.Time          // since when it waited; zero without a place
	Why      string             // held; reserved for the first of Ahead; set: another lock of its set was not free
	Blocker  *Blocker           // that other lock
	Stale    bool               // the place may be out of date: the local store told it in Redis's place, or no store could be asked
}

// Error tells the place, and who is in the way.
func (w *Waiting) Error() string {
	text := fmt.Sprintf("%s is held by pull #%d", ProjectWorkspace{w.Holder.Project, w.Holder.Workspace}.key(), w.Holder.Pull.Num)
	if w.Position > 0 {
		text += fmt.Sprintf(", and %d waited before", w.Position-1)
	}
	return text
}

// waitingFor is where a pull request stood that does not have a lock.
func waitingFor(holder []byte, place *Place) *Waiting {
	waiting := new(Waiting)
	if decodeLock(string(holder), &waiting.Holder) != nil {
		waiting.Holder = models.ProjectLock{}
	}
	if place != nil {
		waiting.Position, waiting.Ahead, waiting.Since = place.Position, place.Ahead, timeOf(place.Since)
		waiting.Why, waiting.Blocker, waiting.Stale = place.Why, place.Blocker, place.Stale
	}
	return waiting
}

// timeOf is zero for zero, which is no time.
func timeOf(micros UnixMicro) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return micros.Time()
}

// queued is what a store answers of waiting.
type queued interface {
	lock(ctx context.Context, asked models.ProjectLock, priority Priority, timeout time.Duration) (Held, error)
	lockSet(ctx context.Context, asked []models.ProjectLock, priority Priority, timeout time.Duration) ([]Held, error)
	position(lock ProjectWorkspace, pull *PullID) (int, error)
	queues(repo string) (map[string][]QueuedPull, error)
	leave(repo string, pull PullID, key string) (int, error)
	check(lock ProjectWorkspace, pull PullID, token FencingToken) (Checked, error)
	stats() (BackendStats, error)
	runBegin(request client.RunRequest) (uint64, error)
	runDeclare(number uint64, locks []json.RawMessage) error
	runTryLock(number uint64, lock []byte) (client.InRun, error)
	runEnd(number uint64) (RunEnded, error)
	next(request NextRequest) (Next, error)
}

func (l *library) lock(ctx context.Context, asked models.ProjectLock, priority Priority, timeout time.Duration) (Held, error) {
	value, err := json.Marshal(asked)
	if err != nil {
		return Held{}, fmt.Errorf("serializing the lock: %w", err)
	}
	waited, err := l.Client.Lock(ctx, value, priority, timeout)
	if err != nil {
		return Held{}, err
	}
	if !waited.Acquired {
		return Held{}, inVain(ctx, waited)
	}
	return heldOf(waited.Lock, waited.Token)
}

func (l *library) lockSet(ctx context.Context, asked []models.ProjectLock, priority Priority, timeout time.Duration) ([]Held, error) {
	values, err := serialized(asked)
	if err != nil {
		return nil, err
	}
	waited, err := l.Client.LockSet(ctx, values, priority, timeout)
	if err != nil {
		return nil, err
	}
	if !waited.Acquired {
		return nil, inVain(ctx, waited.Waited)
	}
	locks := make([]Held, len(waited.Locks))
	for i, lock := range waited.Locks {
		if locks[i], err = heldOf(lock.Lock, lock.Token); err != nil {
			return nil, err
		}
	}
	return locks, nil
}

// inVain says why a wait ended without the lock.
func inVain(ctx context.Context, waited client.Waited) error {
	var reason error
	switch waited.Why {
	case client.WaitCancelled:
		reason = ctx.Err()
	case client.WaitLeft:
		reason = &Error{Code: capi.NotQueued, Message: "the pull request was taken out of the queue"}
	default:
		reason = errWaitedLong
	}
	return fmt.Errorf("%w: %w", reason, waitingFor(waited.Lock, waited.Queue))
}

var errWaitedLong = &Error{Code: capi.Timeout, Message: "the lock was not to be had in time"}

// heldOf reads a lock that was granted.
func heldOf(value []byte, token FencingToken) (Held, error) {
	held := Held{Token: token}
	if err := decodeLock(string(value), &held.Lock); err != nil {
		return Held{}, undecoded(err)
	}
	held.Lock.Time = held.Lock.Time.Local() // as GetLock
	return held, nil
}

func serialized(locks []models.ProjectLock) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(locks))
	for i, lock := range locks {
		value, err := json.Marshal(lock)
		if err != nil {
			return nil, fmt.Errorf("serializing a lock: %w", err)
		}
		values[i] = value
	}
	return values, nil
}

func (l *library) position(lock ProjectWorkspace, pull *PullID) (int, error) {
	return l.Position(lock.Project.RepoFullName, lock.key(), pull)
}

func (l *library) next(request NextRequest) (Next, error) { return l.Next(request) }

func (l *library) queues(repo string) (map[string][]QueuedPull, error) { return l.Queues(repo) }

func (l *library) leave(repo string, pull PullID, key string) (int, error) {
	return l.Leave(repo, pull, key)
}

func (l *library) check(lock ProjectWorkspace, pull PullID, token FencingToken) (Checked, error) {
	return l.Check(lock.Project.RepoFullName, lock.key(), pull, token)
}

func (l *library) stats() (BackendStats, error) {
	stats, err := l.Stats()
	return BackendStats{
		ActiveLocks:        stats.ActiveLocks,
		TotalRequests:      stats.TotalRequests,
		SuccessfulAcquires: stats.SuccessfulAcquires,
		FailedAcquires:     stats.FailedAcquires,
		AverageWaitTime:    time.Duration(stats.AverageWaitMS) * time.Millisecond,
		AverageHoldTime:    time.Duration(stats.AverageHoldMS) * time.Millisecond,
		QueueDepth:         stats.QueueDepth,
		HealthScore:        stats.HealthScore,
		LastUpdated:        timeOf(stats.LastUpdated),
	}, err
}

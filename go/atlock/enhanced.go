package atlock

import (
	"context"
	"fmt"
	"time"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
)

// EnhancedLocker is Atlantis's locker, and takes locks for which it waits. The pull request that waits is bound by [WithPull] or
// [Database.For]; without one, what waits fails with [ErrNoPull].
//
// LockWithPriority and LockWithTimeout return the lock as it is stored: at once if it is free, or the pull request's already. Else the pull
// request joins the queue of the repository, and they return when it has the lock, when the time is over ([ErrTimeout]), when the context
// is done (its error), or when somebody takes the pull request out of the queue ([ErrNotQueued]). Without the lock the pull request is out
// of the queue when they return, unless it also waits by a run or by another call; the error holds a [*Waiting] for errors.As. Other
// errors: [ErrInvalidArgument] for a priority or time that cannot be, [ErrQueueFull], and those of TryLock. A context that is done just when
// the lock is granted does not give the lock back.
//
// Without a queue in the settings they ask again and again, every 250 ms at first and every 5 s later, and whoever asks first has the lock.
//
// Each wait blocks an OS thread; at most 1000 of a process wait at once. All methods may be called from any goroutine.
type EnhancedLocker interface {
	locking.Locker

	// LockWithPriority waits for a lock, for `locking.enhanced.timeouts.default` at most.
	LockWithPriority(
		ctx context.Context, project models.Project, workspace string, user models.User, priority Priority,
	) (*models.ProjectLock, error)
	// LockWithTimeout waits for a lock with normal priority, for so long at most: 0 is `locking.enhanced.timeouts.default`, and more than
	// `locking.enhanced.timeouts.max` an error.
	LockWithTimeout(
		ctx context.Context, project models.Project, workspace string, user models.User, timeout time.Duration,
	) (*models.ProjectLock, error)
	// GetQueuePosition tells the place of the pull request among those who wait for a lock: 0, it holds the lock; 1, it is next. Without a
	// pull request it is the place that a newcomer would have, and 0 a free lock. A pull request that neither holds the lock nor waits
	// for it is [ErrNotQueued]; without a queue, what is not 0 is [ErrQueueDisabled].
	GetQueuePosition(ctx context.Context, project models.Project, workspace string) (int, error)
	// GetEnhancedStats tells what was counted since the start.
	GetEnhancedStats(ctx context.Context) (*BackendStats, error)
}

// BackendStats is what was counted since the start. Atlantis's own store, called directly in strict mode, knows no AverageHoldTime.
type BackendStats struct {
	ActiveLocks        int64         // held now, by whomever
	TotalRequests      int64         // tries to take a lock
	SuccessfulAcquires int64         // those that ended with the lock
	FailedAcquires     int64         // the others
	AverageWaitTime    time.Duration // of callers who waited and have the lock
	AverageHoldTime    time.Duration // of locks that this process took and released
	QueueDepth         int           // pull requests that wait, in all repositories
	HealthScore        int           // 100 healthy, 50 degraded, 0 unhealthy
	LastUpdated        time.Time     // when this was looked at
}

// Held is a lock that its pull request has.
type Held struct {
	Lock  models.ProjectLock // as it is stored
	Token FencingToken       // of the grant; [NoToken] if it is not known
}

// ProjectWorkspace names a lock.
type ProjectWorkspace struct {
	Project   models.Project
	Workspace string
}

func (p ProjectWorkspace) key() string { return models.GenerateLockKey(p.Project, p.Workspace) }

type boundPull struct{}

// WithPull binds the pull request for which the methods of [EnhancedLocker] ask.
func WithPull(ctx context.Context, pull models.PullRequest) context.Context {
	return context.WithValue(ctx, boundPull{}, pull)
}

// Enhanced returns a locker that waits; [WithPull] binds the pull request.
func (d *Database) Enhanced() EnhancedLocker {
	return enhanced{locking.NewClient(d), d}
}

// For returns a locker that waits for this pull request, whatever its contexts say.
func (d *Database) For(pull models.PullRequest) PullLocker {
	return PullLocker{locking.NewClient(d), d, pull}
}

// Queues tells who waits in a repository, or with an empty name in each: by the repository's name, in order.
func (d *Database) Queues(repoFullName string) (map[string][]QueuedPull, error) {
	return through(d, func(store inner) (map[string][]QueuedPull, error) { return store.queues(repoFullName) })
}

// Next tells whose turn it is, for a server that plans pull requests by itself: those that were refused in a run, and for which locks are
// kept. Who is named is claimed, so that no other server is told of it before the claim, or a run of the pull request, is over.
//
// Errors: [ErrQueueDisabled]; [ErrClosed] once the database is closed, which ends the wait.
func (d *Database) Next(request NextRequest) (Next, error) {
	return waitThrough(context.Background(), d, request.Wait, func(_ context.Context, store inner, left time.Duration) (Next, error) {
		if request.Wait > 0 {
			request.Wait = left
		}
		return store.next(request)
	})
}

func (d *Database) position(lock ProjectWorkspace, pull *PullID) (int, error) {
	return through(d, func(store inner) (int, error) { return store.position(lock, pull) })
}

type enhanced struct {
	locking.Locker
	database *Database
}

func (e enhanced) bound(ctx context.Context) (PullLocker, error) {
	pull, ok := ctx.Value(boundPull{}).(models.PullRequest)
	if !ok {
		return PullLocker{}, &Error{Code: capi.NoPull, Message: "no pull request is bound, and only one can wait: use WithPull or Database.For"}
	}
	return PullLocker{e.Locker, e.database, pull}, nil
}

func (e enhanced) LockWithPriority(
	ctx context.Context, project models.Project, workspace string, user models.User, priority Priority,
) (*models.ProjectLock, error) {
	pull, err := e.bound(ctx)
	if err != nil {
		return nil, err
	}
	return pull.LockWithPriority(ctx, project, workspace, user, priority)
}

func (e enhanced) LockWithTimeout(
	ctx context.Context, project models.Project, workspace string, user models.User, timeout time.Duration,
) (*models.ProjectLock, error) {
	pull, err := e.bound(ctx)
	if err != nil {
		return nil, err
	}
	return pull.LockWithTimeout(ctx, project, workspace, user, timeout)
}

func (e enhanced) GetQueuePosition(ctx context.Context, project models.Project, workspace string) (int, error) {
	if pull, err := e.bound(ctx); err == nil {
		return pull.GetQueuePosition(ctx, project, workspace)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return e.database.position(ProjectWorkspace{project, workspace}, nil)
}

func (e enhanced) GetEnhancedStats(ctx context.Context) (*BackendStats, error) {
	return e.database.stats(ctx)
}

func (d *Database) stats(ctx context.Context) (*BackendStats, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stats, err := through(d, func(store inner) (BackendStats, error) { return store.stats() })
	if err != nil {
		return nil, err
	}
	return &stats, nil
}

// PullLocker is an [EnhancedLocker] for one pull request.
type PullLocker struct {
	locking.Locker
	database *Database
	pull     models.PullRequest
}

var _ EnhancedLocker = PullLocker{}

// LockWithPriority is that of [EnhancedLocker].
func (p PullLocker) LockWithPriority(
	ctx context.Context, project models.Project, workspace string, user models.User, priority Priority,
) (*models.ProjectLock, error) {
	held, err := p.Lock(ctx, project, workspace, user, priority, 0)
	if err != nil {
		return nil, err
	}
	return &held.Lock, nil
}

// LockWithTimeout is that of [EnhancedLocker].
func (p PullLocker) LockWithTimeout(
	ctx context.Context, project models.Project, workspace string, user models.User, timeout time.Duration,
) (*models.ProjectLock, error) {
	held, err := p.Lock(ctx, project, workspace, user, PriorityNormal, timeout)
	if err != nil {
		return nil, err
	}
	return &held.Lock, nil
}

// Lock is both of these, and tells the fencing token.
func (p PullLocker) Lock(
	ctx context.Context, project models.Project, workspace string, user models.User, priority Priority, timeout time.Duration,
) (Held, error) {
	if err := p.check(ctx, priority, timeout); err != nil {
		return Held{}, err
	}
	asked := p.lockOf(ProjectWorkspace{project, workspace}, user)
	return waitThrough(ctx, p.database, timeout, func(ctx context.Context, store inner, left time.Duration) (Held, error) {
		return store.lock(ctx, asked, priority, left)
	})
}

// LockSet takes all of these locks or none newly, and waits as [PullLocker.Lock] does until they can be had together. They are of the pull
// request's repository, at most 500, none twice; what the pull request has already stays with it either way. It returns them in the order of
// their keys. A crash in the middle leaves no part of a set: two minutes later, what was granted is given back.
//
// It needs a queue: [ErrQueueDisabled].
func (p PullLocker) LockSet(
	ctx context.Context, user models.User, priority Priority, timeout time.Duration, locks ...ProjectWorkspace,
) ([]Held, error) {
	if err := p.check(ctx, priority, timeout); err != nil {
		return nil, err
	}
	asked := p.locksOf(locks, user)
	return waitThrough(ctx, p.database, timeout, func(ctx context.Context, store inner, left time.Duration) ([]Held, error) {
		return store.lockSet(ctx, asked, priority, left)
	})
}

// GetQueuePosition is that of [EnhancedLocker].
func (p PullLocker) GetQueuePosition(ctx context.Context, project models.Project, workspace string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	pull := p.id()
	return p.database.position(ProjectWorkspace{project, workspace}, &pull)
}

// GetEnhancedStats is that of [EnhancedLocker].
func (p PullLocker) GetEnhancedStats(ctx context.Context) (*BackendStats, error) {
	return p.database.stats(ctx)
}

// Check tells, by the store that decides, whether the pull request holds a lock; unless the token is [NoToken], by that grant. It is true
// when it returns, and need not be later: anyone may release a lock by its name.
func (p PullLocker) Check(project models.Project, workspace string, token FencingToken) (Checked, error) {
	return through(p.database, func(store inner) (Checked, error) {
		return store.check(ProjectWorkspace{project, workspace}, p.id(), token)
	})
}

// Leave takes the pull request out of the queues of these locks, or without one out of all of its repository, and tells how many it waited
// for. What the pull request holds stays with it.
func (p PullLocker) Leave(locks ...ProjectWorkspace) (int, error) {
	if len(locks) == 0 {
		return p.database.Leave(p.pull.BaseRepo.FullName, p.id(), "")
	}
	left := 0
	for _, lock := range locks {
		of, err := p.database.Leave(lock.Project.RepoFullName, p.id(), lock.key())
		left += of
		if err != nil {
			return left, err
		}
	}
	return left, nil
}

func (p PullLocker) id() PullID {
	return PullID{Host: p.pull.BaseRepo.VCSHost.Hostname, Num: p.pull.Num}
}

func (p PullLocker) lockOf(named ProjectWorkspace, user models.User) models.ProjectLock {
	return models.ProjectLock{
		Project: named.Project, Workspace: named.Workspace, Pull: p.pull, User: user, Time: time.Now().Local(), // as Atlantis's locker
	}
}

func (p PullLocker) locksOf(named []ProjectWorkspace, user models.User) []models.ProjectLock {
	locks := make([]models.ProjectLock, len(named))
	for i, name := range named {
		locks[i] = p.lockOf(name, user)
	}
	return locks
}

// check refuses what cannot wait.
func (p PullLocker) check(ctx context.Context, priority Priority, timeout time.Duration) error {
	switch {
	case p.pull.Num <= 0:
		text := fmt.Sprintf("pull %d cannot wait for a lock: the number of a pull request is above 0", p.pull.Num)
		return &Error{Code: capi.NoPull, Message: text}
	case priority < PriorityLow || priority > PriorityCritical:
		text := fmt.Sprintf("the priority %d is none: give 0 (low), 1 (normal), 2 (high) or 3 (critical)", priority)
		return &Error{Code: capi.InvalidArgument, Message: text}
	case timeout < 0:
		text := fmt.Sprintf("a timeout of %v is negative: give 0 for the configured time", timeout)
		return &Error{Code: capi.InvalidArgument, Message: text}
	}
	return ctx.Err()
}

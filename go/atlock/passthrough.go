package atlock

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/internal/capi"
)

// passthrough is strict mode on Atlantis's own store: its code answers, bug for bug. Only counters are kept, and Close waits for
// the calls under way, after which calls fail: stock's List reads BoltDB's memory map outside of a transaction, which crashes
// the process when the file is closed meanwhile.
type passthrough struct {
	legacy   db.Database
	open     sync.RWMutex // held for reading by each call
	closed   bool
	counters counters
	waits    *waits
	statuses sync.RWMutex // held for writing by who reads a pull status and writes what it makes of that
	warnings []string

	runsMutex sync.Mutex
	runs      carried // of a store before
}

func newPassthrough(legacy db.Database, limits LockTimeouts, warnings []string) *passthrough {
	return &passthrough{legacy: legacy, waits: newWaits(limits), warnings: append([]string{}, warnings...)}
}

var errClosed = &Error{Code: capi.Closed, Message: "the locking layer is closed: open it again to use it"}

// begin keeps the database open for an operation; it fails if the database is closed. After a success, defer end: stock's code
// may panic, and Close must not wait for ever for a call that did.
func (p *passthrough) begin() error {
	p.open.RLock()
	if p.closed {
		p.open.RUnlock()
		return errClosed
	}
	return nil
}

// end counts an operation and lets Close go on.
func (p *passthrough) end(op operation, result *result) {
	p.open.RUnlock()
	p.counters[op][*result].Add(1)
}

// TryLockWithToken knows no token: stock has none.
func (p *passthrough) TryLockWithToken(lock models.ProjectLock) (bool, models.ProjectLock, FencingToken, error) {
	acquired, current, err := p.TryLock(lock)
	return acquired, current, NoToken, err
}

func (p *passthrough) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	if err := p.begin(); err != nil {
		return false, models.ProjectLock{}, err
	}
	result := failed // unless the call returns: it may panic
	defer p.end(tryLock, &result)
	acquired, current, err := p.legacy.TryLock(lock)
	if result = resultOf(err); result == done && !acquired {
		result = refused
	}
	return acquired, current, err
}

func (p *passthrough) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	return counted(p, unlock, func() (*models.ProjectLock, error) { return p.legacy.Unlock(project, workspace) })
}

func (p *passthrough) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	return counted(p, unlock, func() (*models.ProjectLock, error) { return p.legacy.UnlockIfOwnedByPull(project, workspace, pullNum) })
}

func (p *passthrough) List() ([]models.ProjectLock, error) {
	return counted(p, list, p.legacy.List)
}

func (p *passthrough) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	return counted(p, getLock, func() (*models.ProjectLock, error) { return p.legacy.GetLock(project, workspace) })
}

func (p *passthrough) UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error) {
	return counted(p, unlockByPull, func() ([]models.ProjectLock, error) { return p.legacy.UnlockByPull(repoFullName, pullNum) })
}

func (p *passthrough) UpdateProjectStatus(pull models.PullRequest, workspace string, repoRelDir string, newStatus models.ProjectPlanStatus) error {
	p.statuses.RLock()
	defer p.statuses.RUnlock()
	return countedError(p, swapPullStatus, func() error { return p.legacy.UpdateProjectStatus(pull, workspace, repoRelDir, newStatus) })
}

func (p *passthrough) GetPullStatus(pull models.PullRequest) (*models.PullStatus, error) {
	return counted(p, pullStatus, func() (*models.PullStatus, error) { return p.legacy.GetPullStatus(pull) })
}

func (p *passthrough) DeletePullStatus(pull models.PullRequest) error {
	p.statuses.RLock()
	defer p.statuses.RUnlock()
	return countedError(p, swapPullStatus, func() error { return p.legacy.DeletePullStatus(pull) })
}

func (p *passthrough) UpdatePullWithResults(pull models.PullRequest, newResults []command.ProjectResult) (models.PullStatus, error) {
	p.statuses.RLock()
	defer p.statuses.RUnlock()
	return counted(p, swapPullStatus, func() (models.PullStatus, error) { return p.legacy.UpdatePullWithResults(pull, newResults) })
}

func (p *passthrough) LockCommand(name command.Name, lockTime time.Time) (*command.Lock, error) {
	return counted(p, lockCommand, func() (*command.Lock, error) { return p.legacy.LockCommand(name, lockTime) })
}

func (p *passthrough) UnlockCommand(name command.Name) error {
	return countedError(p, unlockCommand, func() error { return p.legacy.UnlockCommand(name) })
}

func (p *passthrough) CheckCommandLock(name command.Name) (*command.Lock, error) {
	return counted(p, checkCommandLock, func() (*command.Lock, error) { return p.legacy.CheckCommandLock(name) })
}

func (p *passthrough) Ping() error {
	return countedError(p, ping, p.legacy.Ping)
}

// Close closes the legacy store once.
func (p *passthrough) Close() error {
	p.open.Lock()
	defer p.open.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return p.legacy.Close()
}

func (p *passthrough) Status() (Status, error) {
	return Status{
		Mode:         "strict",
		CircuitState: "disabled",
		Version:      client.Version(),
		LegacyOps:    p.counters.total(done) + p.counters.total(refused) + p.counters.total(failed),
		Errors:       p.counters.total(failed),
		Warnings:     slices.Clone(p.warnings),
	}, nil
}

func (p *passthrough) Health() (Health, error) {
	start := time.Now()
	err := p.Ping()
	took := time.Since(start)
	legacy := StoreHealth{
		Healthy: err == nil, ResponseTime: fmt.Sprintf("%.2fms", took.Seconds()*1e3), ResponseTimeMS: took.Seconds() * 1e3,
	}
	health := Health{Overall: true, State: Healthy, Headline: "The lock store decides", Legacy: &legacy, CircuitState: "disabled"}
	if err != nil {
		health.Overall, health.State, health.Headline = false, Unhealthy, "No lock is granted: the lock store does not answer"
		legacy.Error = err.Error()
	}
	return health, nil
}

// LockInfo knows no tokens: stock has none.
func (p *passthrough) LockInfo(keys []string) ([]LockInfo, error) {
	infos := make([]LockInfo, len(keys))
	for i := range infos {
		infos[i].Store = "legacy"
	}
	return infos, nil
}

// Metrics has no latencies: stock's code is called at its own speed.
func (p *passthrough) Metrics() (string, error) {
	return p.counters.text(len(p.warnings)), nil
}

func counted[T any](p *passthrough, op operation, call func() (T, error)) (answer T, err error) {
	if err := p.begin(); err != nil {
		return answer, err
	}
	result := failed // unless the call returns: it may panic
	defer p.end(op, &result)
	answer, err = call()
	result = resultOf(err)
	return answer, err
}

func countedError(p *passthrough, op operation, call func() error) error {
	_, err := counted(p, op, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

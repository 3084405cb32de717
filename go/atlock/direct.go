package atlock

import (
	"slices"
	"sync"
	"time"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
)

// direct is strict mode on Atlantis's own store: its code answers, bug for bug. Only counters are kept, and Close waits for
// the calls under way, after which calls fail: stock's List reads BoltDB's memory map outside of a transaction, which crashes
// the process when the file is closed meanwhile.
type direct struct {
	legacy   db.Database
	open     sync.RWMutex // held for reading by each call
	closed   bool
	counters counters
	warnings []string
}

func newDirect(legacy db.Database, warnings []string) *direct {
	return &direct{legacy: legacy, warnings: append([]string{}, warnings...)}
}

var errClosed = &Error{Code: capi.Closed, Message: "the locking layer is closed: open it again to use it"}

// begin keeps the database open for an operation; it fails if the database is closed. After a success, defer end: stock's code
// may panic, and Close must not wait for ever for a call that did.
func (d *direct) begin() error {
	d.open.RLock()
	if d.closed {
		d.open.RUnlock()
		return errClosed
	}
	return nil
}

// end counts an operation and lets Close go on.
func (d *direct) end(op operation, result *result) {
	d.open.RUnlock()
	d.counters[op][*result].Add(1)
}

func (d *direct) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	if err := d.begin(); err != nil {
		return false, models.ProjectLock{}, err
	}
	result := failed // unless the call returns: it may panic
	defer d.end(tryLock, &result)
	acquired, current, err := d.legacy.TryLock(lock)
	if result = resultOf(err); result == done && !acquired {
		result = refused
	}
	return acquired, current, err
}

func (d *direct) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	return counted(d, unlock, func() (*models.ProjectLock, error) { return d.legacy.Unlock(project, workspace) })
}

func (d *direct) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	return counted(d, unlock, func() (*models.ProjectLock, error) { return d.legacy.UnlockIfOwnedByPull(project, workspace, pullNum) })
}

func (d *direct) List() ([]models.ProjectLock, error) {
	return counted(d, list, d.legacy.List)
}

func (d *direct) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	return counted(d, getLock, func() (*models.ProjectLock, error) { return d.legacy.GetLock(project, workspace) })
}

func (d *direct) UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error) {
	return counted(d, unlockByPull, func() ([]models.ProjectLock, error) { return d.legacy.UnlockByPull(repoFullName, pullNum) })
}

func (d *direct) UpdateProjectStatus(pull models.PullRequest, workspace string, repoRelDir string, newStatus models.ProjectPlanStatus) error {
	return countedError(d, swapPullStatus, func() error { return d.legacy.UpdateProjectStatus(pull, workspace, repoRelDir, newStatus) })
}

func (d *direct) GetPullStatus(pull models.PullRequest) (*models.PullStatus, error) {
	return counted(d, pullStatus, func() (*models.PullStatus, error) { return d.legacy.GetPullStatus(pull) })
}

func (d *direct) DeletePullStatus(pull models.PullRequest) error {
	return countedError(d, swapPullStatus, func() error { return d.legacy.DeletePullStatus(pull) })
}

func (d *direct) UpdatePullWithResults(pull models.PullRequest, newResults []command.ProjectResult) (models.PullStatus, error) {
	return counted(d, swapPullStatus, func() (models.PullStatus, error) { return d.legacy.UpdatePullWithResults(pull, newResults) })
}

func (d *direct) LockCommand(name command.Name, lockTime time.Time) (*command.Lock, error) {
	return counted(d, lockCommand, func() (*command.Lock, error) { return d.legacy.LockCommand(name, lockTime) })
}

func (d *direct) UnlockCommand(name command.Name) error {
	return countedError(d, unlockCommand, func() error { return d.legacy.UnlockCommand(name) })
}

func (d *direct) CheckCommandLock(name command.Name) (*command.Lock, error) {
	return counted(d, checkCommandLock, func() (*command.Lock, error) { return d.legacy.CheckCommandLock(name) })
}

func (d *direct) Ping() error {
	return countedError(d, ping, d.legacy.Ping)
}

// Close closes the legacy store once.
func (d *direct) Close() error {
	d.open.Lock()
	defer d.open.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.legacy.Close()
}

func (d *direct) Status() (Status, error) {
	return Status{
		Version:   capi.Version(),
		Mode:      "strict",
		LegacyOps: d.counters.total(done) + d.counters.total(refused) + d.counters.total(failed),
		Errors:    d.counters.total(failed),
		Warnings:  slices.Clone(d.warnings),
	}, nil
}

func (d *direct) Health() (Health, error) {
	start := time.Now()
	err := d.Ping()
	legacy := StoreHealth{Healthy: err == nil, ResponseTimeMS: float64(time.Since(start).Nanoseconds()) / 1e6}
	health := Health{Overall: "healthy", Headline: "The lock store decides", Legacy: &legacy, CircuitState: "disabled"}
	if err != nil {
		health.Overall, health.Headline = "unhealthy", "No lock is granted: the lock store does not answer"
		legacy.Error = err.Error()
	}
	return health, nil
}

// Standings knows no tokens: stock has none.
func (d *direct) Standings(keys []string) ([]Standing, error) {
	standings := make([]Standing, len(keys))
	for i := range standings {
		standings[i].Store = "legacy"
	}
	return standings, nil
}

// Metrics has no latencies: stock's code is called at its own speed.
func (d *direct) Metrics() (string, error) {
	return d.counters.text(len(d.warnings)), nil
}

func counted[T any](d *direct, op operation, call func() (T, error)) (answer T, err error) {
	if err := d.begin(); err != nil {
		return answer, err
	}
	result := failed // unless the call returns: it may panic
	defer d.end(op, &result)
	answer, err = call()
	result = resultOf(err)
	return answer, err
}

func countedError(d *direct, op operation, call func() error) error {
	_, err := counted(d, op, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

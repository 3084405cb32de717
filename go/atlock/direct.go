package atlock

import (
	"sync"
	"sync/atomic"
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
	legacy     db.Database
	open       sync.RWMutex // held for reading by each call
	closed     bool
	operations atomic.Uint64
	errors     atomic.Uint64
}

func newDirect(legacy db.Database) *direct {
	return &direct{legacy: legacy}
}

var errClosed = &Error{Code: capi.Closed, Message: "the locking layer is closed: open it again to use it"}

// begin counts an operation and keeps the database open for it; it fails if the database is closed. After a success, defer end:
// stock's code may panic, and Close must not wait for ever for a call that did.
func (d *direct) begin() error {
	d.open.RLock()
	if d.closed {
		d.open.RUnlock()
		return errClosed
	}
	d.operations.Add(1)
	return nil
}

// end counts an error and lets Close go on.
func (d *direct) end(err *error) {
	d.open.RUnlock()
	if *err != nil {
		d.errors.Add(1)
	}
}

func (d *direct) TryLock(lock models.ProjectLock) (acquired bool, current models.ProjectLock, err error) {
	if err := d.begin(); err != nil {
		return false, models.ProjectLock{}, err
	}
	defer d.end(&err)
	return d.legacy.TryLock(lock)
}

func (d *direct) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	return counted(d, func() (*models.ProjectLock, error) { return d.legacy.Unlock(project, workspace) })
}

func (d *direct) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	return counted(d, func() (*models.ProjectLock, error) { return d.legacy.UnlockIfOwnedByPull(project, workspace, pullNum) })
}

func (d *direct) List() ([]models.ProjectLock, error) {
	return counted(d, d.legacy.List)
}

func (d *direct) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	return counted(d, func() (*models.ProjectLock, error) { return d.legacy.GetLock(project, workspace) })
}

func (d *direct) UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error) {
	return counted(d, func() ([]models.ProjectLock, error) { return d.legacy.UnlockByPull(repoFullName, pullNum) })
}

func (d *direct) UpdateProjectStatus(pull models.PullRequest, workspace string, repoRelDir string, newStatus models.ProjectPlanStatus) error {
	return countedError(d, func() error { return d.legacy.UpdateProjectStatus(pull, workspace, repoRelDir, newStatus) })
}

func (d *direct) GetPullStatus(pull models.PullRequest) (*models.PullStatus, error) {
	return counted(d, func() (*models.PullStatus, error) { return d.legacy.GetPullStatus(pull) })
}

func (d *direct) DeletePullStatus(pull models.PullRequest) error {
	return countedError(d, func() error { return d.legacy.DeletePullStatus(pull) })
}

func (d *direct) UpdatePullWithResults(pull models.PullRequest, newResults []command.ProjectResult) (models.PullStatus, error) {
	return counted(d, func() (models.PullStatus, error) { return d.legacy.UpdatePullWithResults(pull, newResults) })
}

func (d *direct) LockCommand(name command.Name, lockTime time.Time) (*command.Lock, error) {
	return counted(d, func() (*command.Lock, error) { return d.legacy.LockCommand(name, lockTime) })
}

func (d *direct) UnlockCommand(name command.Name) error {
	return countedError(d, func() error { return d.legacy.UnlockCommand(name) })
}

func (d *direct) CheckCommandLock(name command.Name) (*command.Lock, error) {
	return counted(d, func() (*command.Lock, error) { return d.legacy.CheckCommandLock(name) })
}

func (d *direct) Ping() error {
	return countedError(d, d.legacy.Ping)
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
		LegacyOps: d.operations.Load(),
		Errors:    d.errors.Load(),
		Warnings:  []string{},
	}, nil
}

func (d *direct) Health() (Health, error) {
	start := time.Now()
	health := Health{Overall: "healthy", Store: "legacy"}
	if err := d.Ping(); err != nil {
		health.Overall, health.Error = "unhealthy", err.Error()
	}
	health.ResponseTimeMS = float64(time.Since(start).Nanoseconds()) / 1e6
	return health, nil
}

func counted[T any](d *direct, operation func() (T, error)) (result T, err error) {
	if err := d.begin(); err != nil {
		return result, err
	}
	defer d.end(&err)
	return operation()
}

func countedError(d *direct, operation func() error) (err error) {
	if err := d.begin(); err != nil {
		return err
	}
	defer d.end(&err)
	return operation()
}

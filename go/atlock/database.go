package atlock

import (
	"cmp"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
	"github.com/atlock/atlock/go/internal/release"
)

// Database is Atlantis's database: all methods of db.Database, with stock's results and error texts. Its methods may be called
// from any goroutine at once. After Close they fail with [ErrClosed]; closing again is harmless.
//
// [Database.Change] exchanges what is behind it while it is in use.
//
// [Database.As] says who uses it.
type Database struct {
	*core
	actor Actor // who uses it, for the audit trail
}

// core is what all Databases on the same stores share.
type core struct {
	barrier barrier
	waited  time.Duration // how long a wait takes at most for which no time is given
	logger  *slog.Logger

	changing sync.Mutex // held by who changes, or closes
	closed   atomic.Bool
	carried  []byte // what the inner database before left; guarded by changing
	history  history
	denials  denials
}

func newDatabase(config Config, store inner, logger *slog.Logger) *Database {
	locking := config.Locking
	d := &Database{core: &core{waited: newWaits(locking.Enhanced.Timeouts).longest(), logger: logger}}
	d.barrier.store, d.barrier.patience = store, cmp.Or(time.Duration(locking.Timeout), defaultPatience)
	return d
}

var errNotOpened = &Error{Code: capi.Closed, Message: "this Database is nil or its zero value: atlock.Open returns one that can be used"}

// wasOpened is an error if nobody opened the database. Every method asks, by through at the latest.
func (d *Database) wasOpened() error {
	if d == nil || d.core == nil {
		return errNotOpened
	}
	return nil
}

// store is what answers: the library, or Atlantis's own store called directly.
type store interface {
	release.Database
	TryLockWithToken(lock models.ProjectLock) (bool, models.ProjectLock, FencingToken, error)
	Status() (Status, error)
	Health() (Health, error)
	Metrics() (string, error)
	LockInfo(keys []string) ([]LockInfo, error)
}

// As is a Database on the same stores: the audit trail says of what is changed by it who did that, and by which way. It is made for one call as
// cheaply as for many. Closing one closes both.
//
//	lock, err := database.As(atlock.Actor{Via: atlock.ViaPage, By: atlock.Person{User: "ann"}}).Unlock(project, workspace)
func (d *Database) As(actor Actor) *Database {
	if d.wasOpened() != nil {
		return d
	}
	return &Database{d.core, actor}
}

// Record adds an entry to the audit trail, if there is one: what the database does not see by itself, such as a log-in that failed. The actor is
// the Database's, unless the entry has one.
//
// Errors: [ErrAuditFailed].
func (d *Database) Record(entry AuditEntry) error {
	if entry.Actor.IsZero() && d.wasOpened() == nil {
		entry.Actor = d.actor
	}
	return throughError(d, func(store inner) error { return store.record(entry) })
}

var (
	_ db.Database      = (*Database)(nil)
	_ release.Database = (*Database)(nil)
	_ store            = (*Database)(nil)
	_ Backend          = (*Database)(nil)
)

// TryLock takes a lock if it is free, and returns the lock that is held now: the new one, or the one in its way.
//
// It is not safe to assume that the lock is held until Unlock: anyone may release it, with `atlantis unlock` or on the page.
func (d *Database) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, _, err := d.TryLockWithToken(lock)
	return acquired, current, err
}

// TryLockWithToken is [Database.TryLock], and tells the new holder's fencing token. The token is [NoToken] if the lock was not acquired,
// and always in strict mode on Atlantis's own store, which is called directly and has no tokens.
func (d *Database) TryLockWithToken(lock models.ProjectLock) (acquired bool, current models.ProjectLock, token FencingToken, err error) {
	err = throughError(d, func(store inner) (err error) {
		acquired, current, token, err = store.TryLockWithToken(lock)
		return err
	})
	return acquired, current, token, err
}

// Unlock releases a lock and returns it, or nil if there is none.
func (d *Database) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	return through(d, func(store inner) (*models.ProjectLock, error) { return store.Unlock(project, workspace) })
}

// UnlockIfOwnedByPull releases a lock only if this pull holds it; otherwise it returns nil.
func (d *Database) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	return through(d, func(store inner) (*models.ProjectLock, error) {
		return store.UnlockIfOwnedByPull(project, workspace, pullNum)
	})
}

// UnlockByPull releases all locks of exactly this repository's pull and returns them. It fails only if none is known to be released:
// if there may be more, the logger is told.
func (d *Database) UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error) {
	return through(d, func(store inner) ([]models.ProjectLock, error) { return store.UnlockByPull(repoFullName, pullNum) })
}

// GetLock returns a lock, or nil if there is none.
func (d *Database) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	return through(d, func(store inner) (*models.ProjectLock, error) { return store.GetLock(project, workspace) })
}

// List returns all locks. Entries that cannot be read are left out, and reported to the logger when they change.
func (d *Database) List() ([]models.ProjectLock, error) {
	return through(d, func(store inner) ([]models.ProjectLock, error) { return store.List() })
}

// LockCommand takes a command's global lock; an error that is [ErrLockExists] means that it is held. Atlantis's own store, called
// directly in strict mode, gives an error with the same text at its end.
func (d *Database) LockCommand(name command.Name, lockTime time.Time) (*command.Lock, error) {
	return through(d, func(store inner) (*command.Lock, error) { return store.LockCommand(name, lockTime) })
}

// UnlockCommand releases a command's global lock; an error that is [ErrNoLock] means that there is none. Atlantis's own store, called
// directly in strict mode, gives an error with the same text at its end.
func (d *Database) UnlockCommand(name command.Name) error {
	return throughError(d, func(store inner) error { return store.UnlockCommand(name) })
}

// CheckCommandLock returns a command's global lock, or nil if there is none.
func (d *Database) CheckCommandLock(name command.Name) (*command.Lock, error) {
	return through(d, func(store inner) (*command.Lock, error) { return store.CheckCommandLock(name) })
}

// GetPullStatus returns a pull's status, or nil if there is none.
func (d *Database) GetPullStatus(pull models.PullRequest) (*models.PullStatus, error) {
	return through(d, func(store inner) (*models.PullStatus, error) { return store.GetPullStatus(pull) })
}

// UpdateProjectStatus sets the status of one project of a pull. Without a status for the pull, or for the project, it does
// nothing, as stock.
func (d *Database) UpdateProjectStatus(pull models.PullRequest, workspace string, repoRelDir string, newStatus models.ProjectPlanStatus) error {
	return throughError(d, func(store inner) error { return store.UpdateProjectStatus(pull, workspace, repoRelDir, newStatus) })
}

// UpdatePullWithResults merges new results into a pull's status and returns it. Updates at the same time are all kept.
func (d *Database) UpdatePullWithResults(pull models.PullRequest, newResults []command.ProjectResult) (models.PullStatus, error) {
	return through(d, func(store inner) (models.PullStatus, error) { return store.UpdatePullWithResults(pull, newResults) })
}

// DeletePullStatus deletes a pull's status, if there is one.
func (d *Database) DeletePullStatus(pull models.PullRequest) error {
	return throughError(d, func(store inner) error { return store.DeletePullStatus(pull) })
}

// Ping tells whether the store that decides answers and could be written.
func (d *Database) Ping() error {
	return throughError(d, func(store inner) error { return store.Ping() })
}

// Close closes the stores. Closing again is harmless.
func (d *Database) Close() error {
	if err := d.wasOpened(); err != nil {
		return err
	}
	d.closed.Store(true)
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.barrier.store == nil { // nobody else changes it
		d.barrier.refuse(errClosed)
		return nil
	}
	return d.barrier.store.Close()
}

// Status reads mode, counters, warnings, the state of hybrid mode, and the last change of mode or settings. Counters begin anew with each
// change.
func (d *Database) Status() (Status, error) {
	if err := d.wasOpened(); err != nil {
		return Status{}, err
	}
	status, err := through(d, func(store inner) (Status, error) { return store.Status() })
	status.LastChange = d.history.last()
	return status, err
}

// CheckKeys is [client.Client.CheckKeys]. Atlantis's own store has none.
func (d *Database) CheckKeys(config Config) error {
	_, err := through(d, func(store inner) (struct{}, error) { return struct{}{}, store.checkKeys(config) })
	return err
}

// Health asks the store that decides; in hybrid mode it reads what the last probes saw.
func (d *Database) Health() (Health, error) {
	health, err := through(d, func(store inner) (Health, error) { return store.Health() })
	var none noneOpen
	if errors.As(err, &none) && !d.closed.Load() {
		return Health{State: Unhealthy, Headline: "No lock is granted: no lock store is open, after a change that failed", CircuitState: CircuitDisabled}, nil
	}
	return health, err
}

// Metrics reads counters and latencies as a text for Prometheus, of the type [MetricsContentType]. It waits for no call under way.
// Atlantis's own store, called directly in strict mode, has no latencies.
func (d *Database) Metrics() (string, error) {
	if err := d.wasOpened(); err != nil {
		return "", err
	}
	text, err := through(d, func(store inner) (string, error) { return store.Metrics() })
	return d.history.addTo(text), err
}

// LockInfo tells how the locks at these keys stand, one for each, for a person who looks at them. It is cheap, and in native mode
// a question to Redis for each: ask for those that are shown.
func (d *Database) LockInfo(keys []string) ([]LockInfo, error) {
	return through(d, func(store inner) ([]LockInfo, error) { return store.LockInfo(keys) })
}

// Backend returns the five methods that older Atlantis releases call.
func (d *Database) Backend() Backend { return d }

// Backend is the interface of Atlantis's locking package in v0.36 and older.
type Backend interface {
	TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error)
	Unlock(project models.Project, workspace string) (*models.ProjectLock, error)
	List() ([]models.ProjectLock, error)
	GetLock(project models.Project, workspace string) (*models.ProjectLock, error)
	UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error)
}

package atlock

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/internal/capi"
	"github.com/atlock/atlock/go/internal/release"
)

// passthrough is strict mode on Atlantis's own store: its code answers, bug for bug. Only counters are kept, and Close waits for
// the calls under way, after which calls fail: stock's List reads BoltDB's memory map outside of a transaction, which crashes
// the process when the file is closed meanwhile. A shadow hears of each call, and has no part in an answer.
type passthrough struct {
	*direct
	actor Actor // who uses it, for the audit trail
}

// direct is what all passthroughs to the same store share.
type direct struct {
	legacy   release.Database
	open     sync.RWMutex // held for reading by each call
	closed   bool
	counters counters
	waits    *waits
	statuses sync.RWMutex // held for writing by who reads a pull status and writes what it makes of that
	warnings []string
	shadow   *shadowing
	audit    *client.AuditTrail
	requests atomic.Uint64 // names each change in the audit trail

	runsMutex sync.Mutex
	runs      carried // of a store before
}

// newPassthrough answers from this database, beside the shadow that the settings name.
func newPassthrough(config Config, legacy release.Database, warnings []string, logger *slog.Logger) (*passthrough, error) {
	shadow, err := openShadow(config, legacy)
	if err != nil {
		return nil, err
	}
	audit, err := client.OpenAudit(config)
	if err != nil {
		shadow.close()
		return nil, err
	}
	limits := newWaits(config.Locking.Enhanced.Timeouts)
	opened := &passthrough{direct: &direct{legacy: legacy, waits: limits, warnings: append([]string{}, warnings...), shadow: shadow, audit: audit}}
	opened.watchShadow(config.Locking.Shadow.Sample, logger)
	return opened, nil
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
	answer, err := audited(p, aboutLock("try_lock", &lock), grantOrRefusal, func() (tried, error) {
		acquired, current, err := p.tryLock(lock)
		return tried{acquired, current}, err
	})
	return answer.acquired, answer.current, err
}

func (p *passthrough) tryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	if err := p.begin(); err != nil {
		return false, models.ProjectLock{}, err
	}
	result := failed // unless the call returns: it may panic
	defer p.end(tryLock, &result)
	telling := p.shadow.begin(func() asked {
		return asked{Operation: operationNames[tryLock], Key: models.GenerateLockKey(lock.Project, lock.Workspace), Value: valueOf(lock)}
	})
	defer telling.end()
	acquired, current, err := p.legacy.TryLock(lock)
	if result = resultOf(err); result == done && !acquired {
		result = refused
	}
	if err == nil {
		telling.is(func() any { return answeredTry(acquired, current) })
	}
	return acquired, current, err
}

func (p *passthrough) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	key := models.GenerateLockKey(project, workspace)
	return audited(p, AuditEntry{Operation: "unlock", Key: key}, releaseOf, func() (*models.ProjectLock, error) {
		return counted(p, unlock, askedOf(unlock, key), answeredLock, func() (*models.ProjectLock, error) { return p.legacy.Unlock(project, workspace) })
	})
}

func (p *passthrough) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	key := models.GenerateLockKey(project, workspace)
	asks := func() asked { return asked{Operation: operationNames[unlock], Key: key, Pull: &pullNum} }
	return audited(p, AuditEntry{Operation: "unlock", Key: key}, releaseOf, func() (*models.ProjectLock, error) {
		return counted(p, unlock, asks, answeredLock, func() (*models.ProjectLock, error) {
			return p.legacy.UnlockIfOwnedByPull(project, workspace, pullNum)
		})
	})
}

func (p *passthrough) List() ([]models.ProjectLock, error) {
	if err := p.begin(); err != nil {
		return nil, err
	}
	result := failed // unless the call returns: it may panic
	defer p.end(list, &result)
	telling := p.shadow.begin(askedOfList(false))
	defer telling.end()
	locks, err := p.legacy.List()
	if result = resultOf(err); err == nil && telling != nil {
		kept := slices.Clone(locks) // the caller may change its own
		telling.isLater(func() any { return answeredLocks(kept) })
	}
	return locks, err
}

func (p *passthrough) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	key := models.GenerateLockKey(project, workspace)
	return counted(p, getLock, askedOf(getLock, key), answeredLock, func() (*models.ProjectLock, error) { return p.legacy.GetLock(project, workspace) })
}

func (p *passthrough) UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error) {
	asks := func() asked {
		return asked{Operation: operationNames[unlockByPull], Repo: repoFullName, Pull: &pullNum}
	}
	answered := func(locks []models.ProjectLock, err error) any {
		if err != nil {
			return notKnown
		}
		return answeredLocks(locks)
	}
	about := AuditEntry{Operation: "unlock_by_pull", Repo: repoFullName, Pull: pullNum}
	return audited(p, about, releasesOf, func() ([]models.ProjectLock, error) {
		return counted(p, unlockByPull, asks, answered, func() ([]models.ProjectLock, error) { return p.legacy.UnlockByPull(repoFullName, pullNum) })
	})
}

// UpdateProjectStatus does not tell the shadow what it made of the status: stock does not say. The next who reads it does.
func (p *passthrough) UpdateProjectStatus(pull models.PullRequest, workspace string, repoRelDir string, newStatus models.ProjectPlanStatus) error {
	p.statuses.RLock()
	defer p.statuses.RUnlock()
	answered := func(error) any { return notKnown }
	return countedError(p, swapPullStatus, askedOfStatus(swapPullStatus, pull), answered, func() error {
		return p.legacy.UpdateProjectStatus(pull, workspace, repoRelDir, newStatus)
	})
}

func (p *passthrough) GetPullStatus(pull models.PullRequest) (*models.PullStatus, error) {
	return counted(p, pullStatus, askedOfStatus(pullStatus, pull), answeredStatus, func() (*models.PullStatus, error) { return p.legacy.GetPullStatus(pull) })
}

func (p *passthrough) DeletePullStatus(pull models.PullRequest) error {
	p.statuses.RLock()
	defer p.statuses.RUnlock()
	return countedError(p, swapPullStatus, askedOfStatus(swapPullStatus, pull), answeredDelete, func() error { return p.legacy.DeletePullStatus(pull) })
}

func (p *passthrough) UpdatePullWithResults(pull models.PullRequest, newResults []command.ProjectResult) (models.PullStatus, error) {
	p.statuses.RLock()
	defer p.statuses.RUnlock()
	return counted(p, swapPullStatus, askedOfStatus(swapPullStatus, pull), answeredUpdate, func() (models.PullStatus, error) {
		return p.legacy.UpdatePullWithResults(pull, newResults)
	})
}

func (p *passthrough) LockCommand(name command.Name, lockTime time.Time) (*command.Lock, error) {
	asks := func() asked {
		lock := command.Lock{CommandName: name, LockMetadata: command.LockMetadata{UnixTime: lockTime.Unix()}}
		return asked{Operation: operationNames[lockCommand], Key: name.String(), Value: jsonOf(lock)}
	}
	return audited(p, AuditEntry{Operation: "lock_command", Command: name.String()}, commandGrant, func() (*command.Lock, error) {
		return counted(p, lockCommand, asks, answeredCommandLocked, func() (*command.Lock, error) { return p.legacy.LockCommand(name, lockTime) })
	})
}

func (p *passthrough) UnlockCommand(name command.Name) error {
	var failure error
	released := func(_ struct{}, came AuditEntry) []AuditEntry {
		if came.Kind = "release"; failure != nil { // there was none
			came.Kind = "unchanged"
		}
		return []AuditEntry{came}
	}
	_, err := audited(p, AuditEntry{Operation: "unlock_command", Command: name.String()}, released, func() (struct{}, error) {
		failure = countedError(p, unlockCommand, askedOf(unlockCommand, name.String()), answeredCommandUnlocked, func() error { return p.legacy.UnlockCommand(name) })
		return struct{}{}, failure
	})
	return err
}

func (p *passthrough) CheckCommandLock(name command.Name) (*command.Lock, error) {
	return counted(p, checkCommandLock, askedOf(checkCommandLock, name.String()), answeredCommand, func() (*command.Lock, error) {
		return p.legacy.CheckCommandLock(name)
	})
}

func (p *passthrough) Ping() error {
	if err := p.begin(); err != nil {
		return err
	}
	result := failed // unless the call returns: it may panic
	defer p.end(ping, &result)
	err := p.legacy.Ping()
	result = resultOf(err)
	return err
}

// Close closes the legacy store once, and the shadow.
func (p *passthrough) Close() error {
	p.shadow.endWatch() // which may be in a call
	p.open.Lock()
	defer p.open.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.shadow.close()
	p.audit.Close()
	return p.legacy.Close()
}

func (p *passthrough) Status() (Status, error) {
	shadow, warnings, err := p.shadow.status()
	atRest := AtRest{Redis: "clear"}
	if _, isBolt := p.legacy.(*boltdb.BoltDB); isBolt {
		atRest = AtRest{BoltDB: "clear"}
	}
	return Status{
		Mode:         "strict",
		CircuitState: "disabled",
		Version:      client.Version(),
		LegacyOps:    p.counters.total(done) + p.counters.total(refused) + p.counters.total(failed),
		Errors:       p.counters.total(failed),
		AtRest:       atRest,
		Shadow:       shadow,
		Warnings:     append(slices.Clone(p.warnings), append(warnings, p.auditWarnings()...)...),
	}, err
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
	_, warnings, _ := p.shadow.status()
	text := p.counters.text(len(p.warnings) + len(warnings) + len(p.auditWarnings()))
	return p.shadow.withMetrics(p.withLostEvents(text)), nil
}

// counted runs an operation, counts it, and tells the shadow of it.
func counted[T any](
	p *passthrough, op operation, asks func() asked, answered func(T, error) any, call func() (T, error),
) (answer T, err error) {
	if err := p.begin(); err != nil {
		return answer, err
	}
	result := failed // unless the call returns: it may panic
	defer p.end(op, &result)
	telling := p.shadow.begin(asks)
	defer telling.end()
	answer, err = call()
	result = resultOf(err)
	telling.is(func() any { return answered(answer, err) })
	return answer, err
}

func countedError(p *passthrough, op operation, asks func() asked, answered func(error) any, call func() error) error {
	_, err := counted(p, op, asks, func(_ struct{}, err error) any { return answered(err) }, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

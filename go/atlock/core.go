package atlock

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
)

// core is a Database over the library. Values are written with encoding/json, as stock Atlantis writes them, byte for byte.
type core struct {
	handle     *capi.Handle
	slots      slots
	logger     *slog.Logger
	unreadable atomic.Pointer[string]
}

func newCore(handle *capi.Handle, logger *slog.Logger) *core {
	return &core{handle: handle, slots: newSlots(), logger: logger}
}

// target names a lock in the library's JSON.
type target struct {
	Project   models.Project
	Workspace string
}

// TryLock takes a lock if it is free, and returns the lock that is held now: the new one, or the one in its way.
//
// It is not safe to assume that the lock is held until Unlock: anyone may release it, with `atlantis unlock` or on the page.
func (c *core) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	value, err := json.Marshal(lock)
	if err != nil {
		return false, models.ProjectLock{}, fmt.Errorf("serializing the lock: %w", err)
	}
	acquired, current := false, lock
	err = c.read(func() (capi.Buffer, error) { return c.handle.TryLock(value) }, func(answer []byte) (err error) {
		acquired, err = decodeGrant(answer, &current)
		return err
	})
	if err != nil {
		return false, models.ProjectLock{}, fmt.Errorf("DB transaction failed: %w", err)
	}
	return acquired, current, nil
}

// Unlock releases a lock and returns it, or nil if there is none.
func (c *core) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	return c.withTarget(project, workspace, c.handle.Unlock, c.salvagedAs("Unlock", models.ProjectLock{Project: project, Workspace: workspace}))
}

// UnlockIfOwnedByPull releases a lock only if this pull holds it; otherwise it returns nil.
func (c *core) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	known := models.ProjectLock{Project: project, Workspace: workspace, Pull: models.PullRequest{Num: pullNum}}
	return c.withTarget(project, workspace, func(target []byte) (capi.Buffer, error) {
		return c.handle.UnlockIfOwnedByPull(target, pullNum)
	}, c.salvagedAs("UnlockIfOwnedByPull", known))
}

// GetLock returns a lock, or nil if there is none.
func (c *core) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	asItIs := func(_ []byte, _ *models.ProjectLock, fault error) error { return fault }
	lock, err := c.withTarget(project, workspace, c.handle.GetLock, asItIs)
	if lock != nil {
		// As stock does: https://github.com/golang/go/issues/19486.
		lock.Time = lock.Time.Local()
	}
	return lock, err
}

// List returns all locks. Entries that cannot be read are left out, and reported to the logger when they change.
func (c *core) List() ([]models.ProjectLock, error) {
	return c.listing(c.handle.List, c.listed)
}

// UnlockByPull releases all locks of exactly this repository's pull and returns them. It fails only if none is known to be released:
// if there may be more, the logger is told.
func (c *core) UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error) {
	return c.listing(
		func() (capi.Listing, error) { return c.handle.UnlockByPull(repoFullName, pullNum) },
		func(listing *capi.Listing) []models.ProjectLock { return c.released(repoFullName, pullNum, listing) },
	)
}

// LockCommand takes a command's global lock; an error that is [ErrLockExists] means that it is held.
func (c *core) LockCommand(name command.Name, lockTime time.Time) (*command.Lock, error) {
	lock := command.Lock{CommandName: name, LockMetadata: command.LockMetadata{UnixTime: lockTime.Unix()}}
	value, err := json.Marshal(lock)
	if err != nil {
		return nil, fmt.Errorf("serializing the lock: %w", err)
	}
	var reply struct {
		Acquired bool `json:"acquired"`
	}
	err = c.call(func() (capi.Buffer, error) { return c.handle.LockCommand(name.String(), value) }, &reply)
	if err == nil && !reply.Acquired {
		err = ErrLockExists
	}
	if err != nil {
		return nil, fmt.Errorf("db transaction failed: %w", err)
	}
	return &lock, nil
}

// UnlockCommand releases a command's global lock; an error that is [ErrNoLock] means that there is none.
func (c *core) UnlockCommand(name command.Name) error {
	var released json.RawMessage
	err := c.call(func() (capi.Buffer, error) { return c.handle.UnlockCommand(name.String()) }, &released)
	if err == nil && string(released) == "null" {
		err = ErrNoLock
	}
	if err != nil {
		return fmt.Errorf("db transaction failed: %w", err)
	}
	return nil
}

// CheckCommandLock returns a command's global lock, or nil if there is none.
func (c *core) CheckCommandLock(name command.Name) (*command.Lock, error) {
	var lock *command.Lock
	if err := c.call(func() (capi.Buffer, error) { return c.handle.CheckCommandLock(name.String()) }, &lock); err != nil {
		return nil, fmt.Errorf("db transaction failed: %w", err)
	}
	return lock, nil
}

// Ping tells whether the store that decides answers and could be written.
func (c *core) Ping() error {
	return c.slots.run(c.handle.Ping)
}

// Close closes the stores. Closing again is harmless.
func (c *core) Close() error {
	return c.handle.Close()
}

// Status reads mode, counters, warnings and the state of hybrid mode.
func (c *core) Status() (Status, error) {
	var status Status
	err := c.call(c.handle.Status, &status)
	return status, err
}

// Health asks the store that decides; in hybrid mode it reads what the last probes saw.
func (c *core) Health() (Health, error) {
	var health Health
	err := c.call(c.handle.Health, &health)
	return health, err
}

// Standings tells how the locks at these keys stand, one for each, for a person who looks at them. It is cheap, and in native mode
// a question to Redis for each: ask for those that are shown.
func (c *core) Standings(keys []string) ([]Standing, error) {
	named, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("serializing the keys: %w", err)
	}
	standings := make([]Standing, 0, len(keys))
	err = c.call(func() (capi.Buffer, error) { return c.handle.LockInfo(named) }, &standings)
	return standings, err
}

// Metrics reads counters and latencies as a text for Prometheus. It waits for no call under way.
func (c *core) Metrics() (string, error) {
	buffer, err := c.handle.Metrics()
	if err != nil {
		return "", err
	}
	defer buffer.Free()
	return string(buffer.Bytes()), nil
}

// salvagedAs reports a release that was made as made, also where Atlantis cannot read all of the lock.
func (c *core) salvagedAs(operation string, known models.ProjectLock) func(text []byte, lock *models.ProjectLock, fault error) error {
	return func(text []byte, lock *models.ProjectLock, fault error) error {
		*lock = c.salvaged(operation, text, known, fault)
		return nil
	}
}

// withTarget runs an operation on a lock and reads its answer; unreadable gets what decode does not take.
func (c *core) withTarget(
	project models.Project, workspace string,
	operation func(target []byte) (capi.Buffer, error),
	unreadable func(text []byte, lock *models.ProjectLock, fault error) error,
) (*models.ProjectLock, error) {
	named, err := json.Marshal(target{Project: project, Workspace: workspace})
	if err != nil {
		return nil, fmt.Errorf("serializing the lock's name: %w", err)
	}
	var lock *models.ProjectLock
	err = c.read(func() (capi.Buffer, error) { return operation(named) }, func(answer []byte) error {
		if string(answer) == "null" {
			return nil
		}
		lock = new(models.ProjectLock)
		if fault := decodeLock(answer, lock); fault != nil {
			return unreadable(answer, lock, fault)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("DB transaction failed: %w", err)
	}
	return lock, nil
}

// call runs one operation and decodes its answer.
func (c *core) call(operation func() (capi.Buffer, error), answer any) error {
	return c.read(operation, func(text []byte) error { return decode(text, answer) })
}

// read runs one operation and reads its answer, which is the library's memory and gone afterwards.
func (c *core) read(operation func() (capi.Buffer, error), answer func(text []byte) error) error {
	return c.slots.run(func() error {
		buffer, err := operation()
		if err != nil {
			return err
		}
		defer buffer.Free()
		if err := answer(buffer.Bytes()); err != nil {
			return fmt.Errorf("failed to deserialize current lock: %w", err)
		}
		return nil
	})
}

package handover

import (
	"errors"
	"fmt"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// discarder makes Atlantis discard the plan of a lock that was released already, as its page does after it releases one.
//
// Invariant: a plan is discarded only while its pull request does not hold the lock by the grant under which the plan was made, and no
// command of that pull request runs on this server; a command that begins meanwhile waits for the discard. A store that does not tell keeps
// the plan: the guard keeps it from being applied.
type discarder struct {
	handover *Handover
	command  events.DefaultDeleteLockCommand
}

func discarderOf(atlantis *server.Server, h *Handover) (discarder, error) {
	own, err := as[*events.DefaultDeleteLockCommand]("the locks controller's DeleteLockCommand", atlantis.LocksController.DeleteLockCommand)
	if err != nil {
		return discarder{}, err
	}
	return discarder{h, *own}, nil
}

// discard discards the plan that was made under a grant ([atlock.NoToken]: any) of this lock, and comments on its pull request. It tells
// whether there was something to discard.
func (d discarder) discard(lock models.ProjectLock, planned atlock.FencingToken, text func(holder *atlock.PullID) string) bool {
	logger, key, num := d.handover.logger, models.GenerateLockKey(lock.Project, lock.Workspace), lock.Pull.Num
	holder, err := d.plan(lock, key, planned)
	switch {
	case errors.Is(err, errKept):
		return false
	case err != nil:
		logger.Warn("the plan of #%d for %q could not be discarded, and the apply guard keeps it from being applied: %v", num, key, err)
		return false
	}
	if err := d.handover.words.client.CreateComment(logger, lock.Pull.BaseRepo, num, text(holder), ""); err != nil {
		logger.Warn("#%d could not be told that its plan for %q was discarded: %v", num, key, err)
	}
	return true
}

// errKept: the plan is not to be discarded.
var errKept = errors.New("the plan stays")

// plan discards the plan, and tells who holds the lock now.
func (d discarder) plan(lock models.ProjectLock, key string, planned atlock.FencingToken) (*atlock.PullID, error) {
	h := d.handover
	h.discarding.Lock()
	defer h.discarding.Unlock()
	if h.open.busy(keyOf(lock.Pull.BaseRepo, lock.Pull.Num)) != nil {
		return nil, errKept
	}
	checked, err := h.database.For(lock.Pull).Check(lock.Project, lock.Workspace, atlock.NoToken)
	if err != nil {
		return nil, fmt.Errorf("who holds the lock cannot be asked: %w", err)
	}
	if checked.Holds && (planned == atlock.NoToken || planned == checked.Token) {
		return nil, errKept
	}
	own := d.command
	own.Locker = released{lock: lock}
	if _, err := own.DeleteLock(h.logger, key); err != nil {
		return nil, err
	}
	if err := h.store.UpdateProjectStatus(lock.Pull, lock.Workspace, lock.Project.Path, models.DiscardedPlanStatus); err != nil {
		h.logger.Warn("the status of #%d does not say that its plan for %q was discarded: %v", lock.Pull.Num, key, err)
	}
	_, err = h.records.change(lock.Pull, func(record *record) { delete(record.Tokens, key) })
	return checked.Holder, err
}

// released is a locker of one lock that was released already.
type released struct {
	locking.Locker
	lock models.ProjectLock
}

func (r released) Unlock(string) (*models.ProjectLock, error) { return &r.lock, nil }

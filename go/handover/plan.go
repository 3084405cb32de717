package handover

import (
	"errors"
	"fmt"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// errKept: a plan is not to be discarded.
var errKept = errors.New("the plan stays")

// discardPlan makes Atlantis discard the plan that was made under a grant ([atlock.NoToken]: any) of a lock that was released already, as its
// page does after it releases one, and comments on the pull request. It tells whether there was something to discard.
//
// Invariant: a plan is discarded only while its pull request does not hold the lock by that grant, and no command of the pull request runs on
// this server; a command that begins meanwhile waits for the discard. A store that does not tell keeps the plan: the guard keeps the plan
// from being applied.
func (h *Handover) discardPlan(lock models.ProjectLock, planned atlock.FencingToken, text func(holder *atlock.PullID) string) bool {
	key, num := models.GenerateLockKey(lock.Project, lock.Workspace), lock.Pull.Num
	holder, err := h.deletePlan(lock, key, planned)
	switch {
	case errors.Is(err, errKept):
		return false
	case err != nil:
		h.logger.Warn("the plan of #%d for %q could not be discarded, and the apply guard keeps it from being applied: %v", num, key, err)
		return false
	}
	if err := comment(h.words.client, h.logger, lock.Pull.BaseRepo, num, text(holder), ""); err != nil {
		h.logger.Warn("#%d could not be told that its plan for %q was discarded: %v", num, key, err)
	}
	return true
}

// deletePlan discards the plan, and tells who holds the lock now.
func (h *Handover) deletePlan(lock models.ProjectLock, key string, planned atlock.FencingToken) (*atlock.PullID, error) {
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
	stock := h.stockDiscard
	stock.Locker = released{lock: lock}
	if _, err := deleteLock(&stock, h.logger, key); err != nil {
		return nil, err
	}
	if err := h.database.DiscardPlan(lock.Pull, atlock.ProjectWorkspace{Project: lock.Project, Workspace: lock.Workspace}); err != nil {
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

package handover

import (
	"fmt"
	"slices"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// discarder is Atlantis's command that discards a lock with its plan (S6): on Atlantis's page of the lock, and on /locking.
//
// Invariant: a lock of a pull request with the label of --disable-unlock-label is not discarded, and a Git host that does not say whether
// there is one counts as if there were. What is discarded is the plan of the lock's own project: Atlantis knows a folder and a workspace, and
// would mark the first project of them (#4210 of Atlantis).
//
// Faults that it survives: Atlantis deletes the plan's file after the lock is released. If that fails, or the server is killed in between, the
// file stays; nobody applies it without the lock. The plan is marked as discarded in any case but a kill.
type discarder struct {
	events.DeleteLockCommand
	stock    events.DefaultDeleteLockCommand
	handover *Handover
	// labels asks the Git host.
	labels func(logger logging.SimpleLogging, repo models.Repo, pull models.PullRequest) ([]string, error)
	// actor is who discards, on a page.
	actor atlock.Actor
	// shown is the one grant that is released; nil: any.
	shown *Grant
	// ended is told what was released, nil for nothing, and what failed.
	ended func(released *models.ProjectLock, err error)
}

func newDiscarder(stock *events.DefaultDeleteLockCommand, h *Handover) discarder {
	return discarder{stock, *stock, h, labelsBy(h.locks.VCSClient), atlock.Actor{Via: atlock.ViaPage}, nil, func(*models.ProjectLock, error) {}}
}

// discard discards one lock.
func (d discarder) discard(logger logging.SimpleLogging, id string) (*models.ProjectLock, error) {
	var released *models.ProjectLock
	stock := d.stock
	stock.Locker = unlocking{d.stock.Locker, func() (lock *models.ProjectLock, err error) {
		released, err = d.unlock(logger, id)
		return released, err
	}}
	lock, err := deleteLock(&stock, logger, id)
	d.ended(released, err)
	if released != nil && released.Pull.BaseRepo != (models.Repo{}) { // as Atlantis: older ones do not have it
		discarded := atlock.ProjectWorkspace{Project: released.Project, Workspace: released.Workspace}
		if err := d.handover.database.DiscardPlan(released.Pull, discarded); err != nil {
			logger.Err("the plan of %q is discarded, and the status of #%d does not say so: %v", id, released.Pull.Num, err)
		}
	}
	return lock, err
}

// unlock releases the lock, if that is allowed.
func (d discarder) unlock(logger logging.SimpleLogging, id string) (*models.ProjectLock, error) {
	locker := d.handover.lockerOf(d.actor)
	if d.shown == nil && d.handover.unlockLabel == "" {
		return locker.Unlock(id)
	}
	held, err := locker.GetLock(id)
	if held == nil || err != nil {
		return nil, err
	}
	if err := d.allowed(logger, held.Pull); err != nil {
		return nil, err
	}
	if d.shown == nil {
		return locker.Unlock(id)
	}
	return d.handover.unlockShown(d.actor, *held, *d.shown)
}

// allowed is the error of a pull request whose label forbids to unlock it.
func (d discarder) allowed(logger logging.SimpleLogging, pull models.PullRequest) error {
	label := d.handover.unlockLabel
	if label == "" {
		return nil
	}
	labels, err := d.labels(logger, pull.BaseRepo, pull)
	switch {
	case err != nil:
		return fmt.Errorf("whether #%d has the label %q, by which its locks are not released (--disable-unlock-label), cannot be asked: %w. "+
			"Try again later, or close the pull request; in an emergency, `atlock unlock` on the server asks for no label", pull.Num, label, err)
	case slices.Contains(labels, label):
		return fmt.Errorf("#%d has the label %q, by which its locks are not released (--disable-unlock-label): remove the label there and try "+
			"again, or merge or close the pull request", pull.Num, label)
	}
	return nil
}

// unlocking is Atlantis's client of the lock store, which releases a lock in its own way.
type unlocking struct {
	locking.Locker
	release func() (*models.ProjectLock, error)
}

func (u unlocking) Unlock(string) (*models.ProjectLock, error) { return u.release() }

package handover

import (
	"errors"
	"fmt"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// locker is Atlantis's project locker (S1): it is asked before each plan and, since v0.28, before each apply of a project. What it answers is made by Atlantis's
// own locker, so that its first sentences are those of the release; what happens next is added.
type locker struct{ handover *Handover }

func (l locker) TryLock(
	log logging.SimpleLogging, pull models.PullRequest, user models.User, workspace string, project models.Project, repoLocking bool,
) (*events.TryLockResponse, error) {
	h := l.handover
	asked := atlock.ProjectWorkspace{Project: project, Workspace: workspace}
	in := h.open.working(keyOf(pull.BaseRepo, pull.Num))
	actor := h.asker(in, pull, user)
	stock := func() (*events.TryLockResponse, error) {
		own := *h.stock
		own.Locker = h.lockerOf(actor)
		return own.TryLock(log, pull, user, workspace, project, repoLocking)
	}
	switch {
	case in == nil:
		return stock()
	case repoLocking && h.open.isClosed(in):
		return &events.TryLockResponse{LockFailureReason: h.words.closed(pull)}, nil
	case !repoLocking || in.command != atlock.RunPlan:
		if reason := h.guard(log, in, pull, asked); reason != "" {
			return &events.TryLockResponse{LockFailureReason: reason}, nil
		}
		return stock()
	case in.run == nil:
		response, err := stock()
		if err == nil && response.LockAcquired {
			h.open.take(in, asked, h.tokenOf(log, pull, asked))
			if unlocksWhoeverHolds {
				response.UnlockFn = func() error {
					_, err := h.store.acting(actor).UnlockIfOwnedByPull(project, workspace, pull.Num)
					return err
				}
			}
		}
		return response, err
	}
	return h.takeInRun(log, in, pull, user, asked)
}

// takeInRun takes a lock in a plan of a server with a queue.
func (h *Handover) takeInRun(
	log logging.SimpleLogging, in *bracket, pull models.PullRequest, user models.User, asked atlock.ProjectWorkspace,
) (*events.TryLockResponse, error) {
	granted, err := in.run.TryLock(asked.Project, asked.Workspace, user)
	if err != nil {
		if reason := h.words.unavailable(err); reason != "" {
			return &events.TryLockResponse{LockFailureReason: reason}, nil
		}
		return nil, err
	}
	holder := granted.Lock
	if holder.Pull.BaseRepo.VCSHost.Hostname == "" || keyOf(holder.Pull.BaseRepo, 0).host == keyOf(pull.BaseRepo, 0).host {
		holder.Pull.BaseRepo.VCSHost = pull.BaseRepo.VCSHost // of a pull request that only waits, the library may not know the kind of host
	}
	answer := answered{h.store.acting(in.actor), pull.Num, asked, locking.TryLockResponse{LockAcquired: granted.Acquired, CurrLock: holder, LockKey: lockKey(asked)}}
	own := *h.stock
	own.Locker = answer
	response, err := own.TryLock(log, pull, user, asked.Workspace, asked.Project, true)
	if err != nil {
		return nil, err
	}
	if response.LockAcquired {
		h.open.take(in, asked, granted.Token)
		return response, nil
	}
	added, err := h.words.waiting(pull, granted.Waiting)
	if err != nil {
		return nil, fmt.Errorf("linking to a pull request: %w", err)
	}
	response.LockFailureReason += added
	return response, nil
}

// tokenOf is the fencing token of a lock that the pull request has. It is looked up only for the guard.
func (h *Handover) tokenOf(log logging.SimpleLogging, pull models.PullRequest, lock atlock.ProjectWorkspace) atlock.FencingToken {
	if !h.guarded.Load() {
		return atlock.NoToken
	}
	checked, err := h.database.For(pull).Check(lock.Project, lock.Workspace, atlock.NoToken)
	if err != nil {
		log.Warn("the token of the lock %q is not known, so that its plan is not bound to it: %v", lockKey(lock), err)
	}
	if err != nil || !checked.Holds {
		return atlock.NoToken
	}
	return checked.Token
}

// answered is a locker that was asked already for one lock.
type answered struct {
	store  *Store
	num    int
	asked  atlock.ProjectWorkspace
	answer locking.TryLockResponse
}

var _ locking.Locker = answered{}

var errAsked = errors.New("only the answer to one question is known here")

func (a answered) TryLock(models.Project, string, models.PullRequest, models.User) (locking.TryLockResponse, error) {
	return a.answer, nil
}

func (a answered) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	return a.store.UnlockIfOwnedByPull(project, workspace, pullNum)
}

// Unlock gives the lock up again after a plan that failed: so releases before v0.46 do, whoever has the lock by then.
func (a answered) Unlock(string) (*models.ProjectLock, error) {
	return a.store.UnlockIfOwnedByPull(a.asked.Project, a.asked.Workspace, a.num)
}

func (a answered) List() (map[string]models.ProjectLock, error)           { return nil, errAsked }
func (a answered) UnlockByPull(string, int) ([]models.ProjectLock, error) { return nil, errAsked }
func (a answered) GetLock(string) (*models.ProjectLock, error)            { return nil, errAsked }

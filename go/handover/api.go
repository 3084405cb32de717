package handover

import (
	"errors"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// apiLocker is the locker of Atlantis's API. When a call ends, Atlantis releases all locks of its pull request, as `atlantis unlock` does, which
// also ends the pull request's wait. With a queue the locks are released one by one here, and it waits on.
type apiLocker struct {
	locking.Locker
	handover *Handover
	waitsOn  bool // there is a queue
}

func (l apiLocker) UnlockByPull(repo string, num int) ([]models.ProjectLock, error) {
	actor := atlock.Actor{Via: atlock.ViaAPI}
	if !l.waitsOn {
		return l.handover.store.acting(actor).UnlockByPull(repo, num)
	}
	released, err := l.handover.unlockEach(repo, num, actor)
	l.handover.forget(released)
	return released, err
}

// unlockEach releases the locks of a pull request one by one, for a command.
func (h *Handover) unlockEach(repo string, num int, actor atlock.Actor) (released []models.ProjectLock, err error) {
	locks, err := h.database.List()
	if err != nil {
		return nil, err
	}
	for _, lock := range locks {
		if lock.Pull.Num != num || lock.Project.RepoFullName != repo {
			continue
		}
		gone, failed := h.store.acting(actor).UnlockIfOwnedByPull(lock.Project, lock.Workspace, num)
		if err = errors.Join(err, failed); gone != nil {
			released = append(released, *gone)
		}
	}
	return released, err
}

package handover

import (
	"errors"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"
)

// apiLocker is the locker of Atlantis's API. When a call ends, Atlantis releases all locks of its pull request, as `atlantis unlock` does, which
// also ends the pull request's wait. Here the locks are released one by one, and it waits on.
type apiLocker struct {
	locking.Locker
	handover *Handover
}

func (l apiLocker) UnlockByPull(repo string, num int) (released []models.ProjectLock, err error) {
	locks, err := l.handover.database.List()
	if err != nil {
		return nil, err
	}
	for _, lock := range locks {
		if lock.Pull.Num != num || lock.Project.RepoFullName != repo {
			continue
		}
		gone, failed := l.handover.store.UnlockIfOwnedByPull(lock.Project, lock.Workspace, num)
		if err = errors.Join(err, failed); gone != nil {
			released = append(released, *gone)
		}
	}
	l.handover.forget(released)
	return released, err
}

package atlock

import (
	"encoding/json"
	"fmt"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
)

func (l *library) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, _, err := l.TryLockWithToken(lock)
	return acquired, current, err
}

func (l *library) TryLockWithToken(lock models.ProjectLock) (bool, models.ProjectLock, FencingToken, error) {
	refused := func(err error) (bool, models.ProjectLock, FencingToken, error) {
		return false, models.ProjectLock{}, NoToken, err
	}
	value, err := json.Marshal(lock)
	if err != nil {
		return refused(fmt.Errorf("serializing the lock: %w", err))
	}
	grant, err := l.Client.TryLock(value)
	if err != nil {
		return refused(transactionFailed(err))
	}
	if grant.Acquired {
		return true, lock, grant.Token, nil
	}
	var holder models.ProjectLock
	if err := l.memo.decodeLock(grant.Holder, &holder); err != nil {
		return refused(transactionFailed(undecoded(err)))
	}
	return false, holder, NoToken, nil
}

func (l *library) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	known := models.ProjectLock{Project: project, Workspace: workspace}
	return l.released("Unlock", known, l.Client.Unlock)
}

func (l *library) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	known := models.ProjectLock{Project: project, Workspace: workspace, Pull: models.PullRequest{Num: pullNum}}
	return l.released("UnlockIfOwnedByPull", known, func(target []byte) (json.RawMessage, error) {
		return l.Client.UnlockIfOwnedByPull(target, pullNum)
	})
}

func (l *library) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	value, err := onTarget(project, workspace, l.Client.GetLock)
	if value == nil || err != nil {
		return nil, err
	}
	lock := new(models.ProjectLock)
	if err := l.memo.decodeLock(value, lock); err != nil {
		return nil, transactionFailed(undecoded(err))
	}
	// As stock does: https://github.com/golang/go/issues/19486.
	lock.Time = lock.Time.Local()
	return lock, nil
}

// List leaves out what cannot be read.
func (l *library) List() ([]models.ProjectLock, error) {
	return l.listing(l.Client.List, l.listed)
}

// UnlockByPull reports all that were released, as far as they can be read.
func (l *library) UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error) {
	return l.listing(
		func() (*client.Listing, error) { return l.Client.UnlockByPull(repoFullName, pullNum) },
		func(listing *client.Listing) []models.ProjectLock {
			return l.releasedByPull(repoFullName, pullNum, listing)
		},
	)
}

// released runs a release, and reports one that was made as made, also where Atlantis cannot read all of the lock.
func (l *library) released(
	operation string, known models.ProjectLock, release func(target []byte) (json.RawMessage, error),
) (*models.ProjectLock, error) {
	value, err := onTarget(known.Project, known.Workspace, release)
	if value == nil || err != nil {
		return nil, err
	}
	lock := new(models.ProjectLock)
	if fault := decodeLock(string(value), lock); fault != nil {
		*lock = l.salvaged(operation, value, known, fault)
	}
	return lock, nil
}

// onTarget runs an operation on a lock.
func onTarget(project models.Project, workspace string, operation func(target []byte) (json.RawMessage, error)) (json.RawMessage, error) {
	named, err := json.Marshal(target{Project: project, Workspace: workspace})
	if err != nil {
		return nil, fmt.Errorf("serializing the lock's name: %w", err)
	}
	value, err := operation(named)
	if err != nil {
		return nil, transactionFailed(err)
	}
	return value, nil
}

//go:build !atlantis_before_v0_46

package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

type grantsToHolder struct{ *memory }

func (m grantsToHolder) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if err == nil && current.Pull.Num == lock.Pull.Num && sameProject(current, lock.Project, lock.Workspace) {
		return true, lock, nil
	}
	return acquired, current, err
}

type tellsNamesakes struct{ *memory }

func (m tellsNamesakes) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if !errors.Is(err, errNamesake) {
		return acquired, current, err
	}
	value, _, err := m.storage.Get(Locks, keyOf(lock))
	if err != nil {
		return false, current, err
	}
	holder, err := decodeLock(value)
	if err != nil {
		return false, current, err
	}
	return false, *holder, nil
}

type refusesOtherSpellings struct{ *memory }

func (m refusesOtherSpellings) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if err == nil && !acquired && current.Pull.Num == lock.Pull.Num && current.Pull.BaseRepo.VCSHost.Hostname != lock.Pull.BaseRepo.VCSHost.Hostname {
		return false, models.ProjectLock{}, errNamesake
	}
	return acquired, current, err
}

type looksThenTakes struct{ *memory }

func (m looksThenTakes) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	_, found, _ := m.storage.Get(Locks, keyOf(lock))
	if found || m.Ping() != nil {
		return m.memory.TryLock(lock)
	}
	time.Sleep(time.Millisecond)
	value, err := json.Marshal(lock)
	if err != nil {
		return false, lock, err
	}
	return true, lock, m.storage.Put(Locks, keyOf(lock), value)
}

type tellsTheLoserItself struct{ *memory }

func (m tellsTheLoserItself) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, _, err := m.memory.TryLock(lock)
	return acquired, lock, err
}

type forgetsTeams struct{ *memory }

func (m forgetsTeams) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if !acquired {
		current.User.Teams = nil
	}
	return acquired, current, err
}

type releasesByPrefix struct{ *memory }

func (m releasesByPrefix) UnlockByPull(repo string, pullNum int) ([]models.ProjectLock, error) {
	all, err := m.List()
	if err != nil {
		return nil, err
	}
	var released []models.ProjectLock
	for _, lock := range all {
		if strings.HasPrefix(keyOf(lock), repo) && lock.Pull.Num == pullNum {
			if _, err := m.Unlock(lock.Project, lock.Workspace); err != nil {
				return nil, err
			}
			released = append(released, lock)
		}
	}
	return released, nil
}

type releasesForAnyone struct{ *memory }

func (m releasesForAnyone) UnlockIfOwnedByPull(project models.Project, workspace string, _ int) (*models.ProjectLock, error) {
	return m.Unlock(project, workspace)
}

type fieldsAlone struct{ *memory }

func (m fieldsAlone) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := m.memory.GetLock(project, workspace)
	if lock != nil && !sameProject(*lock, project, workspace) {
		return nil, nil
	}
	return lock, err
}

type keyAlone struct{ *memory }

func (m keyAlone) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	value, found, _ := m.storage.Get(Locks, models.GenerateLockKey(project, workspace))
	if !found || m.Ping() != nil {
		return m.memory.GetLock(project, workspace)
	}
	lock, err := decodeLock(value)
	if lock != nil {
		lock.Time = lock.Time.Local()
	}
	return lock, err
}

type ignoresCase struct{ *memory }

func (m ignoresCase) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return false, lock, err
	}
	for key, value := range m.locks() {
		if key != keyOf(lock) && strings.EqualFold(key, keyOf(lock)) {
			m.leave()
			holder, err := decodeLock(value)
			if err != nil {
				return false, lock, err
			}
			return false, *holder, nil
		}
	}
	m.leave()
	return m.memory.TryLock(lock)
}

type listsOnePage struct{ *memory }

func (m listsOnePage) List() ([]models.ProjectLock, error) {
	locks, err := m.memory.List()
	return locks[:min(len(locks), 100)], err
}

type listFailsOnCorrupt struct{ *memory }

func (m listFailsOnCorrupt) List() ([]models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	var locks []models.ProjectLock
	for _, value := range m.locks() {
		lock, err := decodeLock(value)
		if err != nil {
			return nil, err
		}
		locks = append(locks, *lock)
	}
	return locks, nil
}

type overwritesCorrupt struct{ *memory }

func (m overwritesCorrupt) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if err == nil || errors.Is(err, errClosed) || errors.Is(err, errNamesake) {
		return acquired, current, err
	}
	value, err := json.Marshal(lock)
	if err != nil {
		return false, lock, err
	}
	return true, lock, m.storage.Put(Locks, keyOf(lock), value)
}

type timeInUTC struct{ *memory }

func (m timeInUTC) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := m.memory.GetLock(project, workspace)
	if lock != nil {
		lock.Time = lock.Time.UTC()
	}
	return lock, err
}

type wholeSeconds struct{ *memory }

func (m wholeSeconds) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := m.memory.GetLock(project, workspace)
	if lock != nil {
		lock.Time = lock.Time.Truncate(time.Second)
	}
	return lock, err
}

type indents struct{ *memory }

func (m indents) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if !acquired {
		return acquired, current, err
	}
	value, err := json.MarshalIndent(lock, "", " ")
	if err != nil {
		return false, lock, err
	}
	return true, lock, m.storage.Put(Locks, keyOf(lock), value)
}

type rewrites struct{ *memory }

func (m rewrites) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := m.memory.GetLock(project, workspace)
	if lock == nil {
		return lock, err
	}
	value, err := json.Marshal(lock)
	if err != nil {
		return nil, err
	}
	return lock, m.storage.Put(Locks, keyOf(*lock), value)
}

type commandTwice struct{ *memory }

func (m commandTwice) LockCommand(name command.Name, at time.Time) (*command.Lock, error) {
	lock, err := m.memory.LockCommand(name, at)
	if err != nil && !errors.Is(err, errClosed) {
		return m.CheckCommandLock(name)
	}
	return lock, err
}

type otherTexts struct{ *memory }

func (m otherTexts) GetPullStatus(pull models.PullRequest) (*models.PullStatus, error) {
	status, err := m.memory.GetPullStatus(pull)
	if err != nil {
		err = fmt.Errorf("get: %w", err)
	}
	return status, err
}

type losesUpdates struct{ *memory }

func (m losesUpdates) UpdatePullWithResults(pull models.PullRequest, results []command.ProjectResult) (models.PullStatus, error) {
	before, err := m.GetPullStatus(pull)
	if err != nil {
		return m.memory.UpdatePullWithResults(pull, results)
	}
	time.Sleep(time.Millisecond)
	after := merge(before, pull, results)
	return after, m.withPullStatus(pull, func(entry *pullEntry) error { return entry.set(after) })
}

type ignoresBaseBranch struct{ *memory }

func (m ignoresBaseBranch) UpdatePullWithResults(pull models.PullRequest, results []command.ProjectResult) (models.PullStatus, error) {
	if before, err := m.GetPullStatus(pull); err == nil && before != nil {
		pull.BaseBranch = before.Pull.BaseBranch
	}
	return m.memory.UpdatePullWithResults(pull, results)
}

type crashesAfterClose struct{ *memory }

func (m crashesAfterClose) List() ([]models.ProjectLock, error) {
	locks, err := m.memory.List()
	if errors.Is(err, errClosed) {
		panic(err)
	}
	return locks, err
}

type closesOnce struct{ *memory }

func (m closesOnce) Close() error {
	if err := m.Ping(); err != nil {
		return err
	}
	return m.memory.Close()
}

type forgetsOnClose struct{ *memory }

func (m forgetsOnClose) Close() error {
	m.storage.mutex.Lock()
	clear(m.locks())
	m.storage.mutex.Unlock()
	return m.memory.Close()
}

type repoIsPattern struct{ *memory }

func (m repoIsPattern) UnlockByPull(repo string, pullNum int) ([]models.ProjectLock, error) {
	all, err := m.List()
	if err != nil {
		return nil, err
	}
	var released []models.ProjectLock
	for _, lock := range all {
		if matched, _ := path.Match(repo, lock.Project.RepoFullName); matched && lock.Pull.Num == pullNum {
			if _, err := m.Unlock(lock.Project, lock.Workspace); err != nil {
				return nil, err
			}
			released = append(released, lock)
		}
	}
	return released, nil
}

type looksThenReleases struct{ *memory }

func (m looksThenReleases) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	// GetLock would return the time in another zone, which is not the fault meant here.
	m.storage.mutex.Lock()
	lock, err := m.find(project, workspace)
	m.storage.mutex.Unlock()
	if lock == nil || m.Ping() != nil {
		return m.memory.Unlock(project, workspace)
	}
	time.Sleep(time.Millisecond)
	if _, deleteErr := m.memory.Unlock(project, workspace); deleteErr != nil {
		return nil, deleteErr
	}
	return lock, err
}

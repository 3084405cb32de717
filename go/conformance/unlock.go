package conformance

import (
	"fmt"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

func unlockBehaviours() []behaviour {
	return []behaviour{
		{name: "Unlock/ReturnsTheLock", check: unlockReturnsTheLock},
		{name: "Unlock/NoneIsNil", check: unlockNone},
		{name: "Unlock/FreesForTheNext", check: unlockFreesForTheNext},
		{name: "UnlockIfOwnedByPull/RightPull", check: ownerReleases},
		{name: "UnlockIfOwnedByPull/WrongPull", check: strangerDoesNotRelease},
		{name: "UnlockIfOwnedByPull/NoneIsNil", check: ownedNone},
	}
}

func unlockReturnsTheLock(s *scene) error {
	lock, other := simpleLock("acme/infra", ".", 5), simpleLock("acme/infra", "other", 5)
	return first(
		func() error { return allGranted(s.db, lock, other) },
		func() error { return released(s.db, lock) },
		func() error { return listed(s.db, other) },
	)
}

func unlockNone(s *scene) error {
	lock, other := simpleLock("acme/infra", ".", 5), simpleLock("acme/infra", "other", 5)
	return first(
		func() error { return notReleased(s.db.Unlock(lock.Project, lock.Workspace)) },
		func() error { return allGranted(s.db, lock, other) },
		func() error { return released(s.db, lock) },
		func() error { return notReleased(s.db.Unlock(lock.Project, lock.Workspace)) },
		func() error { return held(s.db, other) },
	)
}

func unlockFreesForTheNext(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	next := rivalOf(lock)
	return first(
		func() error { return granted(s.db, lock) },
		func() error { return released(s.db, lock) },
		func() error { return granted(s.db, next) },
		func() error { return refused(s.db, lock, next) },
	)
}

func ownerReleases(s *scene) error {
	lock, other := simpleLock("acme/infra", ".", 5), simpleLock("acme/infra", "other", 5)
	return first(
		func() error { return allGranted(s.db, lock, other) },
		func() error {
			got, err := s.db.UnlockIfOwnedByPull(lock.Project, lock.Workspace, lock.Pull.Num)
			if err != nil {
				return fmt.Errorf("UnlockIfOwnedByPull: %w", err)
			}
			return isLock("UnlockIfOwnedByPull", got, lock)
		},
		func() error { return listed(s.db, other) },
	)
}

func strangerDoesNotRelease(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	strangers := []int{6, 0, -5, 55}
	if err := granted(s.db, lock); err != nil {
		return err
	}
	for _, stranger := range strangers {
		err := first(
			func() error {
				return notReleased(s.db.UnlockIfOwnedByPull(lock.Project, lock.Workspace, stranger))
			},
			func() error { return held(s.db, lock) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

func ownedNone(s *scene) error {
	other := simpleLock("acme/infra", "other", 5)
	return first(
		func() error { return granted(s.db, other) },
		func() error {
			return notReleased(s.db.UnlockIfOwnedByPull(release.NewProject("acme/infra", ".", ""), "default", 5))
		},
		func() error { return held(s.db, other) },
	)
}

// notReleased checks the result of an unlock that has nothing to release.
func notReleased(got *models.ProjectLock, err error) error {
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return isNone("unlock", got)
}

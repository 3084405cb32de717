package conformance

import (
	"fmt"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

// The functions of this file each make one call and compare its result with the
// only right one. They return a *Violation when it differs.

// granted takes a free lock.
func granted(database release.Database, lock models.ProjectLock) error {
	acquired, current, err := database.TryLock(lock)
	switch {
	case err != nil:
		return fmt.Errorf("TryLock(%q): %w", abbreviate(keyOf(lock)), err)
	case !acquired:
		return violated("TryLock of a free lock %q was refused, told holder %s", abbreviate(keyOf(lock)), describe(current))
	case !sameLock(current, lock):
		return violated("TryLock granted, but told another holder:\n got %s\nwant %s", describe(current), describe(lock))
	}
	return nil
}

// allGranted takes several free locks.
func allGranted(database release.Database, locks ...models.ProjectLock) error {
	for _, lock := range locks {
		if err := granted(database, lock); err != nil {
			return err
		}
	}
	return nil
}

// refused tries to take a held lock.
func refused(database release.Database, lock, holder models.ProjectLock) error {
	acquired, current, err := database.TryLock(lock)
	switch {
	case err != nil:
		return fmt.Errorf("TryLock(%q): %w", abbreviate(keyOf(lock)), err)
	case acquired:
		return violated("TryLock of %q was granted to #%d although #%d holds it", abbreviate(keyOf(lock)), lock.Pull.Num, holder.Pull.Num)
	case !sameLock(current, holder):
		return violated("TryLock refused, but told another holder:\n got %s\nwant %s", describe(current), describe(holder))
	}
	return nil
}

// held looks up a lock that is held.
func held(database release.Database, lock models.ProjectLock) error {
	return heldFor(database, lock.Project, lock.Workspace, lock)
}

// heldFor looks up a project whose lock is held.
func heldFor(database release.Database, project models.Project, workspace string, want models.ProjectLock) error {
	got, err := database.GetLock(project, workspace)
	if err != nil {
		return fmt.Errorf("GetLock(%q): %w", abbreviate(keyOf(want)), err)
	}
	return isLock("GetLock", got, want)
}

// allHeld looks up several locks that are held.
func allHeld(database release.Database, locks ...models.ProjectLock) error {
	for _, lock := range locks {
		if err := held(database, lock); err != nil {
			return err
		}
	}
	return nil
}

// free looks up a lock that nobody holds.
func free(database release.Database, project models.Project, workspace string) error {
	got, err := database.GetLock(project, workspace)
	if err != nil {
		return fmt.Errorf("GetLock(%s, %q): %w", project, workspace, err)
	}
	return isNone("GetLock", got)
}

// released releases a held lock.
func released(database release.Database, lock models.ProjectLock) error {
	got, err := database.Unlock(lock.Project, lock.Workspace)
	if err != nil {
		return fmt.Errorf("Unlock(%q): %w", abbreviate(keyOf(lock)), err)
	}
	return first(
		func() error { return isLock("Unlock", got, lock) },
		func() error { return free(database, lock.Project, lock.Workspace) },
	)
}

// releasedByPull releases what a pull holds in a repository.
func releasedByPull(database release.Database, repo string, pullNum int, want ...models.ProjectLock) error {
	got, err := database.UnlockByPull(repo, pullNum)
	if err != nil {
		return fmt.Errorf("UnlockByPull(%q, %d): %w", repo, pullNum, err)
	}
	if !sameLocks(got, want) {
		return violated("UnlockByPull(%q, %d): %s", repo, pullNum, describeDifference(got, want))
	}
	return nil
}

// listed lists all locks.
func listed(database release.Database, want ...models.ProjectLock) error {
	got, err := database.List()
	if err != nil {
		return fmt.Errorf("List: %w", err)
	}
	if !sameLocks(got, want) {
		return violated("List: %s", describeDifference(got, want))
	}
	return nil
}

func isLock(call string, got *models.ProjectLock, want models.ProjectLock) error {
	switch {
	case got == nil:
		return violated("%s found no lock %q", call, abbreviate(keyOf(want)))
	case !sameLock(*got, want):
		return violated("%s:\n got %s\nwant %s", call, describe(*got), describe(want))
	}
	return nil
}

func isNone(call string, got *models.ProjectLock) error {
	if got != nil {
		return violated("%s: got %s, want none", call, describe(*got))
	}
	return nil
}

package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

// Pair is two kinds of database on one storage, both open at once.
type Pair struct {
	// Name is the name of its subtest.
	Name string
	// A and B are the names of the two, for messages.
	A, B string
	// NewStorage returns a fresh, empty storage.
	NewStorage func(t *testing.T) SharedStorage
}

// SharedStorage is one place that two kinds of database open.
type SharedStorage struct {
	OpenA, OpenB func() (release.Database, error)
	// Raw reaches the stored bytes while both are open.
	Raw Raw
}

// sharedScene is a storage with both databases open: what one does, the other
// has to see. Every behaviour runs in both directions.
type sharedScene struct {
	one, other release.Database
	openOther  func() (release.Database, error)
	raw        Raw
}

type sharedBehaviour struct {
	name  string
	check func(*sharedScene) error
}

// RunShared checks that two kinds of database on one storage see, refuse and
// release each other's locks, and store the same bytes.
func RunShared(t *testing.T, pair Pair) {
	t.Helper()
	t.Run(pair.Name, func(t *testing.T) {
		for _, b := range sharedBehaviours() {
			for _, reverse := range []bool{false, true} {
				direction := pair.A + "_then_" + pair.B
				if reverse {
					direction = pair.B + "_then_" + pair.A
				}
				t.Run(b.name+"/"+direction, func(t *testing.T) {
					if err := b.try(t, pair, reverse); err != nil {
						t.Error(err)
					}
				})
			}
		}
	})
}

func (b sharedBehaviour) try(t *testing.T, pair Pair, reverse bool) error {
	t.Helper()
	storage := pair.NewStorage(t)
	openOne, openOther := storage.OpenA, storage.OpenB
	if reverse {
		openOne, openOther = openOther, openOne
	}
	one, err := openOne()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	s := &sharedScene{one: one, openOther: openOther, raw: storage.Raw}
	if s.other, err = openOther(); err != nil {
		return errors.Join(fmt.Errorf("open: %w", err), one.Close())
	}
	outcome := b.check(s)
	return errors.Join(outcome, s.one.Close(), s.other.Close())
}

// reopenOther stands for a restart of the other database's server.
func (s *sharedScene) reopenOther() error {
	if err := s.other.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	reopened, err := s.openOther()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	s.other = reopened
	return nil
}

func sharedBehaviours() []sharedBehaviour {
	return []sharedBehaviour{
		{"Shared/LocksAreSeen", sharedLocksAreSeen},
		{"Shared/LocksAreRefused", sharedLocksAreRefused},
		{"Shared/LocksAreReleased", sharedLocksAreReleased},
		{"Shared/OddNames", sharedOddNames},
		{"Shared/LocksOutliveARestartOfTheOther", sharedRestart},
		{"Shared/CommandLocks", sharedCommandLocks},
		{"Shared/PullStatuses", sharedPullStatuses},
		{"Shared/SameBytes", sharedBytes},
	}
}

func sharedLocksAreSeen(s *sharedScene) error {
	lock, second := simpleLock("acme/infra", ".", 5), simpleLock("acme/infra", "a/b", 6)
	return first(
		func() error { return granted(s.one, lock) },
		func() error { return held(s.other, lock) },
		func() error { return listed(s.other, lock) },
		func() error { return granted(s.other, second) },
		func() error { return listed(s.one, lock, second) },
		func() error { return listed(s.other, lock, second) },
		func() error { return allHeld(s.one, lock, second) },
	)
}

func sharedLocksAreRefused(s *sharedScene) error {
	lock := simpleLock("acme/infra", ".", 5)
	return first(
		func() error { return granted(s.one, lock) },
		func() error { return refused(s.other, rivalOf(lock), lock) },
		func() error { return refused(s.one, rivalOf(lock), lock) },
		func() error {
			return notReleased(s.other.UnlockIfOwnedByPull(lock.Project, lock.Workspace, lock.Pull.Num+1))
		},
		func() error { return allHeld(s.one, lock) },
	)
}

func sharedLocksAreReleased(s *sharedScene) error {
	lock, second := simpleLock("acme/infra", ".", 5), simpleLock("acme/infra", "a/b", 5)
	releases := map[string]func() error{
		"Unlock": func() error {
			return first(
				func() error { return released(s.other, lock) },
				func() error { return released(s.other, second) },
			)
		},
		"UnlockIfOwnedByPull": func() error {
			for _, l := range []models.ProjectLock{lock, second} {
				got, err := s.other.UnlockIfOwnedByPull(l.Project, l.Workspace, 5)
				if err != nil {
					return err
				}
				if err := isLock("UnlockIfOwnedByPull", got, l); err != nil {
					return err
				}
			}
			return nil
		},
		"UnlockByPull": func() error { return releasedByPull(s.other, "acme/infra", 5, lock, second) },
	}
	for name, release := range releases {
		err := first(
			func() error { return allGranted(s.one, lock, second) },
			release,
			func() error { return listed(s.one) },
			func() error { return listed(s.other) },
			func() error { return free(s.one, lock.Project, lock.Workspace) },
			func() error { return releasedByPull(s.one, "acme/infra", 5) },
			// Whatever the releaser kept beside the lock must not disturb the next holders.
			func() error { return granted(s.other, rivalOf(lock)) },
			func() error { return refused(s.one, lock, rivalOf(lock)) },
			func() error { return released(s.one, rivalOf(lock)) },
			func() error { return listed(s.other) },
		)
		if err != nil {
			return fmt.Errorf("released with %s: %w", name, err)
		}
	}
	return nil
}

func sharedOddNames(s *sharedScene) error {
	locks := oddLocks()
	if err := allGranted(s.one, locks...); err != nil {
		return err
	}
	if err := first(
		func() error { return listed(s.other, locks...) },
		func() error { return allHeld(s.other, locks...) },
	); err != nil {
		return err
	}
	for _, lock := range locks {
		if err := first(
			func() error { return refused(s.other, rivalOf(lock), lock) },
			func() error { return releasedByPull(s.other, lock.Project.RepoFullName, lock.Pull.Num, lock) },
			func() error { return free(s.one, lock.Project, lock.Workspace) },
		); err != nil {
			return err
		}
	}
	return listed(s.one)
}

// Stock moves old keys when it opens; it must not take anything of ours for one.
func sharedRestart(s *sharedScene) error {
	lock, second := simpleLock("acme/infra", ".", 5), newLock("group/sub/repo", "a/b", "staging", "p", 6)
	return first(
		func() error { return allGranted(s.one, lock, second) },
		s.reopenOther,
		func() error { return listed(s.other, lock, second) },
		func() error { return listed(s.one, lock, second) },
		func() error { return releasedByPull(s.one, "acme/infra", 5, lock) },
	)
}

func sharedCommandLocks(s *sharedScene) error {
	return first(
		func() error { return commandLocked(s.one, command.Apply, fixedTime) },
		func() error { return commandHeld(s.other, command.Apply, fixedTime) },
		func() error { return commandRefused(s.other, command.Apply) },
		func() error { return commandFree(s.other, command.Plan) },
		func() error { return commandUnlocked(s.other, command.Apply) },
		func() error { return commandFree(s.one, command.Apply) },
		func() error { return commandUnlockRefused(s.one, command.Apply) },
	)
}

func sharedPullStatuses(s *sharedScene) error {
	pull := samplePull()
	a, b := planned("default", "a", ""), policyChecked("default", "b", "", policySet("tags", true, "alice"))
	both := models.PullStatus{Pull: pull, Projects: []models.ProjectStatus{projectStatus(a), projectStatus(b)}}
	appliedBoth := models.PullStatus{Pull: pull, Projects: []models.ProjectStatus{projectStatus(applied("default", "a", "")), projectStatus(b)}}
	return first(
		func() error { return updated(s.one, pull, a) },
		func() error { return updatedTo(s.other, pull, []command.ProjectResult{b}, both) },
		func() error { return statusIs(s.one, pull, &both) },
		func() error { return s.other.UpdateProjectStatus(pull, "default", "a", models.AppliedPlanStatus) },
		func() error { return statusIs(s.one, pull, &appliedBoth) },
		func() error { return deletedStatus(s.other, pull) },
		func() error { return statusIs(s.one, pull, nil) },
	)
}

// stored is one entry that both databases write in their turn.
type stored struct {
	table Table
	key   string
	value any
	write func(release.Database) error
	erase func(release.Database) error
}

func sharedBytes(s *sharedScene) error {
	lock := newLock("acme/infra", "<path>", "default", "é & \u2028", 5)
	result := policyChecked("default", "a", "<p>", policySet("tags", true, "alice"))
	entries := []stored{
		{
			Locks, keyOf(lock), lock,
			func(d release.Database) error { return granted(d, lock) },
			func(d release.Database) error { return released(d, lock) },
		},
		{
			Commands, command.Apply.String(), commandLock(command.Apply, fixedTime),
			func(d release.Database) error { return commandLocked(d, command.Apply, fixedTime) },
			func(d release.Database) error { return commandUnlocked(d, command.Apply) },
		},
		{
			Pulls, pullKey(lock.Pull), models.PullStatus{Pull: lock.Pull, Projects: []models.ProjectStatus{projectStatus(result)}},
			func(d release.Database) error { return updated(d, lock.Pull, result) },
			func(d release.Database) error { return deletedStatus(d, lock.Pull) },
		},
	}
	for _, entry := range entries {
		for _, database := range []release.Database{s.one, s.other} {
			err := first(
				func() error { return entry.write(database) },
				func() error { return entry.isStored(s.raw) },
				func() error { return entry.erase(s.other) },
				func() error { return entry.isGone(s.raw) },
			)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (e stored) isStored(raw Raw) error {
	want, err := json.Marshal(e.value)
	if err != nil {
		return err
	}
	got, found, err := raw.Get(e.table, e.key)
	if err != nil {
		return err
	}
	if !found || !bytes.Equal(got, want) {
		return violated("stored under %q (found: %v):\n got %s\nwant %s", e.key, found, got, want)
	}
	return nil
}

func (e stored) isGone(raw Raw) error {
	value, found, err := raw.Get(e.table, e.key)
	if err != nil {
		return err
	}
	if found {
		return violated("still stored under %q: %s", e.key, value)
	}
	return nil
}

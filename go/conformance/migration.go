package conformance

import (
	"encoding/json"
	"fmt"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

// Until v0.39 the key of a lock was {repo}/{path}/{workspace}. Opening a
// database gives such locks their present key, which ends in /{project name}.

func migrationBehaviours() []behaviour {
	if release.KeyFormat != atlock.KeysCurrent {
		return nil // this release makes the keys of before
	}
	return []behaviour{
		{name: "Migration/OldKeyIsMoved", needs: RawBytes, check: oldKeyIsMoved},
		{name: "Migration/ProjectNameComesFromTheValue", needs: RawBytes, check: oldKeyWithProjectName},
		{name: "Migration/NestedPathIsMoved", guards: MigrationMissesNestedPath, needs: RawBytes, check: oldNestedPathIsMoved},
		{name: "Migration/CorruptValueDoesNotStopIt", guards: CorruptValueStopsMigration, needs: RawBytes, check: corruptOldKey},
	}
}

// oldKey is the key of a lock before v0.40.
func oldKey(lock models.ProjectLock) string {
	return fmt.Sprintf("%s/%s/%s", lock.Project.RepoFullName, lock.Project.Path, lock.Workspace)
}

// seedOldKeys stores locks under their old keys and opens the database on them.
func (s *scene) seedOldKeys(locks ...models.ProjectLock) error {
	return s.offline(func() error { return s.putOldKeys(locks...) })
}

// putOldKeys stores locks under their old keys while the database is closed.
func (s *scene) putOldKeys(locks ...models.ProjectLock) error {
	for _, lock := range locks {
		value, err := json.Marshal(lock)
		if err != nil {
			return err
		}
		if err := s.store.Raw.Put(Locks, oldKey(lock), value); err != nil {
			return err
		}
	}
	return nil
}

// moved checks that locks seeded under old keys are held.
func (s *scene) moved(locks ...models.ProjectLock) error {
	for _, lock := range locks {
		err := first(
			func() error { return refused(s.db, rivalOf(lock), lock) },
			func() error { return held(s.db, lock) },
		)
		if err != nil {
			return fmt.Errorf("old key %q: %w", oldKey(lock), err)
		}
	}
	return nil
}

func oldKeyIsMoved(s *scene) error {
	lock, other := simpleLock("acme/infra", ".", 5), simpleLock("acme/infra", "vpc", 6)
	value, err := json.Marshal(lock)
	if err != nil {
		return err
	}
	return first(
		func() error { return s.seedOldKeys(lock, other) },
		func() error { return s.moved(lock, other) },
		func() error { return listed(s.db, lock, other) },
		func() error { return s.expectBytes(Locks, keyOf(lock), value) },
		func() error { return releasedByPull(s.db, "acme/infra", 5, lock) },
		func() error { return listed(s.db, other) },
		s.reopen,
		func() error { return listed(s.db, other) },
	)
}

func oldKeyWithProjectName(s *scene) error {
	lock := newLock("acme/infra", ".", "default", "named", 5)
	return first(
		func() error { return s.seedOldKeys(lock) },
		func() error { return s.moved(lock) },
		func() error { return free(s.db, release.NewProject("acme/infra", ".", ""), "default") },
		func() error { return released(s.db, lock) },
	)
}

func oldNestedPathIsMoved(s *scene) error {
	nested, subgroup := simpleLock("acme/infra", "modules/vpc", 5), simpleLock("group/sub/repo", ".", 6)
	return first(
		func() error { return s.seedOldKeys(nested, subgroup) },
		func() error { return s.moved(nested, subgroup) },
		func() error { return listed(s.db, nested, subgroup) },
	)
}

// Several undecodable locks among many good ones: whatever the order in which
// they are visited, some good one comes after some undecodable one. All are there
// before the database is opened, since stock before v0.46 does not open at all.
func corruptOldKey(s *scene) error {
	const goodLocks, corruptLocks = 30, 3
	var good []models.ProjectLock
	for i := range goodLocks {
		good = append(good, simpleLock("acme/infra", fmt.Sprintf("path%02d", i), i))
	}
	if err := s.close(); err != nil {
		return err
	}
	for i := range corruptLocks {
		if err := s.store.Raw.Put(Locks, fmt.Sprintf("acme/infra/corrupt%d/default", i), []byte("not JSON")); err != nil {
			return err
		}
	}
	if err := s.putOldKeys(good...); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return violated("the store does not open: %v", err)
	}
	return s.moved(good...)
}

package conformance

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/runatlantis/atlantis/server/events/models"
)

func corruptBehaviours() []behaviour {
	return []behaviour{
		{name: "Corrupt/ListReturnsTheOthers", guards: CorruptValueHidesOthers, needs: RawBytes, check: corruptList},
		{name: "Corrupt/UnlockByPullReleasesTheOthers", guards: CorruptValueHidesOthers, needs: RawBytes, check: corruptUnlockByPull},
		{name: "Corrupt/GetLockIsAnError", needs: RawBytes, check: corruptGetLock},
		{name: "Corrupt/TryLockIsNeverGranted", needs: RawBytes, check: corruptTryLock},
		{name: "Corrupt/UnlockKeepsIt", needs: RawBytes, check: corruptUnlock},
		{name: "Corrupt/UnlockIfOwnedByPullKeepsIt", guards: CorruptValueIsReleased, needs: RawBytes, check: corruptUnlockIfOwned},
	}
}

// undecodable makes values of a lock's JSON that are no JSON, or JSON of another
// shape than a lock's. Those of the second kind still tell which lock they are.
var undecodable = []func(lock string) string{
	always(""),
	always("not JSON"),
	always(`{"Project":{"RepoFullName":"acme/infra"`),
	always("[1]"),
	always(`{"Pull":{"Num":"five"}}`),
	always("\xff\x00\xfe"),
	with(`"Time":"2025-03-09T01:59:58.123456789Z"`, `"Time":"yesterday"`),
	with(`"Time":"2025-03-09T01:59:58.123456789Z"`, `"Time":1741485598`),
	with(`"User":{"Username":"user","Teams":["platform","sre"]}`, `"User":"text"`),
	with(`"Teams":["platform","sre"]`, `"Teams":"sre"`),
	with(`"State":1`, `"State":"open"`),
	with(`"State":1`, `"State":1.5`),
	with(`"Hostname":"vcs.example.com"`, `"Hostname":7`),
}

func always(value string) func(string) string { return func(string) string { return value } }

func with(member, instead string) func(string) string {
	return func(lock string) string { return strings.Replace(lock, member, instead, 1) }
}

// besideCorrupt puts a good lock beside each kind of undecodable one, acts and
// starts afresh.
func besideCorrupt(s *scene, act func(good, corrupt models.ProjectLock) error) error {
	for i, spoil := range undecodable {
		// The good lock sorts once before and once behind the corrupt one.
		for _, path := range []string{"a", "z"} {
			repo := fmt.Sprintf("acme/infra%d%s", i, path)
			good, corrupt := simpleLock(repo, path, 5), simpleLock(repo, "m", 5)
			whole, err := json.Marshal(corrupt)
			if err != nil {
				return err
			}
			value := spoil(string(whole))
			if value == string(whole) {
				continue // the release's locks do not have that member
			}
			err = first(
				func() error { return granted(s.db, good) },
				func() error { return s.put(Locks, keyOf(corrupt), []byte(value)) },
				func() error { return act(good, corrupt) },
			)
			if err != nil {
				return fmt.Errorf("beside the value %q: %w", value, err)
			}
		}
	}
	return nil
}

func corruptList(s *scene) error {
	var good []models.ProjectLock
	return besideCorrupt(s, func(lock, _ models.ProjectLock) error {
		good = append(good, lock)
		return undisturbed(listed(s.db, good...))
	})
}

func corruptUnlockByPull(s *scene) error {
	return besideCorrupt(s, func(good, _ models.ProjectLock) error {
		return first(
			func() error { return undisturbed(releasedByPull(s.db, good.Project.RepoFullName, 5, good)) },
			func() error { return free(s.db, good.Project, good.Workspace) },
		)
	})
}

func corruptGetLock(s *scene) error {
	return besideCorrupt(s, func(good, corrupt models.ProjectLock) error {
		if _, err := s.db.GetLock(corrupt.Project, corrupt.Workspace); err == nil {
			return violated("GetLock of an undecodable lock is no error")
		}
		return held(s.db, good)
	})
}

// Somebody may hold that lock: when in doubt, it stays.
func corruptTryLock(s *scene) error {
	return besideCorrupt(s, func(_, corrupt models.ProjectLock) error {
		acquired, _, err := s.db.TryLock(corrupt)
		switch {
		case acquired:
			return violated("TryLock of an undecodable lock was granted")
		case err == nil:
			return violated("TryLock of an undecodable lock is no error")
		}
		return nil
	})
}

func corruptUnlock(s *scene) error {
	return besideCorrupt(s, func(_, corrupt models.ProjectLock) error {
		before, _, err := s.rawLock(corrupt)
		if err != nil {
			return err
		}
		if _, err := s.db.Unlock(corrupt.Project, corrupt.Workspace); err == nil {
			return violated("Unlock of an undecodable lock is no error")
		}
		return s.expectBytes(Locks, keyOf(corrupt), before)
	})
}

func corruptUnlockIfOwned(s *scene) error {
	return besideCorrupt(s, func(_, corrupt models.ProjectLock) error {
		before, _, err := s.rawLock(corrupt)
		if err != nil {
			return err
		}
		if lock, _ := s.db.UnlockIfOwnedByPull(corrupt.Project, corrupt.Workspace, 5); lock != nil {
			return violated("UnlockIfOwnedByPull released an undecodable lock as %s", describe(*lock))
		}
		return s.expectBytes(Locks, keyOf(corrupt), before)
	})
}

// rawLock reads a lock's stored bytes while the database is closed.
func (s *scene) rawLock(lock models.ProjectLock) (value []byte, found bool, err error) {
	err = s.offline(func() error {
		value, found, err = s.store.Raw.Get(Locks, keyOf(lock))
		return err
	})
	return value, found, err
}

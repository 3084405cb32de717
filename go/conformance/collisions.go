package conformance

import (
	"fmt"
	"slices"

	"github.com/runatlantis/atlantis/server/events/models"
)

// A lock's key joins its parts with slashes, and most parts may contain
// slashes, so different projects can have one key. They then share one lock:
// the second taker is refused, which is safe. What must not happen is that one
// of them releases the other's.

func collisionBehaviours() []behaviour {
	return []behaviour{
		{name: "Collisions/SecondTakerIsToldTheRealHolder", check: secondTakerIsToldTheHolder},
		{name: "Collisions/HolderReleases", check: collidingHolderReleases},
		{name: "Collisions/HolderIsFoundByKey", check: collidingHolderByKey},
		{name: "Collisions/OtherProjectDoesNotRelease", guards: KeyCollision, check: otherProjectDoesNotRelease},
		{name: "Collisions/OtherPullDoesNotRelease", check: otherPullDoesNotRelease},
		{name: "Collisions/SameNumberInOtherRepoDoesNotRelease", guards: OwnedByPullOtherRepo, check: sameNumberInOtherRepoDoesNotRelease},
		{name: "Collisions/SameNumberInOtherRepoDoesNotHold", guards: NumberIsIdentity, check: sameNumberInOtherRepoDoesNotHold},
		{name: "Collisions/SameNumberOnOtherHostDoesNotHold", guards: NumberIsIdentity, check: sameNumberOnOtherHostDoesNotHold},
		{name: "Collisions/HostsOfUnknownOrEqualNameAreOne", check: hostsOfUnknownOrEqualNameAreOne},
	}
}

// collision is a pair of locks with one key. Atlantis reads canonical's fields
// out of that key.
type collision struct{ canonical, other models.ProjectLock }

func collisions() []collision {
	pairs := []collision{
		{ // path and workspace
			canonical: newLock("acme/infra", "a/b", "c", "", 5),
			other:     newLock("acme/infra", "a", "b/c", "", 7),
		},
		{ // repository and path, with a GitLab subgroup
			canonical: newLock("group/sub", "repo/.", "default", "", 5),
			other:     newLock("group/sub/repo", ".", "default", "", 7),
		},
		{ // workspace and project name
			canonical: newLock("acme/infra", "env/staging", "team", "vpc", 5),
			other:     newLock("acme/infra", "env", "staging", "team/vpc", 7),
		},
	} // Where keys do not have the project's name the last pair has two.
	return slices.DeleteFunc(pairs, func(pair collision) bool { return keyOf(pair.canonical) != keyOf(pair.other) })
}

// orders returns a collision's two locks in both orders.
func (c collision) orders() [2][2]models.ProjectLock {
	return [2][2]models.ProjectLock{{c.canonical, c.other}, {c.other, c.canonical}}
}

// eachOrder lets each lock of each collision be the holder once.
func eachOrder(s *scene, check func(holder, rival models.ProjectLock) error) error {
	for _, pair := range collisions() {
		for _, order := range pair.orders() {
			holder, rival := order[0], order[1]
			err := first(
				func() error { return granted(s.db, holder) },
				func() error { return check(holder, rival) },
				func() error { return releasedByPull(s.db, holder.Project.RepoFullName, holder.Pull.Num, holder) },
			)
			if err != nil {
				return fmt.Errorf("holder %s, rival %s: %w", holder.Project, rival.Project, err)
			}
		}
	}
	return nil
}

func secondTakerIsToldTheHolder(s *scene) error {
	return eachOrder(s, func(holder, rival models.ProjectLock) error {
		return first(
			func() error { return refused(s.db, rival, holder) },
			func() error { return listed(s.db, holder) },
		)
	})
}

func collidingHolderReleases(s *scene) error {
	return eachOrder(s, func(holder, _ models.ProjectLock) error {
		return first(
			func() error { return released(s.db, holder) },
			func() error { return granted(s.db, holder) },
		)
	})
}

func collidingHolderByKey(s *scene) error {
	for _, pair := range collisions() {
		for _, order := range pair.orders() {
			if err := s.foundByKey(order[0]); err != nil {
				return fmt.Errorf("holder %s: %w", order[0].Project, err)
			}
		}
	}
	return nil
}

// The canonical project holds the lock; the other one asks. It can mean nothing
// but itself, since nobody reads its fields out of the key, so it has no lock.
func otherProjectDoesNotRelease(s *scene) error {
	for _, pair := range collisions() {
		holder, other := pair.canonical, pair.other
		err := first(
			func() error { return granted(s.db, holder) },
			func() error { return free(s.db, other.Project, other.Workspace) },
			func() error { return notReleased(s.db.Unlock(other.Project, other.Workspace)) },
			func() error { return held(s.db, holder) },
			func() error { return released(s.db, holder) },
		)
		if err != nil {
			return fmt.Errorf("holder %s, asked for %s: %w", holder.Project, other.Project, err)
		}
	}
	return nil
}

func otherPullDoesNotRelease(s *scene) error {
	return eachOrder(s, func(holder, rival models.ProjectLock) error {
		return first(
			func() error {
				return notReleased(s.db.UnlockIfOwnedByPull(rival.Project, rival.Workspace, rival.Pull.Num))
			},
			func() error { return held(s.db, holder) },
		)
	})
}

// Pull #5 of group/sub and pull #5 of group/sub/repo are two pulls. Atlantis
// calls UnlockIfOwnedByPull with the project itself, never with one that it
// read out of a key, so the repository can be compared.
func sameNumberInOtherRepoDoesNotRelease(s *scene) error {
	holder := newLock("group/sub/repo", ".", "default", "", 5)
	rival := newLock("group/sub", "repo/.", "default", "", 5)
	return first(
		func() error { return granted(s.db, holder) },
		func() error {
			return notReleased(s.db.UnlockIfOwnedByPull(rival.Project, rival.Workspace, rival.Pull.Num))
		},
		func() error { return held(s.db, holder) },
	)
}

func sameNumberInOtherRepoDoesNotHold(s *scene) error {
	return eachNamesake(s, newLock("group/sub/repo", ".", "default", "", 5), newLock("group/sub", "repo/.", "default", "", 5))
}

// Pull #5 of acme/infra on one Git host and #5 of acme/infra on another are two
// pulls with one lock key.
func sameNumberOnOtherHostDoesNotHold(s *scene) error {
	return eachNamesake(s, simpleLock("acme/infra", ".", 5), onHost("gitlab.example.com"))
}

func onHost(hostname string) models.ProjectLock {
	lock := simpleLock("acme/infra", ".", 5)
	lock.Pull.BaseRepo.VCSHost = models.VCSHost{Hostname: hostname, Type: models.Gitlab}
	return lock
}

// eachNamesake lets each of two pulls with one number and one lock key be the
// holder once. The other one must learn neither that it holds the lock nor who
// does, because Atlantis looks at the holder's number alone.
func eachNamesake(s *scene, one, other models.ProjectLock) error {
	for _, order := range [2][2]models.ProjectLock{{one, other}, {other, one}} {
		holder, rival := order[0], order[1]
		if err := granted(s.db, holder); err != nil {
			return err
		}
		acquired, current, err := s.db.TryLock(rival)
		if err == nil && (acquired || current.Pull.Num == rival.Pull.Num) {
			return violated("TryLock of %s answered acquired %v, holder %s: Atlantis takes the lock for its own", describe(rival), acquired, describe(current))
		}
		err = first(
			func() error { return held(s.db, holder) },
			func() error { return released(s.db, holder) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// Hosts' names know no case, and a lock of an old release may have none.
func hostsOfUnknownOrEqualNameAreOne(s *scene) error {
	holder := simpleLock("acme/infra", ".", 5)
	nowhere := onHost("")
	told := func(lock, holder models.ProjectLock) error {
		if _, _, err := s.db.TryLock(lock); err != nil {
			return violated("TryLock of %s, whose pull holds the lock: %v", describe(lock), err)
		}
		return refused(s.db, lock, holder)
	}
	return first(
		func() error { return granted(s.db, holder) },
		func() error { return told(onHost("VCS.Example.com"), holder) },
		func() error { return told(nowhere, holder) },
		func() error { return released(s.db, holder) },
		func() error { return granted(s.db, nowhere) },
		func() error { return told(holder, nowhere) },
	)
}

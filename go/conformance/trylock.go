package conformance

import (
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

func tryLockBehaviours() []behaviour {
	return []behaviour{
		{name: "TryLock/FreeIsGranted", check: freeIsGranted},
		{name: "TryLock/HeldIsRefusedWithTheHolder", check: heldIsRefused},
		{name: "TryLock/HolderIsRefusedToo", check: holderIsRefused},
		{name: "TryLock/EachPartOfTheKeyCounts", check: eachPartOfTheKeyCounts},
		{name: "GetLock/NoneIsNil", check: noneIsNil},
	}
}

func freeIsGranted(s *scene) error {
	lock := newLock("acme/infra", "modules/vpc", "staging", "vpc", 5)
	return first(
		func() error { return granted(s.db, lock) },
		func() error { return held(s.db, lock) },
	)
}

func heldIsRefused(s *scene) error {
	holder := newLock("acme/infra", "modules/vpc", "staging", "vpc", 5)
	return first(
		func() error { return granted(s.db, holder) },
		func() error { return refused(s.db, rivalOf(holder), holder) },
		func() error { return held(s.db, holder) },
	)
}

// A second plan of the pull that holds the lock is told that very lock, and
// the lock keeps its time and user: Atlantis compares the pull by itself.
func holderIsRefused(s *scene) error {
	holder := simpleLock("acme/infra", ".", 5)
	again := holder
	again.User = models.User{Username: "someone else"}
	again.Time = holder.Time.AddDate(0, 0, 1)
	return first(
		func() error { return granted(s.db, holder) },
		func() error { return refused(s.db, again, holder) },
		func() error { return held(s.db, holder) },
	)
}

// Locks that differ in one part of the key only are different locks.
func eachPartOfTheKeyCounts(s *scene) error {
	locks := apart(
		newLock("acme/infra", "path", "default", "project", 5),
		newLock("acme/other", "path", "default", "project", 5),
		newLock("acme/infra", "htap", "default", "project", 5),
		newLock("acme/infra", "path", "staging", "project", 5),
		newLock("acme/infra", "path", "default", "another", 5),
		newLock("acme/infra", "path", "default", "", 5),
	)
	return first(
		func() error { return allGranted(s.db, locks...) },
		func() error { return allHeld(s.db, locks...) },
		func() error { return released(s.db, locks[0]) },
		func() error { return allHeld(s.db, locks[1:]...) },
	)
}

func noneIsNil(s *scene) error {
	other := simpleLock("acme/infra", "other", 5)
	return first(
		func() error { return free(s.db, release.NewProject("acme/infra", ".", ""), "default") },
		func() error { return granted(s.db, other) },
		func() error { return free(s.db, release.NewProject("acme/infra", ".", ""), "default") },
	)
}

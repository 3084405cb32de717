package conformance

import (
	"fmt"
	"strings"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

func listBehaviours() []behaviour {
	return []behaviour{
		{name: "List/Empty", check: func(s *scene) error { return listed(s.db) }},
		{name: "List/ExactSet", check: listsExactSet},
		{name: "List/ManyLocks", guards: ScanSeesOneNode, check: listsManyLocks},
		{name: "List/CommandLocksAndPullStatusesAreNotListed", check: onlyLocksAreListed},
		{name: "List/PullStatusOfHostBeginningWithPr", guards: ListForeignPullStatus, check: pullStatusOfPrHost},
		{name: "List/KeysOfOtherPrograms", guards: ListForeignKey, needs: RawBytes | ForeignKeys, check: keysOfOtherPrograms},
	}
}

func listsExactSet(s *scene) error {
	one := newLock("acme/infra", ".", "default", "", 5)
	two := newLock("acme/infra", "modules/vpc", "staging", "vpc", 6)
	three := newLock("group/sub/repo", ".", "default", "", 5)
	return first(
		func() error { return allGranted(s.db, one, two, three) },
		func() error { return listed(s.db, one, two, three) },
		func() error { return released(s.db, two) },
		func() error { return listed(s.db, one, three) },
	)
}

// More locks than one page of any cursor or batch.
func listsManyLocks(s *scene) error {
	const locks = 300
	var want []models.ProjectLock
	for i := range locks {
		lock := simpleLock("acme/infra", fmt.Sprintf("path/%03d", i), i)
		if err := granted(s.db, lock); err != nil {
			return err
		}
		want = append(want, lock)
	}
	return listed(s.db, want...)
}

func onlyLocksAreListed(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	return first(
		func() error { return granted(s.db, lock) },
		func() error { return commandLocked(s.db, command.Apply, fixedTime) },
		func() error { return updated(s.db, lock.Pull, planned("default", ".", "")) },
		func() error { return listed(s.db, lock) },
	)
}

// The key of a pull status begins with the host's name: no host name may make
// it look like the key of a lock.
func pullStatusOfPrHost(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	pull := lock.Pull
	pull.BaseRepo.VCSHost.Hostname = "private.example.com"
	return first(
		func() error { return granted(s.db, lock) },
		func() error { return updated(s.db, pull, planned("default", ".", "")) },
		func() error { return listed(s.db, lock) },
	)
}

func keysOfOtherPrograms(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	return first(
		func() error { return granted(s.db, lock) },
		func() error { return s.put(Foreign, "product:1", []byte("a bicycle")) },
		func() error { return s.put(Foreign, "{product}:2", []byte(`{"Project":{}}`)) },
		func() error { return s.put(Foreign, "print", []byte{0xff, 0x00}) },
		func() error { return undisturbed(listed(s.db, lock)) },
		func() error { return releasedByPull(s.db, "acme/infra", 5, lock) },
	)
}

// undisturbed turns a complaint about an undecodable value into a violation. It
// is for behaviours that put such a value there, where the call must not
// mention it; other errors stay what they are.
func undisturbed(err error) error {
	if err != nil && strings.Contains(err.Error(), "deserializ") {
		return violated("one undecodable value made the call fail: %v", err)
	}
	return err
}

package conformance

import (
	"slices"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

func restartBehaviours() []behaviour {
	return []behaviour{
		{name: "Restart/LocksStay", needs: Persistent, check: locksOutliveRestart},
		{name: "Restart/ReleasesStay", needs: Persistent, check: releasesOutliveRestart},
		{name: "Restart/CommandLocksStay", needs: Persistent, check: commandLocksOutliveRestart},
		{name: "Restart/PullStatusesStay", needs: Persistent, check: pullStatusesOutliveRestart},
		{name: "Restart/OddNamesStay", needs: Persistent, check: oddNamesOutliveRestart},
		{name: "Restart/LineBreakStays", guards: MigrationDropsNewlineKey, needs: Persistent, check: lineBreakOutlivesRestart},
	}
}

func locksOutliveRestart(s *scene) error {
	lock, other := simpleLock("acme/infra", ".", 5), newLock("group/sub/repo", "a/b", "staging", "p", 6)
	return first(
		func() error { return allGranted(s.db, lock, other) },
		s.reopen,
		func() error { return listed(s.db, lock, other) },
		func() error { return refused(s.db, rivalOf(lock), lock) },
		func() error { return allHeld(s.db, lock, other) },
		func() error { return releasedByPull(s.db, "acme/infra", 5, lock) },
	)
}

func releasesOutliveRestart(s *scene) error {
	one, two, three := simpleLock("acme/infra", "1", 5), simpleLock("acme/infra", "2", 6), simpleLock("acme/infra", "3", 7)
	return first(
		func() error { return allGranted(s.db, one, two, three) },
		func() error { return released(s.db, one) },
		func() error { return releasedByPull(s.db, "acme/infra", 6, two) },
		func() error {
			got, err := s.db.UnlockIfOwnedByPull(three.Project, three.Workspace, 7)
			if err != nil {
				return err
			}
			return isLock("UnlockIfOwnedByPull", got, three)
		},
		s.reopen,
		func() error { return listed(s.db) },
		func() error { return allGranted(s.db, rivalOf(one), rivalOf(two), rivalOf(three)) },
	)
}

func commandLocksOutliveRestart(s *scene) error {
	return first(
		func() error { return commandLocked(s.db, command.Apply, fixedTime) },
		func() error { return commandLocked(s.db, command.Plan, fixedTime) },
		func() error { return commandUnlocked(s.db, command.Plan) },
		s.reopen,
		func() error { return commandHeld(s.db, command.Apply, fixedTime) },
		func() error { return commandRefused(s.db, command.Apply) },
		func() error { return commandFree(s.db, command.Plan) },
		func() error { return commandUnlocked(s.db, command.Apply) },
	)
}

func pullStatusesOutliveRestart(s *scene) error {
	kept, gone := samplePull(), samplePull()
	gone.Num = 6
	result := policyChecked("default", ".", "", policySet("tags", false, "alice"))
	return first(
		func() error { return updated(s.db, kept, result) },
		func() error { return updated(s.db, gone, result) },
		func() error { return deletedStatus(s.db, gone) },
		s.reopen,
		func() error {
			return statusIs(s.db, kept, &models.PullStatus{Pull: kept, Projects: []models.ProjectStatus{projectStatus(result)}})
		},
		func() error { return statusIs(s.db, gone, nil) },
	)
}

func oddNamesOutliveRestart(s *scene) error {
	lineBreak := keyOf(brokenLine.lock(0))
	locks := slices.DeleteFunc(oddLocks(), func(lock models.ProjectLock) bool { return keyOf(lock) == lineBreak })
	return first(
		func() error { return allGranted(s.db, locks...) },
		s.reopen,
		func() error { return listed(s.db, locks...) },
		func() error { return allHeld(s.db, locks...) },
	)
}

func lineBreakOutlivesRestart(s *scene) error {
	lock := brokenLine.lock(5)
	return first(
		func() error { return granted(s.db, lock) },
		s.reopen,
		func() error { return held(s.db, lock) },
		func() error { return refused(s.db, rivalOf(lock), lock) },
	)
}

package conformance

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

func raceBehaviours() []behaviour {
	return []behaviour{
		{name: "Races/OneTakerWins", guards: TryLockRace, check: func(s *scene) error { return s.raceInProcess(lockRace) }},
		{name: "Races/OneCommandTakerWins", guards: CommandLockRace, check: func(s *scene) error { return s.raceInProcess(commandRace) }},
		{name: "Races/OneReleaserIsTold", guards: UnlockRace, check: oneReleaser},
		{name: "Races/OneOwnerIsTold", check: oneOwner},
		{name: "Races/OneCommandReleaserIsTold", guards: CommandUnlockRace, check: oneCommandReleaser},
		{name: "Races/NeverTwoHolders", guards: TryLockRace, check: neverTwoHolders},
		{name: "Races/PullResultsAddUp", guards: PullStatusLostUpdate, check: pullResultsAddUp},
		{name: "Races/ProjectStatusesAddUp", guards: PullStatusLostUpdate, check: projectStatusesAddUp},
	}
}

const (
	takersPerRound    = 64
	releasersPerRound = 16
	updatersPerRound  = 16
)

// race is a thing that several takers want and one may have.
type race struct {
	// take tries to take it as the taker with this number.
	take func(database release.Database, taker int) outcome
	// release checks that the winner has it and frees it for the next round.
	release func(database release.Database, winner int) error
}

// outcome is what one taker was told. It crosses processes as JSON.
type outcome struct {
	Taker    int
	Acquired bool
	// Holder is the taker that has it, as far as takers are told.
	Holder int
	// Error is empty if there was none.
	Error string
}

// holderUntold is the Holder where takers are not told.
const holderUntold = -1

var lockRace = race{
	take: func(database release.Database, taker int) outcome {
		acquired, current, err := database.TryLock(takerLock(taker))
		return outcome{Taker: taker, Acquired: acquired, Holder: current.Pull.Num, Error: errorText(err)}
	},
	release: func(database release.Database, winner int) error { return released(database, takerLock(winner)) },
}

// commandRace tells takers apart by the time of their lock.
var commandRace = race{
	take: func(database release.Database, taker int) outcome {
		_, err := database.LockCommand(command.Apply, takerTime(taker))
		if err != nil && strings.Contains(err.Error(), alreadyLockedText) {
			return outcome{Taker: taker, Holder: holderUntold}
		}
		return outcome{Taker: taker, Acquired: err == nil, Holder: taker, Error: errorText(err)}
	},
	release: func(database release.Database, winner int) error {
		return first(
			func() error { return commandHeld(database, command.Apply, takerTime(winner)) },
			func() error { return commandUnlocked(database, command.Apply) },
		)
	},
}

func takerLock(taker int) models.ProjectLock { return simpleLock("acme/infra", ".", taker) }

func takerTime(taker int) time.Time { return fixedTime.Add(time.Duration(taker) * time.Minute) }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// judge returns the one winner of a round.
func judge(outcomes []outcome) (winner int, err error) {
	var winners []int
	for _, o := range outcomes {
		if o.Error != "" {
			return 0, fmt.Errorf("taker %d: %s", o.Taker, o.Error)
		}
		if o.Acquired {
			winners = append(winners, o.Taker)
		}
	}
	if len(winners) != 1 {
		return 0, violated("%d of %d takers were told that they have the lock: %v", len(winners), len(outcomes), winners)
	}
	for _, o := range outcomes {
		if o.Holder != winners[0] && o.Holder != holderUntold {
			return 0, violated("taker %d was told that %d has the lock, but %d has it", o.Taker, o.Holder, winners[0])
		}
	}
	return winners[0], nil
}

// takeAll lets takers numbered from a first one race, as much at once as can be.
func (r race) takeAll(database release.Database, firstTaker, takers int) []outcome {
	outcomes := make([]outcome, takers)
	together(takers, func(i int) { outcomes[i] = r.take(database, firstTaker+i) })
	return outcomes
}

// together calls a function in several goroutines that start at one moment, and
// returns when all have returned.
func together(goroutines int, act func(index int)) {
	start := make(chan struct{})
	var running sync.WaitGroup
	for i := range goroutines {
		running.Go(func() {
			<-start
			act(i)
		})
	}
	close(start)
	running.Wait()
}

func (s *scene) raceInProcess(r race) error {
	for round := range s.rounds {
		winner, err := judge(r.takeAll(s.db, 1, takersPerRound))
		if err == nil {
			err = r.release(s.db, winner)
		}
		if err != nil {
			return fmt.Errorf("round %d of %d: %w", round+1, s.rounds, err)
		}
	}
	return nil
}

func oneReleaser(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	return s.raceReleasers(lock, func() (*models.ProjectLock, error) {
		return s.db.Unlock(lock.Project, lock.Workspace)
	})
}

func oneOwner(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	return s.raceReleasers(lock, func() (*models.ProjectLock, error) {
		return s.db.UnlockIfOwnedByPull(lock.Project, lock.Workspace, lock.Pull.Num)
	})
}

func (s *scene) raceReleasers(lock models.ProjectLock, release func() (*models.ProjectLock, error)) error {
	for round := range s.rounds {
		if err := granted(s.db, lock); err != nil {
			return err
		}
		got := make([]*models.ProjectLock, releasersPerRound)
		errs := make([]error, releasersPerRound)
		together(releasersPerRound, func(i int) { got[i], errs[i] = release() })

		told := 0
		for i := range releasersPerRound {
			if errs[i] != nil {
				return fmt.Errorf("round %d: %w", round+1, errs[i])
			}
			if got[i] == nil {
				continue
			}
			told++
			if err := isLock("release", got[i], lock); err != nil {
				return err
			}
		}
		if told != 1 {
			return violated("round %d: %d of %d releasers were told that they released the lock", round+1, told, releasersPerRound)
		}
	}
	return nil
}

func oneCommandReleaser(s *scene) error {
	for round := range s.rounds {
		if err := commandLocked(s.db, command.Apply, fixedTime); err != nil {
			return err
		}
		errs := make([]error, releasersPerRound)
		together(releasersPerRound, func(i int) { errs[i] = s.db.UnlockCommand(command.Apply) })

		told := 0
		for _, err := range errs {
			switch {
			case err == nil:
				told++
			case !strings.Contains(err.Error(), notLockedText):
				return fmt.Errorf("round %d: %w", round+1, err)
			}
		}
		if told != 1 {
			return violated("round %d: %d of %d releasers were told that they released the lock", round+1, told, releasersPerRound)
		}
	}
	return nil
}

// neverTwoHolders takes and releases few locks from many goroutines. Each
// holder counts itself while it holds: the count must never be two.
func neverTwoHolders(s *scene) error {
	const goroutines, projects = 16, 3
	var holders [projects]atomic.Int32
	violations := make([]error, goroutines)
	together(goroutines, func(i int) {
		for round := range s.rounds {
			project := (i + round) % projects
			lock := simpleLock("acme/infra", fmt.Sprintf("project%d", project), i+1)
			if violations[i] = holdOnce(s.db, lock, &holders[project]); violations[i] != nil {
				return
			}
		}
	})
	for _, err := range violations {
		if err != nil {
			return err
		}
	}
	return listed(s.db)
}

// holdTime is long enough for another goroutine to come in between.
const holdTime = 100 * time.Microsecond

// holdOnce takes a lock if it is free, and releases it.
func holdOnce(database release.Database, lock models.ProjectLock, holders *atomic.Int32) error {
	acquired, _, err := database.TryLock(lock)
	if err != nil {
		return fmt.Errorf("TryLock: %w", err)
	}
	if !acquired {
		return nil
	}
	if now := holders.Add(1); now != 1 {
		return violated("%d goroutines hold %q at once", now, keyOf(lock))
	}
	time.Sleep(holdTime)
	holders.Add(-1)
	got, err := database.UnlockIfOwnedByPull(lock.Project, lock.Workspace, lock.Pull.Num)
	if err != nil {
		return fmt.Errorf("UnlockIfOwnedByPull: %w", err)
	}
	return isLock("UnlockIfOwnedByPull by the holder", got, lock)
}

// updateRounds is smaller than rounds: each of these rounds is many writes.
func (s *scene) updateRounds() int { return 1 + s.rounds/10 }

func pullResultsAddUp(s *scene) error {
	pull := samplePull()
	for round := range s.updateRounds() {
		pull.Num = round + 1
		errs := make([]error, updatersPerRound)
		together(updatersPerRound, func(i int) { errs[i] = updated(s.db, pull, planned("default", dirOf(i), "")) })
		if err := s.everyProjectHas(pull, errs, models.PlannedPlanStatus); err != nil {
			return err
		}
	}
	return nil
}

func projectStatusesAddUp(s *scene) error {
	pull := samplePull()
	for round := range s.updateRounds() {
		pull.Num = round + 1
		var results []command.ProjectResult
		for i := range updatersPerRound {
			results = append(results, planned("default", dirOf(i), ""))
		}
		if err := updated(s.db, pull, results...); err != nil {
			return err
		}
		errs := make([]error, updatersPerRound)
		together(updatersPerRound, func(i int) {
			errs[i] = s.db.UpdateProjectStatus(pull, "default", dirOf(i), models.AppliedPlanStatus)
		})
		if err := s.everyProjectHas(pull, errs, models.AppliedPlanStatus); err != nil {
			return err
		}
	}
	return nil
}

func dirOf(updater int) string { return fmt.Sprintf("dir%d", updater) }

// everyProjectHas checks that the update of each project succeeded and is still there.
func (s *scene) everyProjectHas(pull models.PullRequest, errs []error, want models.ProjectPlanStatus) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	got, err := s.db.GetPullStatus(pull)
	if err != nil {
		return fmt.Errorf("GetPullStatus: %w", err)
	}
	kept := map[string]bool{}
	if got != nil {
		for _, project := range got.Projects {
			kept[project.RepoRelDir] = project.Status == want
		}
	}
	for i := range errs {
		if !kept[dirOf(i)] {
			return violated("pull #%d: the update of project %s is lost; stored: %s", pull.Num, dirOf(i), describeStatus(got))
		}
	}
	return nil
}

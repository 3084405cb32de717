package handover

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// sweeping is a sweeper of a world, its Git host, its clock, and what it cleaned up.
type sweeping struct {
	*sweeper
	w       *world
	git     *gitHost
	at      time.Time
	cleaned []int
}

func newSweeping(t *testing.T, mode atlock.StaleLocks, settings ...setting) *sweeping {
	t.Helper()
	w := newWorld(t, settings...)
	s := &sweeping{w: w, git: &gitHost{state: models.OpenPullState}, at: time.Now()}
	w.clean = func(repo models.Repo, pull models.PullRequest) error {
		s.cleaned = append(s.cleaned, pull.Num)
		_, err := w.store().UnlockByPull(repo.FullName, pull.Num)
		return err
	}
	s.sweeper = &sweeper{
		handover: w.handover, live: s.git, cleaner: w.server.VCSEventsController.PullCleaner, mode: mode, logger: logging.NewNoopLogger(t),
		now: func() time.Time { return s.at }, seen: map[string]sighting{}, asked: map[pullKey]time.Time{},
	}
	return s
}

// after lets time go by, and looks; it returns each key's evidence, with a ! once that counts.
func (s *sweeping) after(t *testing.T, passes time.Duration) map[string]string {
	t.Helper()
	s.at = s.at.Add(passes)
	must(t, s.look(t.Context()))
	found := map[string]string{}
	for _, lock := range s.found() {
		found[lock.Key] = lock.Evidence
		if lock.Confirmed {
			found[lock.Key] += "!"
		}
	}
	return found
}

func (s *sweeping) want(t *testing.T, passes time.Duration, want map[string]string) {
	t.Helper()
	if got := s.after(t, passes); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("found %v, want %v", got, want)
	}
}

const (
	keyA = "acme/infra/a/default/"
	keyB = "acme/infra/b/default/"
)

func TestLocksOfClosedPullsAreReleasedOnceThatWasSeenTwice(t *testing.T) {
	s := newSweeping(t, atlock.StaleRelease)
	wantPlanned(t, s.w.planned(1, nil, project("a"), project("b")))
	s.git.state = models.ClosedPullState
	s.want(t, time.Hour, map[string]string{}) // nobody waits, and it is young: nobody is asked
	s.want(t, 24*time.Hour, map[string]string{keyA: "closed", keyB: "closed"})
	s.want(t, staleConfirm-time.Second, map[string]string{keyA: "closed", keyB: "closed"})
	s.w.wantHolders(map[string]int{"a": 1, "b": 1})
	s.want(t, 2*time.Second, map[string]string{keyA: "closed!", keyB: "closed!"})
	s.w.wantHolders(map[string]int{})
	s.want(t, time.Minute, map[string]string{})
	if fmt.Sprint(s.cleaned) != "[1]" {
		t.Errorf("cleaned up: %v", s.cleaned)
	}
}

// With the default nothing is released, and who waits is reason enough to look.
func TestStaleLocksAreReported(t *testing.T) {
	s := newSweeping(t, atlock.StaleReport, withQueue)
	wantPlanned(t, s.w.planned(1, nil, project("a")))
	s.w.planned(2, nil, project("a"))
	s.git.state = models.ClosedPullState
	s.want(t, time.Second, map[string]string{keyA: "closed"})
	s.want(t, staleConfirm, map[string]string{keyA: "closed!"})
	s.w.wantHolders(map[string]int{"a": 1})
	found := s.found()[0]
	if found.Repo != repo || found.Pull != 1 || found.User != "ada" || !found.Confirmed {
		t.Errorf("%+v", found)
	}
	s.git.state = models.OpenPullState // it was opened again
	s.want(t, staleConfirm, map[string]string{})
}

func TestWhatIsNoEvidenceReleasesNothing(t *testing.T) {
	closed := func(s *sweeping) { s.git.state = models.ClosedPullState }
	for name, c := range map[string]struct {
		first, then func(s *sweeping)
	}{
		"an error is no answer":   {func(s *sweeping) { closed(s); s.git.away = errors.New("404") }, func(*sweeping) {}},
		"closed once, then error": {closed, func(s *sweeping) { s.git.away = errors.New("401") }},
		"opened again":            {closed, func(s *sweeping) { s.git.state = models.OpenPullState }},
		"another grant": {closed, func(s *sweeping) {
			s.w.unlocked(1)
			wantPlanned(t, s.w.planned(1, nil, project("a")))
		}},
		"another holder": {closed, func(s *sweeping) {
			s.w.unlocked(1)
			wantPlanned(t, s.w.planned(3, nil, project("a")))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSweeping(t, atlock.StaleRelease)
			wantPlanned(t, s.w.planned(1, nil, project("a")))
			c.first(s)
			s.after(t, 25*time.Hour)
			c.then(s)
			s.after(t, staleConfirm)
			s.after(t, time.Second)
			if len(s.cleaned) > 0 || len(s.w.holders()) != 1 {
				t.Errorf("cleaned up %v, held %v", s.cleaned, s.w.holders())
			}
		})
	}
}

// A command of the pull request is at work: its close, or a plan that ends soon.
func TestNothingIsReleasedUnderACommand(t *testing.T) {
	s := newSweeping(t, atlock.StaleRelease)
	wantPlanned(t, s.w.planned(1, nil, project("a")))
	s.git.state = models.ClosedPullState
	s.after(t, 25*time.Hour)
	wantPlanned(t, s.w.applied(1, map[string]outcome{"a": {asks: func() { s.want(t, staleConfirm, map[string]string{keyA: "closed!"}) }}}, project("a")))
	s.w.wantHolders(map[string]int{"a": 1})
	s.after(t, staleConfirm)
	s.w.wantHolders(map[string]int{})
}

// A cleaner that fails is asked again.
func TestAReleaseThatFailsIsTriedAgain(t *testing.T) {
	s := newSweeping(t, atlock.StaleRelease)
	wantPlanned(t, s.w.planned(1, nil, project("a")))
	s.git.state = models.ClosedPullState
	clean := s.w.clean
	s.w.clean = func(models.Repo, models.PullRequest) error { return errors.New("the folder cannot be deleted") }
	s.after(t, 25*time.Hour)
	s.after(t, staleConfirm)
	s.w.wantHolders(map[string]int{"a": 1})
	s.w.clean = clean
	s.after(t, staleConfirm)
	s.w.wantHolders(map[string]int{})
}

// A lock of a project that its pull request does not have any more is told, and never released.
func TestOrphansAreReported(t *testing.T) {
	s := newSweeping(t, atlock.StaleRelease)
	wantPlanned(t, s.w.planned(1, nil, project("a"), project("b")))
	var database db.Database = s.w.database
	status, err := database.GetPullStatus(pull(1))
	must(t, err)
	must(t, database.DeletePullStatus(pull(1)))
	_, err = database.UpdatePullWithResults(status.Pull, []command.ProjectResult{{
		Command: command.Plan, RepoRelDir: "b", Workspace: "default",
		ProjectCommandOutput: command.ProjectCommandOutput{PlanSuccess: &models.PlanSuccess{}},
	}})
	must(t, err)
	s.want(t, 0, map[string]string{keyA: "orphan"})
	s.want(t, staleConfirm, map[string]string{keyA: "orphan!"})
	s.want(t, 25*time.Hour, map[string]string{keyA: "orphan!"})
	s.w.wantHolders(map[string]int{"a": 1, "b": 1})
	if len(s.cleaned) > 0 {
		t.Errorf("cleaned up: %v", s.cleaned)
	}
	// Closed says more, and counts from when that was seen.
	s.git.state = models.ClosedPullState
	s.want(t, staleConfirm, map[string]string{keyA: "closed", keyB: "closed"})
}

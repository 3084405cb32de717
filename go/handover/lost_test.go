package handover

import (
	"fmt"
	"testing"

	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// finds are the plans that lie in the folders of pull requests.
type finds struct {
	events.PendingPlanFinder
	plans []events.PendingPlan
}

func (f *finds) Find(string) ([]events.PendingPlan, error) { return f.plans, nil }

func planOf(path string) events.PendingPlan {
	return events.PendingPlan{RepoRelDir: path, Workspace: "default"}
}

// releasedOutside releases a lock as the command line does, whose releases Atlantis does not see.
func (w *world) releasedOutside(path string) {
	w.t.Helper()
	_, err := w.database.Unlock(models.NewProject(repo, path, ""), "default")
	must(w.t, err)
}

func TestAPlanWhoseLockIsLostIsDiscarded(t *testing.T) {
	w := newWorld(t)
	lost := w.handover.lost
	lost.finder = &finds{plans: []events.PendingPlan{planOf("a"), planOf("b"), planOf("c")}}
	wantPlanned(t, w.planned(1, nil, project("a"), project("b"))) // of c there is a plan without a lock, as the mode on_apply makes them
	must(t, lost.look())
	must(t, lost.look())
	w.releasedOutside("a")
	must(t, lost.look())
	if len(w.deleted) > 0 {
		t.Fatalf("what was seen once is no evidence: %v", w.deleted)
	}
	wantPlanned(t, w.planned(2, nil, project("a")))
	must(t, lost.look())
	if fmt.Sprint(w.deleted) != "[#1 "+keyA+"]" {
		t.Fatalf("deleted plans: %v", w.deleted)
	}
	want(t, w.told()["acme/infra#1"], "The plan of `a` was discarded", "!2 holds it now")
	status, err := w.database.GetPullStatus(pull(1))
	must(t, err)
	if status.Projects[0].Status != models.DiscardedPlanStatus || status.Projects[1].Status == models.DiscardedPlanStatus {
		t.Errorf("%+v", status.Projects)
	}
	for range 3 { // and that is that
		must(t, lost.look())
	}
	if len(w.deleted) != 1 || len(w.git.comments) != 1 {
		t.Errorf("%v, %q", w.deleted, w.git.comments)
	}
	w.wantHolders(map[string]int{"a": 2, "b": 1})
}

// A plan that was made anew, or is being made, is not discarded.
func TestAPlanThatIsMadeAnewIsKept(t *testing.T) {
	w := newWorld(t)
	lost := w.handover.lost
	lost.finder = &finds{plans: []events.PendingPlan{planOf("a")}}
	wantPlanned(t, w.planned(1, nil, project("a")))
	w.releasedOutside("a")
	must(t, lost.look())
	wantPlanned(t, w.planned(1, map[string]outcome{"a": {asks: func() { must(t, lost.look()); must(t, lost.look()) }}}, project("a")))
	must(t, lost.look())
	must(t, lost.look())
	if len(w.deleted) > 0 || len(w.git.comments) > 0 {
		t.Errorf("%v, %q", w.deleted, w.git.comments)
	}
}

// The lock may come back between the look and the discard.
func TestALockThatIsHeldAgainKeepsItsPlan(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	lock, err := w.database.GetLock(models.NewProject(repo, "a", ""), "default")
	must(t, err)
	kept, err := w.handover.records.read(pull(1))
	must(t, err)
	if w.handover.discardPlan(*lock, kept.Tokens[keyA], nil) {
		t.Error("it was discarded")
	}
}

// Plans without a guard, and records of older versions, are nobody's business.
func TestOnlyPlansUnderAGuardAreLost(t *testing.T) {
	if w := newWorld(t, withoutGuard); w.handover.lost != nil {
		t.Error("there is no guard, and plans are looked for")
	}
	w := newWorld(t)
	w.handover.lost.clones = t.TempDir() + "/none"
	must(t, w.handover.lost.look())
}

// A plan that is being made may lie there before its lock is taken again.
func TestNothingIsDiscardedDuringAPlan(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	lock, err := w.database.GetLock(models.NewProject(repo, "a", ""), "default")
	must(t, err)
	w.releasedOutside("a")
	discard := func() bool {
		return w.handover.discardPlan(*lock, atlock.NoToken, func(*atlock.PullID) string { return "discarded" })
	}
	w.plan[1] = func(*command.Context, *events.CommentCommand) {
		if discard() {
			t.Error("a plan was discarded while it was made")
		}
	}
	w.run(command.Plan, 1, events.CommentCommand{Name: command.Plan})
	if !discard() {
		t.Error("it was not discarded after that")
	}
}

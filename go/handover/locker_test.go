package handover

import (
	"runtime"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/config/valid"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"
)

// stocks is Atlantis's own refusal.
const stocks = "This project is currently locked by an unapplied plan from pull !1. To continue, delete the lock from !1 or apply that plan and " +
	"merge the pull request.\n\nOnce the lock is released, comment `atlantis plan` here to re-plan."

func TestARefusalIsStocksAndThenThePlace(t *testing.T) {
	w := newWorld(t, withQueue)
	wantPlanned(t, w.planned(1, nil, project("a")))
	for num, added := range map[int]string{
		2: "\n\n**This pull request is next in queue. It is planned automatically when its turn comes.** To leave the queue, comment `atlantis unlock`.",
	} {
		if said := w.planned(num, nil, project("a"))["a"]; said != stocks+added {
			t.Fatalf("got %q", said)
		}
	}
	want(t, w.planned(3, nil, project("a"))["a"], stocks, "**This pull request is 2nd in queue, behind !2. It")
	w.unlocked(1)
	want(t, w.planned(3, nil, project("a"))["a"], "locked by an unapplied plan from pull !2", "!2 is next and is being planned. **This")
	wantPlanned(t, w.planned(2, nil, project("a")))
}

func TestWithoutAQueueARefusalIsStocks(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	if said := w.planned(2, nil, project("a"))["a"]; said != stocks {
		t.Fatalf("got %q", said)
	}
}

// The library does not know the kind of Git host of a pull request that only waits: its link is that of the one that asks.
func TestABlockedSetIsLinkedAsItsOwnHostDoes(t *testing.T) {
	w := newWorld(t, withQueue, withSets)
	wantPlanned(t, w.planned(1, nil, project("b")))
	said := w.planned(2, nil, project("a"), project("b"))
	want(t, said["a"], stocks, "This pull request takes all of its locks at once, and `b` is locked by !1: nothing was planned.")
	want(t, said["b"], stocks)
	w.wantHolders(map[string]int{"b": 1})
}

// Whoever is outside of a bracket, such as Atlantis's API, is answered as stock does.
func TestOutsideOfABracketStockAnswers(t *testing.T) {
	w := newWorld(t, withQueue)
	wantPlanned(t, w.planned(1, nil, project("a")))
	answer, err := w.runner.Locker.TryLock(
		logging.NewNoopLogger(t), pull(2), models.User{}, "default", models.NewProject(repo, "a", ""), true)
	must(t, err)
	if answer.LockFailureReason != stocks {
		t.Errorf("got %q", answer.LockFailureReason)
	}
	w.wantNobodyWaits()
}

func (w *world) wantNobodyWaits() {
	w.t.Helper()
	queues, err := w.database.Queues(repo)
	must(w.t, err)
	if len(queues[repo]) != 0 {
		w.t.Errorf("somebody waits: %+v", queues)
	}
}

// A project that is locked at its apply, or never, takes no lock in a plan.
func TestAPlanTakesTheLocksOfItsModeAlone(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		free := project("a")
		free.RepoLocksMode = valid.RepoLocksDisabledMode
		wantPlanned(t, w.planned(1, nil, free, project("b")))
		w.wantHolders(map[string]int{"b": 1})
		late := project("a")
		late.RepoLocksMode = valid.RepoLocksOnApplyMode
		wantPlanned(t, w.applied(1, nil, late))
		w.wantHolders(map[string]int{"a": 1, "b": 1})
	})
}

// An apply that is refused does not wait: nobody would apply it later.
func TestAnApplyDoesNotWait(t *testing.T) {
	w := newWorld(t, withQueue)
	late := project("a")
	late.RepoLocksMode = valid.RepoLocksOnApplyMode
	wantPlanned(t, w.applied(1, nil, late))
	if said := w.applied(2, nil, late)["a"]; said != stocks {
		t.Errorf("got %q", said)
	}
	w.wantNobodyWaits()
}

// The pull request is merged in the middle of its plan, between two of its projects.
func TestAPullThatIsClosedInMidPlanHoldsNothing(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		w.clean = func(_ models.Repo, closed models.PullRequest) error {
			_, err := w.store().UnlockByPull(repo, closed.Num)
			return err
		}
		wantPlanned(t, w.planned(1, nil, project("x")))
		wantPlanned(t, w.applied(1, nil, project("x"))) // its lock would outlive the end of a plan
		closes := func() { must(t, w.server.VCSEventsController.PullCleaner.CleanUpPull(nil, pull(1).BaseRepo, pull(1))) }
		said := w.planned(1, map[string]outcome{"a": {asks: closes}}, project("a"), project("b"))
		want(t, said["b"], "!1 is closed: a closed pull request takes no new lock")
		w.wantHolders(map[string]int{})
		wantPlanned(t, w.planned(1, nil, project("a"))) // it was opened again
		w.wantHolders(map[string]int{"a": 1})
	})
}

// A lock that is granted while the pull request is being closed is released by the end of its plan.
func TestALockThatIsGrantedDuringACloseIsReleased(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		w.clean = func(models.Repo, models.PullRequest) error { return nil } // its release came just before the grant
		closes := func() { must(t, w.server.VCSEventsController.PullCleaner.CleanUpPull(nil, pull(1).BaseRepo, pull(1))) }
		w.planned(1, map[string]outcome{"a": {asks: closes}}, project("a"))
		w.wantHolders(map[string]int{})
	})
}

// The pull request is merged while the hooks of its plan run: the plan has not begun, and locks nothing.
func TestAPullThatIsClosedBeforeItsPlanLocksNothing(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		w.clean = func(models.Repo, models.PullRequest) error { return nil }
		closes := func(num int) {
			must(t, w.server.VCSEventsController.PullCleaner.CleanUpPull(nil, pull(num).BaseRepo, pull(num)))
		}
		runner := w.server.CommandRunner.CommentCommandRunnerByCmd[command.Plan]
		ctx := w.context(1)
		runner.(events.PreWorkflowHooksSkipper).ShouldSkipPreWorkflowHooks(ctx, nil)
		closes(2)
		if w.handover.expected.isClosed(ctx) {
			t.Error("another one was closed")
		}
		closes(1)
		w.projects[1] = []command.ProjectContext{project("a")}
		w.plan[1] = func(ctx *command.Context, comment *events.CommentCommand) {
			found, err := w.builder.ProjectCommandBuilder.BuildAutoplanCommands(ctx)
			must(t, err)
			said := map[string]string{}
			w.doPlan(ctx, found[0], outcome{}, said)
			want(t, said["a"], "!1 is closed: a closed pull request takes no new lock")
		}
		runner.Run(ctx, nil)
		w.wantHolders(map[string]int{})
		wantPlanned(t, w.planned(1, nil, project("a"))) // it was opened again
	})
}

// A command that never came is forgotten.
func TestWhoNeverCameIsForgotten(t *testing.T) {
	w := newWorld(t)
	skipper := w.server.CommandRunner.CommentCommandRunnerByCmd[command.Plan].(events.PreWorkflowHooksSkipper)
	skipper.ShouldSkipPreWorkflowHooks(w.context(1), nil)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		w.handover.expected.mutex.Lock()
		left := len(w.handover.expected.commands)
		w.handover.expected.mutex.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it is still expected")
		}
	}
}

// A namesake on another Git host has brackets of its own.
func TestBracketsAreOfOneHost(t *testing.T) {
	w := newWorld(t)
	other := pull(1)
	other.BaseRepo.VCSHost.Hostname = "elsewhere.example.com"
	w.planned(1, map[string]outcome{"a": {asks: func() {
		if w.handover.open.working(keyOf(other.BaseRepo, 1)) != nil || w.handover.open.working(keyOf(pull(1).BaseRepo, 1)) == nil {
			t.Error("the bracket is not that of its host")
		}
	}}}, project("a"))
}

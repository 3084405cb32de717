package handover

import (
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
)

// bothOrders runs a test with and without a queue.
func bothOrders(t *testing.T, test func(t *testing.T, w *world), settings ...setting) {
	t.Helper()
	t.Run("queue", func(t *testing.T) { test(t, newWorld(t, append(settings, withQueue)...)) })
	t.Run("no queue", func(t *testing.T) { test(t, newWorld(t, settings...)) })
}

// While the holder plans again, whoever waits does not get the lock.
func TestTheHolderPlansAgainWithoutGivingTheLockAway(t *testing.T) {
	w := newWorld(t, withQueue)
	wantPlanned(t, w.planned(1, nil, project("a"), project("b")))
	want(t, w.planned(2, nil, project("b"))["b"], "locked by an unapplied plan from pull !1", "next in queue")
	var meanwhile map[string]string
	said := w.planned(1, map[string]outcome{"a": {asks: func() { meanwhile = w.planned(2, nil, project("b")) }}}, project("a"), project("b"))
	wantPlanned(t, said)
	want(t, meanwhile["b"], "locked by an unapplied plan from pull !1")
	w.wantHolders(map[string]int{"a": 1, "b": 1})
}

// What the holder's plan does not take again is released at its end.
func TestAPlanThatFailsReleasesItsLock(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		w.planned(1, map[string]outcome{"a": {fails: true}}, project("a"), project("b"))
		w.wantHolders(map[string]int{"b": 1})
	})
}

// What was applied is not merged: its lock stays, however many plans fail, until a person gives it up.
func TestWhatWasAppliedKeepsItsLock(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		wantPlanned(t, w.planned(1, nil, project("a"), project("b")))
		wantPlanned(t, w.applied(1, nil, project("a")))
		for range 3 { // the first plan overwrites the status that says applied
			w.planned(1, map[string]outcome{"a": {fails: true}, "b": {fails: true}}, project("a"), project("b"))
			w.wantHolders(map[string]int{"a": 1})
		}
		w.unlocked(1)
		w.wantHolders(map[string]int{})
		w.planned(1, map[string]outcome{"a": {fails: true}}, project("a"))
		w.wantHolders(map[string]int{})
	})
}

// A server that starts anew still knows what was applied.
func TestWhatWasAppliedIsKnownFromThePullStatusAlone(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		wantPlanned(t, w.planned(1, nil, project("a")))
		_, err := w.database.UpdatePullWithResults(pull(1), []command.ProjectResult{{
			Command: command.Apply, RepoRelDir: "a", Workspace: "default", ProjectCommandOutput: command.ProjectCommandOutput{ApplySuccess: "yes"},
		}})
		must(t, err)
		for range 2 {
			w.planned(1, map[string]outcome{"a": {fails: true}}, project("a"))
			w.wantHolders(map[string]int{"a": 1})
		}
	})
}

// `atlantis import` overwrites the status that says applied.
func TestWhatWasAppliedKeepsItsLockAfterAnImport(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		wantPlanned(t, w.planned(1, nil, project("a")))
		wantPlanned(t, w.applied(1, nil, project("a")))
		_, err := w.store().UpdatePullWithResults(pull(1), []command.ProjectResult{{Command: command.Import, RepoRelDir: "a", Workspace: "default"}})
		must(t, err)
		w.planned(1, map[string]outcome{"a": {fails: true}}, project("a"))
		w.wantHolders(map[string]int{"a": 1})
	})
}

// Of two brackets of one pull request, the one that made its list last works.
func TestWhichBracketWorks(t *testing.T) {
	for range 20 { // a map has no order
		var open brackets
		key := keyOf(pull(1).BaseRepo, 1)
		first, second := &bracket{key: key}, &bracket{key: key}
		open.add(&command.Context{}, first)
		open.add(&command.Context{}, second)
		if open.working(key) != nil {
			t.Fatal("one works that has no list")
		}
		for _, works := range []*bracket{first, second, first} {
			if open.build(works, nil); open.working(key) != works {
				t.Fatal("another works")
			}
		}
	}
}

func TestABracketEndsAfterAPanic(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		func() {
			defer func() { _ = recover() }()
			w.planned(1, map[string]outcome{"a": {asks: func() { panic("a step") }}}, project("a"))
		}()
		if len(w.handover.open.open) != 0 {
			t.Error("the bracket is still open")
		}
		wantPlanned(t, w.planned(1, nil, project("a")))
	})
}

// Atlantis asks a runner whether hooks are to be skipped only if the runner can tell.
func TestWhoCanSkipHooksStillCan(t *testing.T) {
	w := newWorld(t)
	for name, can := range map[command.Name]bool{command.Plan: true, command.Apply: true, command.Unlock: false} {
		skipper, ok := w.server.CommandRunner.CommentCommandRunnerByCmd[name].(events.PreWorkflowHooksSkipper)
		if ok != can || ok && !skipper.ShouldSkipPreWorkflowHooks(w.context(1), nil) {
			t.Errorf("%s: can skip: %v, want %v", name, ok, can)
		}
	}
}

// A release that is built otherwise stops the start.
func TestAnotherReleaseIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		says   string
	}{
		"no cancel": {
			func(w *world) { delete(w.server.CommandRunner.CommentCommandRunnerByCmd, command.Cancel) },
			"the runner of the command cancel in this Atlantis is a <nil>, and a *events.CancelCommandRunner was expected",
		},
		"another runner": {
			func(w *world) {
				w.server.CommandRunner.CommentCommandRunnerByCmd[command.Cancel] = &events.CancelCommandRunner{ProjectCmdRunner: &events.ProjectOutputWrapper{}}
			},
			"the cancel runner's ProjectCmdRunner in this Atlantis is a *events.ProjectOutputWrapper",
		},
		"another locker": {
			func(w *world) { w.runner.Locker = locker{} },
			"the project command runner's Locker in this Atlantis is a handover.locker",
		},
		"another builder": {
			func(w *world) { w.server.APIController.ProjectCommandBuilder = lists{} },
			"the API controller's ProjectCommandBuilder in this Atlantis is a handover.lists",
		},
		"no plan": {
			func(w *world) { delete(w.server.CommandRunner.CommentCommandRunnerByCmd, command.Plan) },
			"Atlantis has no runner of the command plan",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			store := NewStore(w.database)
			w.server = w.atlantis(store)
			c.change(w)
			if _, err := Wire(w.server, w.database, Options{Store: store}); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s", err, c.says)
			}
		})
	}
}

// With --disable-repo-locking nothing is locked, and so nothing may be refused.
func TestNothingIsWiredWhereAtlantisLocksNothing(t *testing.T) {
	w := newWorld(t)
	store := NewStore(w.database)
	w.server = w.atlantis(store)
	w.server.Locker = locking.NewNoOpLocker()
	_, err := Wire(w.server, w.database, Options{Store: store})
	must(t, err)
	if _, is := w.runner.Locker.(*events.DefaultProjectLocker); !is || store.handover.Load() != nil {
		t.Error("something was wired")
	}
}

// A second command that is told to wait does not take the place of the one that works.
func TestABusyCommandDoesNotEndTheOneThatWorks(t *testing.T) {
	w := newWorld(t, withQueue)
	wantPlanned(t, w.planned(1, nil, project("a")))
	busy := func() {
		w.apply = func(*command.Context, *events.CommentCommand) {} // Atlantis answers that it is busy, and makes no list
		w.run(command.Apply, 1, events.CommentCommand{Name: command.Apply})
	}
	wantPlanned(t, w.planned(1, map[string]outcome{"a": {asks: busy}}, project("a"), project("b")))
	w.wantHolders(map[string]int{"a": 1, "b": 1})
}

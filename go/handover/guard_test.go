package handover

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/runatlantis/atlantis/server/core/config/valid"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

const (
	replan  = "Comment `atlantis plan` here to re-plan."
	nobody  = "This plan's lock was given up since it was made, and nobody holds the lock now: nothing was applied.\n\n" + replan
	another = "This plan's lock was given up since it was made, and taken again"
)

// Locks that were released from outside, for example by `atlock unlock-pull`, or by a store that released and then reported an error.
func TestWhoLostTheLockDoesNotApply(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		wantPlanned(t, w.planned(1, nil, project("a")))
		_, err := w.database.UnlockByPull(repo, 1)
		must(t, err)
		if said := w.applied(1, nil, project("a"))["a"]; said != nobody {
			t.Fatalf("got %q", said)
		}
		wantPlanned(t, w.planned(2, nil, project("a")))
		want(t, w.applied(1, nil, project("a"))["a"], "and pull !2 holds the lock now: nothing was applied. To continue, delete the lock from !2",
			"Once the lock is released, comment `atlantis plan` here to re-plan.")
		wantPlanned(t, w.applied(2, nil, project("a")))
	})
}

// `atlantis unlock` while the plan runs: the plan ends well, and without the lock.
func TestWhoWasUnlockedInMidPlanDoesNotApply(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		wantPlanned(t, w.planned(1, map[string]outcome{"a": {asks: func() { w.unlocked(1) }}}, project("a")))
		wantPlanned(t, w.planned(2, nil, project("a")))
		want(t, w.applied(1, nil, project("a"))["a"], "pull !2 holds the lock now")
	})
}

// The lock is the pull request's again, and the plan is from before.
func TestAPlanOfAnEarlierGrantIsNotApplied(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		wantPlanned(t, w.planned(1, nil, project("a")))
		_, err := w.database.UnlockByPull(repo, 1)
		must(t, err)
		wantPlanned(t, w.planned(2, nil, project("a")))
		w.unlocked(2)
		w.planned(1, map[string]outcome{"b": {}}, project("b")) // another project of the first
		_, _, err = w.database.TryLock(models.ProjectLock{
			Project: models.NewProject(repo, "a", ""), Workspace: "default", Pull: pull(1), User: models.User{Username: "ada"},
		})
		must(t, err)
		want(t, w.applied(1, nil, project("a"))["a"], another, replan)
		wantPlanned(t, w.planned(1, nil, project("a")))
		wantPlanned(t, w.applied(1, nil, project("a")))
	})
}

// A plan from before the guard has no token, and passes if the lock is held.
func TestAPlanFromBeforeTheGuardNeedsTheLockAlone(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	must(t, os.Remove(filepath.Join(w.folder, repo, "1")+recordSuffix))
	wantPlanned(t, w.applied(1, nil, project("a")))
}

// A plan whose grant nobody saw is bound to none, and not to that of the plan before.
func TestAPlanOfAnUnknownGrantIsBoundToNone(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	_, err := w.store().UpdatePullWithResults(pull(1), []command.ProjectResult{{
		Command: command.Plan, RepoRelDir: "a", Workspace: "default",
		ProjectCommandOutput: command.ProjectCommandOutput{PlanSuccess: &models.PlanSuccess{}},
	}})
	must(t, err)
	kept, err := w.handover.records.read(pull(1))
	must(t, err)
	if len(kept.Tokens) != 0 {
		t.Errorf("it is bound to %v", kept.Tokens)
	}
}

// guardCounts are those of allowed, refused and unknown.
func guardCounts() (counts [3]float64) {
	for i, result := range []string{guardAllowed, guardRefused, guardUnknown} {
		counts[i] = testutil.ToFloat64(guardAnswers.WithLabelValues(result))
	}
	return counts
}

// wantCounted tells whether the guard counted so many more.
func wantCounted(t *testing.T, before [3]float64, more ...float64) {
	t.Helper()
	now := guardCounts()
	for i := range now {
		if now[i]-before[i] != more[i] {
			t.Errorf("the guard counted %v after %v, and not %v more", now, before, more)
		}
	}
}

// Each answer of the guard is counted once, also to a call of Atlantis's API; an apply that it is not asked about is not.
func TestWhatTheGuardSaysIsCounted(t *testing.T) {
	w := newWorld(t)
	before := guardCounts()
	wantPlanned(t, w.planned(1, nil, project("a")))
	wantPlanned(t, w.applied(1, nil, project("a")))
	wantCounted(t, before, 1, 0, 0)
	w.unlocked(1)
	w.applied(1, nil, project("a"))
	wantCounted(t, before, 1, 1, 0)
	free := project("free")
	free.RepoLocksMode = valid.RepoLocksDisabledMode
	wantPlanned(t, w.planned(1, nil, free))
	wantPlanned(t, w.applied(1, nil, free))
	wantCounted(t, before, 1, 1, 0)

	w.projects[1] = []command.ProjectContext{project("a")}
	ctx := w.context(1)
	ctx.API = true
	api := builder{lists{w: w}, w.handover}
	if _, err := api.BuildApplyCommands(ctx, nil); err == nil {
		t.Error("a call of the API applies without the lock")
	}
	wantCounted(t, before, 1, 2, 0)
	wantPlanned(t, w.planned(1, nil, project("a")))
	_, err := api.BuildApplyCommands(ctx, nil)
	must(t, err)
	wantCounted(t, before, 2, 2, 0)
}

// Where the lock cannot be asked for, nobody applies.
func TestWhenInDoubtNobodyApplies(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	asked := atlock.ProjectWorkspace{Project: models.NewProject(repo, "a", ""), Workspace: "default"}
	must(t, os.WriteFile(filepath.Join(w.folder, repo, "1")+recordSuffix, []byte("{"), 0o600))
	before := guardCounts()
	said := func() string {
		return w.handover.guard(w.handover.logger, &bracket{command: atlock.RunApply}, pull(1), asked)
	}
	want(t, said(), "Nothing was applied, because the record of the lock under which this plan was made cannot be read", replan)
	must(t, w.database.Close())
	want(t, said(), "Nothing was applied, because the lock store did not say", "comment `atlantis apply` here again")
	wantCounted(t, before, 0, 0, 2)
}

// A project whose mode is not known counts as one that needs the lock.
func TestAProjectThatNobodyListedIsAsked(t *testing.T) {
	w := newWorld(t)
	in := &bracket{command: atlock.RunApply}
	asked := atlock.ProjectWorkspace{Project: models.NewProject(repo, "a", ""), Workspace: "default"}
	if said := w.handover.guard(w.handover.logger, in, pull(1), asked); said != nobody {
		t.Errorf("got %q", said)
	}
}

func TestModesAreRespected(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		for _, mode := range []valid.RepoLocksMode{valid.RepoLocksOnApplyMode, valid.RepoLocksDisabledMode} {
			free := project("a")
			free.RepoLocksMode = mode
			wantPlanned(t, w.planned(1, nil, free))
			w.wantHolders(map[string]int{})
			wantPlanned(t, w.applied(1, nil, free))
			w.unlocked(1)
		}
	})
}

func TestTheGuardCanBeSwitchedOff(t *testing.T) {
	w := newWorld(t, withoutGuard)
	wantPlanned(t, w.planned(1, nil, project("a")))
	_, err := w.database.UnlockByPull(repo, 1)
	must(t, err)
	wantPlanned(t, w.planned(2, nil, project("a")))
	wantPlanned(t, w.applied(1, nil, project("a")))
}

func TestWhereTheGuardIsOn(t *testing.T) {
	modes := func(mode atlock.Mode, backend atlock.BackendKind) atlock.Config {
		return atlock.Config{Locking: atlock.Locking{
			Backend: backend, Enhanced: atlock.Enhanced{Enabled: mode != atlock.ModeStrict, CompatibilityMode: mode},
		}}
	}
	for _, c := range []struct {
		mode    atlock.Mode
		backend atlock.BackendKind
		set     atlock.ApplyGuard
		on      bool
	}{
		{atlock.ModeStrict, "", "", false}, {atlock.ModeStrict, atlock.BackendBoltDB, "", false}, {atlock.ModeStrict, atlock.BackendSled, "", true},
		{atlock.ModeHybrid, atlock.BackendBoltDB, "", true}, {atlock.ModeNative, "", "", true},
		{atlock.ModeStrict, "", atlock.GuardOn, true}, {atlock.ModeNative, "", atlock.GuardOff, false},
	} {
		settings := modes(c.mode, c.backend)
		settings.Locking.Enhanced.ApplyGuard = c.set
		if on := (Options{Settings: settings}).guard(); on != c.on {
			t.Errorf("%+v: on: %v", c, on)
		}
	}
}

// The page must not release the lock under a running apply; with the guard off it may, as stock's.
func TestThePageDoesNotReleaseUnderAnApply(t *testing.T) {
	name := models.NewProject(repo, "a", "")
	for _, c := range []struct {
		settings []setting
		refused  bool
	}{{nil, true}, {[]setting{withoutGuard}, false}} {
		w := newWorld(t, c.settings...)
		wantPlanned(t, w.planned(1, nil, project("a"), project("b")))
		discard := func() {
			_, err := w.store().Unlock(name, "default")
			if refused := err != nil; refused != c.refused {
				t.Errorf("got %v", err)
			} else if refused {
				want(t, err.Error(), "an apply of #1 runs since ", "try again when that is over")
			}
			if _, err := w.store().Unlock(models.NewProject(repo, "b", ""), "default"); err != nil {
				t.Error(err) // not what is applied
			}
		}
		wantPlanned(t, w.applied(1, map[string]outcome{"a": {asks: discard}}, project("a")))
		if _, err := w.store().Unlock(name, "default"); err != nil {
			t.Error(err)
		}
		w.wantHolders(map[string]int{})
	}
}

// The guard's refusal is no apply: a plan that fails releases its lock as ever.
func TestARefusedApplyIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	_, err := w.database.UnlockByPull(repo, 1)
	must(t, err)
	w.applied(1, nil, project("a"))
	kept, err := w.handover.records.read(pull(1))
	must(t, err)
	if len(kept.Applied) != 0 {
		t.Errorf("remembered: %v", kept.Applied)
	}
}

// What is frozen is not applied, whatever the freeze says of plans, and whenever the project is locked. Its lock stays.
func TestWhatIsFrozenIsNotApplied(t *testing.T) {
	w := newWorld(t, withQueue)
	onApply := project("b")
	onApply.RepoLocksMode = valid.RepoLocksOnApplyMode
	wantPlanned(t, w.planned(1, nil, project("a"), onApply))
	for _, plans := range []string{atlock.FreezePlansAllow, atlock.FreezePlansDeny} {
		freeze, err := w.database.Freeze(atlock.FreezeRequest{
			Pattern: atlock.FreezePattern{Repo: "acme/*"}, Reason: "incident 1231", Owner: "ada", OpenEnded: true, Plans: plans,
		})
		must(t, err)
		for path, said := range w.applied(1, nil, project("a"), onApply) {
			want(t, said, "This project is frozen, and nothing was applied: ", "by ada until that is ended: incident 1231",
				"Once the freeze is over, comment `atlantis apply` here again.")
			if path == "b" {
				w.wantHolders(map[string]int{"a": 1})
			}
		}
		ctx := w.context(1)
		ctx.API = true
		w.projects[1] = []command.ProjectContext{project("a")}
		if _, err := w.builder.ProjectCommandBuilder.BuildApplyCommands(ctx, &events.CommentCommand{Name: command.Apply}); err == nil {
			t.Error("the API applies what is frozen")
		} else {
			want(t, err.Error(), "incident 1231")
		}
		_, err = w.database.Thaw(freeze.ID)
		must(t, err)
	}
	wantPlanned(t, w.applied(1, nil, project("a"), onApply))
}

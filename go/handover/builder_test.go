package handover

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/core/config/valid"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// A commit that drops a project: stock deletes its plan and keeps its lock.
func TestAProjectThatIsNotTouchedAnyMoreGivesItsLockUp(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		wantPlanned(t, w.planned(1, nil, project("a"), project("b"), project("c")))
		wantPlanned(t, w.applied(1, nil, project("c")))
		wantPlanned(t, w.planned(1, nil, project("a")))
		w.wantHolders(map[string]int{"a": 1, "c": 1}) // c was applied
	})
}

// A plan of one project says nothing of the others.
func TestAPlanOfOneProjectLeavesTheOthersAlone(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		wantPlanned(t, w.planned(1, nil, project("a"), project("b")))
		wantPlanned(t, w.plannedBy(1, events.CommentCommand{Name: command.Plan, RepoRelDir: "a"}, nil, project("a")))
		w.wantHolders(map[string]int{"a": 1, "b": 1})
	})
}

// What the pull request does not want any more, it does not wait for.
func TestAPlanLeavesTheQueuesOfOtherProjects(t *testing.T) {
	w := newWorld(t, withQueue)
	waits := func() string {
		queues, err := w.database.Queues(repo)
		must(t, err)
		var keys []string
		for _, waiting := range queues[repo] {
			for key := range waiting.Keys {
				keys = append(keys, fmt.Sprintf("%d:%s", waiting.Pull.Num, key))
			}
		}
		slices.Sort(keys)
		return strings.Join(keys, " ")
	}
	wantPlanned(t, w.planned(1, nil, project("a"), project("b")))
	w.planned(2, nil, project("a"), project("b"))
	w.planned(3, nil, project("b"))
	w.plannedBy(2, events.CommentCommand{Name: command.Plan, RepoRelDir: "a"}, nil, project("a"))
	if got := waits(); got != "2:acme/infra/a/default/ 2:acme/infra/b/default/ 3:acme/infra/b/default/" {
		t.Fatalf("after a plan of one project: %s", got)
	}
	w.planned(2, nil, project("a"))
	if got := waits(); got != "2:acme/infra/a/default/ 3:acme/infra/b/default/" {
		t.Fatalf("after a plan of the pull: %s", got)
	}
}

// The steps of an apply know their lock, and the list that they come from stays as it is.
func TestStepsKnowTheirLock(t *testing.T) {
	w := newWorld(t)
	shared := make([]valid.Step, 1, 8)
	shared[0] = valid.Step{StepName: "apply"}
	a, b := project("a"), project("b")
	a.Steps, b.Steps, b.ProjectName, b.RepoLocksMode = shared, shared, "backend", valid.RepoLocksOnApplyMode
	wantPlanned(t, w.planned(1, nil, a, b))
	w.projects[1] = []command.ProjectContext{a, b}
	found, err := w.builder.ProjectCommandBuilder.BuildApplyCommands(w.context(1), &events.CommentCommand{Name: command.Apply})
	must(t, err)
	env := func(project command.ProjectContext) string {
		var set []string
		for _, step := range project.Steps {
			set = append(set, step.StepName+":"+step.EnvVarName+"="+step.EnvVarValue)
		}
		return strings.Join(set, " ")
	}
	checked, err := w.database.For(pull(1)).Check(models.NewProject(repo, "a", ""), "default", 0)
	must(t, err)
	if got, want := env(found[0]), fmt.Sprintf(
		"env:ATLOCK_KEY=acme/infra/a/default/ env:ATLOCK_PULL=1 env:ATLOCK_TOKEN=%d apply:=", checked.Token); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := env(found[1]); got != "env:ATLOCK_KEY=acme/infra/b/default/backend env:ATLOCK_PULL=1 apply:=" {
		t.Errorf("without a lock: %s", got)
	}
	if len(shared) != 1 || shared[0].StepName != "apply" || shared[:2][1].StepName != "" {
		t.Errorf("the shared list was changed: %+v", shared[:2])
	}
}

// When a call of the API ends, Atlantis releases all locks of its pull request.
func TestTheAPIMustNotReleaseWhatWasApplied(t *testing.T) {
	bothOrders(t, func(t *testing.T, w *world) {
		calls := func() error {
			ctx := w.context(1)
			ctx.API = true
			_, err := w.builder.ProjectCommandBuilder.BuildPlanCommands(ctx, &events.CommentCommand{Name: command.Plan})
			return err
		}
		wantPlanned(t, w.planned(1, map[string]outcome{"a": {asks: func() {
			if err := calls(); err == nil || !strings.Contains(err.Error(), "a plan of #1 runs since") {
				t.Errorf("in a plan: %v", err)
			}
		}}}, project("a")))
		must(t, calls())
		wantPlanned(t, w.applied(1, nil, project("a")))
		if err := calls(); err == nil || !strings.Contains(err.Error(), "#1 applied what is not merged yet (acme/infra/a/default/)") {
			t.Errorf("after an apply: %v", err)
		}
		must(t, os.Remove(filepath.Join(w.folder, repo, "1")+recordSuffix))
		if err := calls(); err == nil {
			t.Error("by the pull status alone")
		}
		w.planned(1, map[string]outcome{"a": {fails: true}}, project("a"))
		if err := calls(); err == nil {
			t.Error("after a plan that overwrote the status")
		}
		w.unlocked(1)
		must(t, calls())
	})
}

// When a call of the API ends, its pull request gives up its locks, and waits on for those of others.
func TestTheAPIEndsNoWait(t *testing.T) {
	w := newWorld(t, withQueue)
	wantPlanned(t, w.planned(1, nil, project("a")))
	w.planned(2, nil, project("a"), project("b"))
	wantPlanned(t, w.applied(2, nil, project("b")))
	w.wantHolders(map[string]int{"a": 1, "b": 2})
	released, err := w.server.APIController.Locker.UnlockByPull(repo, 2)
	must(t, err)
	if len(released) != 1 || released[0].Project.Path != "b" {
		t.Errorf("released: %+v", released)
	}
	w.wantHolders(map[string]int{"a": 1})
	kept, err := w.handover.records.read(pull(2))
	must(t, err)
	if len(kept.Applied) != 0 {
		t.Errorf("a lock that is gone counts as one of what is applied: %v", kept.Applied)
	}
	queues, err := w.database.Queues(repo)
	must(t, err)
	if len(queues[repo]) != 1 || queues[repo][0].Pull.Num != 2 {
		t.Errorf("who waits: %+v", queues[repo])
	}
}

// An apply of the API has no bracket: it needs the lock when its list is made. Its own pull requests have negative numbers.
func TestTheAPIDoesNotApplyWithoutTheLock(t *testing.T) {
	w := newWorld(t)
	for _, num := range []int{1, -7} {
		calls := func() error {
			ctx := w.context(num)
			ctx.API = true
			w.projects[num] = []command.ProjectContext{project("a")}
			_, err := w.builder.ProjectCommandBuilder.BuildApplyCommands(ctx, &events.CommentCommand{Name: command.Apply})
			return err
		}
		if err := calls(); err == nil || !strings.Contains(err.Error(), "does not hold the lock \"acme/infra/a/default/\", so nothing is applied") {
			t.Errorf("without the lock: %v", err)
		}
		lock := models.ProjectLock{Project: models.NewProject(repo, "a", ""), Workspace: "default", Pull: pull(num)}
		_, _, err := w.database.TryLock(lock)
		must(t, err)
		must(t, calls())
		_, err = w.database.Unlock(lock.Project, "default")
		must(t, err)
	}
}

func TestALocksNameIsReadFromItsKey(t *testing.T) {
	for _, c := range []struct{ repo, path, workspace, name string }{
		{"acme/infra", "a", "default", ""}, {"group/sub/infra", "a/b", "prod", "x"}, {"acme/infra", ".", "default", "web/api"},
	} {
		key := models.GenerateLockKey(models.NewProject(c.repo, c.path, c.name), c.workspace)
		if lock := lockOfKey(c.repo, key); lockKey(lock) != key || lock.Project.RepoFullName != c.repo {
			t.Errorf("%s: %+v", key, lock)
		}
	}
}

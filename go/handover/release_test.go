package handover

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server/core/runtime"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

const label = "do-not-unlock"

func withLabel(_ *atlock.Config, options *Options) { options.UnlockLabel = label }

// discarded is what Atlantis's page of a lock answers when its button is pressed.
func (w *world) discarded(key string) (int, string) {
	answered := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodDelete, "/locks", nil)
	w.server.LocksController.DeleteLock(answered, mux.SetURLVars(request, map[string]string{"id": url.PathEscape(key)}))
	return answered.Code, answered.Body.String()
}

// shown is the lock at a key, as a person saw it.
func (w *world) shown(key string) Asked {
	w.t.Helper()
	lock := lockOfKey(repo, key)
	held, err := w.database.GetLock(lock.Project, lock.Workspace)
	must(w.t, err)
	look, err := w.handover.Look(*held)
	must(w.t, err)
	return Asked{key, look.Grant}
}

func named(path, name string) command.ProjectContext {
	of := project(path)
	of.ProjectName = name
	return of
}

// planFile makes the file of a plan, as Atlantis lays it out.
func (w *world) planFile(num int, path, name string) string {
	w.t.Helper()
	file := filepath.Join(w.folder, "repos", repo, fmt.Sprint(num), "default", path, runtime.GetPlanFilename("default", name))
	must(w.t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(w.t, os.WriteFile(file, nil, 0o600))
	return file
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestTheLabelBindsThePage(t *testing.T) {
	for name, c := range map[string]struct {
		labels   []string
		unlabels error
		says     []string // nothing: it is released
	}{
		"no label": {labels: []string{"other", label + "-not"}},
		"labelled": {labels: []string{"other", label}, says: []string{`#1 has the label "do-not-unlock"`, "remove the label there"}},
		"away":     {unlabels: errors.New("502"), says: []string{"cannot be asked: 502", "Try again later", "`atlock unlock`"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, withQueue, withLabel)
			wantPlanned(t, w.planned(1, nil, project("a"), project("b")))
			w.git.labels, w.git.unlabels = c.labels, c.unlabels
			code, text := w.discarded(keyA)
			came := w.handover.Release(ada, []Asked{w.shown(keyB)})
			if c.says == nil {
				if code != http.StatusOK || came[0].Result != ResultReleased {
					t.Fatalf("%d %s, %+v", code, text, came)
				}
				w.wantHolders(map[string]int{})
				return
			}
			if code == http.StatusOK || came[0].Result != ResultRefused || len(w.git.comments) > 0 {
				t.Fatalf("%d, %+v, %q", code, came, w.git.comments)
			}
			want(t, text, c.says...)
			want(t, came[0].Text, c.says...)
			w.wantHolders(map[string]int{"a": 1, "b": 1})
		})
	}
	// Without the flag nobody is asked; and each pull request once for all of its locks.
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	if code, text := w.discarded(keyA); code != http.StatusOK || w.git.asked > 0 {
		t.Errorf("%d %s, asked %d times", code, text, w.git.asked)
	}
	w = newWorld(t, withLabel)
	wantPlanned(t, w.planned(1, nil, project("a"), project("b")))
	w.handover.Release(ada, []Asked{w.shown(keyA), w.shown(keyB)})
	if w.git.asked != 1 {
		t.Errorf("asked %d times", w.git.asked)
	}
}

// Two named projects are in one folder: one is discarded, and the other one's plan is applied.
func TestDiscardingAProjectLeavesItsSibling(t *testing.T) {
	for name, discard := range map[string]func(w *world, key string){
		"Atlantis's page": func(w *world, key string) { w.discarded(key) },
		"our page":        func(w *world, key string) { w.handover.Release(ada, []Asked{w.shown(key)}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			blue, green := named("a", "blue"), named("a", "green")
			wantPlanned(t, w.planned(1, nil, blue, green))
			plans := []string{w.planFile(1, "a", "blue"), w.planFile(1, "a", "green")}
			discard(w, "acme/infra/a/default/green")
			status, err := w.database.GetPullStatus(pull(1))
			must(t, err)
			got := fmt.Sprint(status.Projects[0].Status, status.Projects[1].Status, isThere(plans[0]), isThere(plans[1]))
			if got != "planned plan_discarded true false" {
				t.Errorf("after the discard: %s", got)
			}
			if len(w.git.comments) != 1 || !strings.Contains(w.git.comments[0], "dir: `a` workspace: `default` was **discarded** via the Atlantis UI") {
				t.Errorf("told: %q", w.git.comments)
			}
			wantPlanned(t, w.applied(1, nil, blue))
		})
	}
}

// What is released is what was shown, while nothing runs.
func TestAReleaseIsOfTheGrantThatWasShown(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(w *world, release func())
		says      string
	}{
		"another holder": {func(w *world, release func()) {
			w.unlocked(1)
			w.planned(2, nil, project("a"))
			release()
		}, "refused: it was released meanwhile, and #2 holds it since "},
		"another grant": {func(w *world, release func()) {
			w.unlocked(1)
			w.planned(1, nil, project("a"))
			release()
		}, "refused: #1 gave it up meanwhile, and took it again at "},
		"nobody": {func(w *world, release func()) { w.unlocked(1); release() }, "not held: "},
		"a plan": {func(w *world, release func()) {
			w.plannedBy(1, events.CommentCommand{Name: command.Plan, RepoRelDir: "b"}, map[string]outcome{"b": {asks: release}}, project("b"))
		}, "refused: a plan of #1 runs since "},
		"an apply": {func(w *world, release func()) {
			w.applied(1, map[string]outcome{"a": {asks: release}}, project("a"))
		}, "refused: an apply of #1 runs since "},
		"a plan of another": {func(w *world, release func()) {
			w.planned(2, map[string]outcome{"b": {asks: release}}, project("b"))
		}, "released: "},
	} {
		for store, set := range map[string][]setting{"without a queue": nil, "with one": {withQueue}, "unguarded": {withoutGuard}} {
			t.Run(name+" "+store, func(t *testing.T) {
				w := newWorld(t, set...)
				wantPlanned(t, w.planned(1, nil, project("a")))
				shown, before, released := w.shown(keyA), fmt.Sprint(w.holders()), false
				var came Released
				c.meanwhile(w, func() {
					before = fmt.Sprint(w.holders())
					came, released = w.handover.Release(ada, []Asked{shown})[0], true
				})
				if got := came.Result + ": " + came.Text; !released || !strings.HasPrefix(got, c.says) {
					t.Fatalf("%q, want %q", got, c.says)
				}
				_, isHeld := w.holders()["a"]
				if came.Result != ResultRefused == isHeld {
					t.Errorf("%s: before %s, then %v", came.Result, before, w.holders())
				}
			})
		}
	}
}

// Many locks of a pull request are one comment, and each lock tells what came of it.
func TestManyLocksAreReleasedAtOnce(t *testing.T) {
	w := newWorld(t)
	var asked []Asked
	for num, paths := range map[int][]string{1: {"a", "b", "c"}, 2: {"d"}} {
		var projects []command.ProjectContext
		for _, path := range paths {
			projects = append(projects, project(path))
		}
		wantPlanned(t, w.planned(num, nil, projects...))
	}
	for _, path := range []string{"a", "b", "c", "d"} {
		asked = append(asked, w.shown("acme/infra/"+path+"/default/"))
	}
	came := w.handover.Release(ada, append(asked, Asked{Key: "acme/infra/never/default/"}, Asked{Key: "no key"}))
	var results []string
	for _, one := range came {
		results = append(results, one.Result)
	}
	if got := strings.Join(results, ", "); got != "released, released, released, released, not held, refused" {
		t.Errorf("%s: %+v", got, came)
	}
	w.wantHolders(map[string]int{})
	if len(w.git.comments) != 2 || strings.Count(w.git.comments[0], "was **discarded**") != 3 {
		t.Errorf("told: %q", w.git.comments)
	}
	for _, num := range []int{1, 2} {
		status, err := w.database.GetPullStatus(pull(num))
		must(t, err)
		for _, project := range status.Projects {
			if project.Status != models.DiscardedPlanStatus {
				t.Errorf("#%d: %+v", num, project)
			}
		}
	}
}

// A Git host or a lock store that fails again and again is not asked for each of many locks.
func TestWhatFailsIsNotAskedForEver(t *testing.T) {
	w := newWorld(t, withLabel)
	var asked []Asked
	for num := range 6 {
		path := fmt.Sprint(num)
		wantPlanned(t, w.planned(num+1, nil, project(path)))
		asked = append(asked, w.shown("acme/infra/"+path+"/default/"))
	}
	w.git.unlabels = errors.New("502")
	came := w.handover.Release(ada, asked)
	if w.git.asked != mostUnanswered || len(w.holders()) != len(asked) || !strings.Contains(came[5].Text, "failed 3 times before") {
		t.Errorf("asked %d times: %+v", w.git.asked, came)
	}
	w.git.unlabels, w.git.silent = nil, errors.New("503")
	came = w.handover.Release(ada, asked[:5])
	if w.git.told != mostUnanswered || came[0].Result != ResultReleased || !strings.Contains(came[4].Text, "#5 could not be told") {
		t.Errorf("told %d times: %+v", w.git.told, came)
	}
	must(t, w.database.Close())
	came = w.handover.Release(ada, []Asked{asked[5], asked[0]})
	if came[0].Result != ResultRefused || came[1].Result != ResultRefused || !strings.Contains(came[1].Text, "it was not tried") {
		t.Errorf("%+v", came)
	}
}

// What a person is shown before.
func TestWhatIsAppliedOrRunsIsShown(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a"), project("b")))
	wantPlanned(t, w.applied(1, nil, project("a")))
	notes := func(path string) string {
		lock, err := w.database.GetLock(models.NewProject(repo, path, ""), "default")
		must(t, err)
		look, err := w.handover.Look(*lock)
		must(t, err)
		return strings.Join(look.Notes, "; ")
	}
	if notes("a") != "applied, and not merged" || notes("b") != "" {
		t.Errorf("%q, %q", notes("a"), notes("b"))
	}
	w.applied(1, map[string]outcome{"b": {asks: func() { want(t, notes("b"), "an apply of #1 runs since ") }}}, project("b"))
	w.planned(2, map[string]outcome{"c": {asks: func() {
		lock, err := w.database.GetLock(models.NewProject(repo, "c", ""), "default")
		must(t, err)
		look, err := w.handover.Look(*lock)
		must(t, err)
		want(t, strings.Join(look.Notes, ""), "a plan of #2 runs since ")
	}}}, project("c"))
}

// The locks of a closed pull request go as its close would have done, all of them or none.
func TestTheLocksOfAClosedPullAreReleased(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(s *sweeping)
		says      string // empty: they are released
	}{
		"as shown":        {func(*sweeping) {}, ""},
		"opened again":    {func(s *sweeping) { s.git.state = models.OpenPullState }, "#1 is open again"},
		"away":            {func(s *sweeping) { s.git.away = errors.New("404") }, "cannot be asked: 404"},
		"another lock":    {func(s *sweeping) { s.w.planned(1, nil, project("c")) }, "was taken meanwhile: look again"},
		"another grant":   {func(s *sweeping) { s.w.unlocked(1); s.w.planned(1, nil, project("a"), project("b")) }, "was taken meanwhile: look again"},
		"one of them":     {func(s *sweeping) { s.w.discarded(keyA) }, ""},
		"somebody else's": {func(s *sweeping) { s.w.unlocked(1); s.w.planned(2, nil, project("a")) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSweeping(t, atlock.StaleReport)
			s.w.handover.sweeper = s.sweeper
			wantPlanned(t, s.w.planned(1, nil, project("a"), project("b")))
			asked := []Asked{s.w.shown(keyA), s.w.shown(keyB)}
			s.git.state = models.ClosedPullState
			c.meanwhile(s)
			before := fmt.Sprint(s.w.holders())
			err := s.w.handover.CleanUp(ada, repo, 1, asked)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) || fmt.Sprint(s.w.holders()) != before || len(s.cleaned) > 0 {
					t.Errorf("%v, held %v, before %s, cleaned up %v", err, s.w.holders(), before, s.cleaned)
				}
				return
			}
			must(t, err)
			for path, num := range s.w.holders() {
				if num == 1 {
					t.Errorf("%s is held", path)
				}
			}
		})
	}
}

func TestTheGlobalApplyLockIsEnded(t *testing.T) {
	w := newWorld(t)
	_, err := w.database.LockCommand(command.Apply, time.Now())
	must(t, err)
	must(t, w.handover.UnlockApplies(ada))
	lock, err := w.database.CheckCommandLock(command.Apply)
	must(t, err)
	if lock != nil {
		t.Error(lock)
	}
	if err := w.handover.UnlockApplies(ada); err == nil || !strings.Contains(err.Error(), "no lock exists") {
		t.Error(err)
	}
}

// A plan begins at the very moment of a release, and its run keeps the lock: that is not told to be released.
func TestAReleaseAsAPlanBegins(t *testing.T) {
	w := newWorld(t, withQueue)
	wantPlanned(t, w.planned(1, nil, project("a")))
	run, err := w.database.For(pull(1)).Begin(atlock.RunPlan) // no bracket says so yet
	must(t, err)
	came := w.handover.Release(ada, []Asked{w.shown(keyA)})
	if came[0].Result != ResultRefused || len(w.git.comments) > 0 {
		t.Errorf("%+v, told %q", came, w.git.comments)
	}
	want(t, came[0].Text, "a plan of #1 began just now")
	w.wantHolders(map[string]int{"a": 1})
	_, err = run.End()
	must(t, err)
}

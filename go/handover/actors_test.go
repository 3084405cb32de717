package handover

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server/core/config/valid"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// ada is somebody on a page.
var ada = atlock.Actor{Via: atlock.ViaPage, By: atlock.Person{User: "ada", Address: "192.0.2.7:4711"}}

// audited is a world with an audit trail.
func audited(t *testing.T, settings ...setting) (w *world, trail func() []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "audit")
	w = newWorld(t, append(slices.Clone(settings), func(config *atlock.Config, _ *Options) { config.Locking.Audit.File = file })...)
	told := 0
	return w, func() (news []string) {
		t.Helper()
		text, err := os.ReadFile(file)
		must(t, err)
		lines := bufio.NewScanner(bytes.NewReader(text))
		for number := 1; lines.Scan(); number++ {
			var line struct {
				Kind, Operation, Key, Command, User, Via string
				By, Holder                               struct{ User string }
			}
			must(t, json.Unmarshal(lines.Bytes(), &line))
			if number > told {
				told = number
				news = append(news, fmt.Sprintf("%s %s%s via %s by %s, of %s", line.Kind, line.Key, line.Command, line.Via, line.By.User, line.Holder.User))
			}
		}
		return news
	}
}

// Each way by which a lock changes hands in a linked server is told, with who did it: never the holder in the place of who released.
func TestWhoDidIt(t *testing.T) {
	for name, queue := range map[string][]setting{"without a queue": nil, "with a queue": {withQueue}} {
		t.Run(name, func(t *testing.T) { whoDidIt(t, queue) })
	}
}

func whoDidIt(t *testing.T, queue []setting) {
	w, trail := audited(t, append(queue, withoutGuard)...)
	told := func(what string, expected ...string) {
		t.Helper()
		if found := trail(); !slices.Equal(found, expected) {
			t.Errorf("%s:\n got %q\nwant %q", what, found, expected)
		}
	}
	w.clean = func(models.Repo, models.PullRequest) error { _, err := w.store().UnlockByPull(repo, 1); return err }
	const granted = "grant " + keyA + " via %s by %s, of "
	released := func(via, by string) string { return fmt.Sprintf("release %s via %s by %s, of ada", keyA, via, by) }

	plan := func() {
		t.Helper()
		w.planned(1, nil, project("a"))
		told("a plan", fmt.Sprintf(granted, "plan", "ada"))
	}
	plan()
	w.asBob(command.Unlock)
	told("atlantis unlock of somebody else", released("comment", "bob"))
	plan()
	must(t, w.server.VCSEventsController.PullCleaner.CleanUpPull(logging.NewNoopLogger(t), pull(1).BaseRepo, pull(1)))
	told("a close", released("pull_closed", ""))
	plan()
	swept := sweeper{handover: w.handover, cleaner: w.server.VCSEventsController.PullCleaner, logger: logging.NewNoopLogger(t)}
	must(t, swept.release(pull(1), atlock.Actor{Via: atlock.ViaStaleLocks}))
	told("the look for stale locks", released("stale_locks", ""))
	plan()
	must(t, swept.release(pull(1), ada))
	told("the same on our page", released("page", "ada"))
	plan()
	w.handover.Release(ada, []Asked{w.shown(keyA)})
	told("our page", released("page", "ada"))
	plan()
	w.pressed(ada, keyA)
	told("Atlantis's page", released("page", "ada"))
	plan()
	if _, err := w.server.APIController.Locker.UnlockByPull(repo, 1); err != nil {
		t.Fatal(err)
	}
	told("the end of a call of the API", released("api", ""))
	w.planned(1, map[string]outcome{"a": {fails: true}}, project("a"))
	told("a plan that fails", fmt.Sprintf(granted, "plan", "ada"), released("plan", "ada"))

	inApply := project("a")
	inApply.RepoLocksMode = valid.RepoLocksOnApplyMode
	w.applied(1, nil, inApply)
	told("an apply", fmt.Sprintf(granted, "apply", "ada"))
	w.asBob(command.Unlock)
	told("after it", released("comment", "bob"))

	lock := atlock.ProjectWorkspace{Project: models.NewProject(repo, "a", ""), Workspace: "default"}
	asked := func(user string) {
		t.Helper()
		_, err := w.runner.Locker.TryLock(logging.NewNoopLogger(t), pull(1), models.User{Username: user}, lock.Workspace, lock.Project, true)
		must(t, err)
	}
	asked("")
	told("a call of the API", fmt.Sprintf(granted, "api", ""))
	w.asBob(command.Unlock)
	told("after it", "release "+keyA+" via comment by bob, of ")
	w.imports = func() { asked("ada") }
	w.run(command.Import, 1, events.CommentCommand{Name: command.Import})
	told("atlantis import", fmt.Sprintf(granted, "comment", "ada"))
	w.asBob(command.Unlock)
	told("after it", released("comment", "bob"))

	w.handover.LockApply(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/apply/lock", nil), ada)
	told("the global apply lock", "grant apply via page by ada, of ")
	w.handover.UnlockApply(httptest.NewRecorder(), httptest.NewRequest(http.MethodDelete, "/apply/unlock", nil), ada)
	told("its end", "release apply via page by ada, of ")
	w.handover.LockApply(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/apply/lock", nil), atlock.Actor{Via: atlock.ViaPage})
	must(t, w.handover.UnlockApplies(ada))
	told("the page without log-ins, and ours", "grant apply via page by , of ", "release apply via page by ada, of ")

	if _, err := w.store().UnlockByPull(repo, 1); err != nil {
		t.Fatal(err)
	}
	told("nothing to release")
	plan()
	if _, err := w.store().UnlockByPull(repo, 1); err != nil {
		t.Fatal(err)
	}
	told("an unknown seam", released("", ""))
}

// Where two work for one pull request, nobody is named who may not have been it.
func TestNobodyIsGuessed(t *testing.T) {
	var b brackets
	bob := atlock.Actor{Via: atlock.ViaComment, By: atlock.Person{User: "bob"}}
	removeBob := b.marked(mark{repo, 1, true, bob})
	if found := b.actor(repo, 1, true); found != bob {
		t.Errorf("%+v", found)
	}
	for what, found := range map[string]atlock.Actor{
		"another pull request": b.actor(repo, 2, true), "another repository": b.actor("acme/other", 1, true), "one that gives up one lock": b.actor(repo, 1, false),
	} {
		if !found.IsZero() {
			t.Errorf("%s: %+v", what, found)
		}
	}
	removeEve := b.marked(mark{repo, 1, true, atlock.Actor{Via: atlock.ViaComment, By: atlock.Person{User: "eve"}}})
	if found := b.actor(repo, 1, true); found != (atlock.Actor{Via: atlock.ViaComment}) {
		t.Errorf("two users: %+v", found)
	}
	removeClose := b.marked(mark{repo, 1, true, atlock.Actor{Via: atlock.ViaPullClosed}})
	if found := b.actor(repo, 1, true); !found.IsZero() {
		t.Errorf("two ways: %+v", found)
	}
	removeEve()
	removeClose()
	if found := b.actor(repo, 1, true); found != bob {
		t.Errorf("%+v", found)
	}
	removeBob()
	if found := b.actor(repo, 1, true); !found.IsZero() {
		t.Errorf("%+v", found)
	}
}

// Where --allow-commands leaves apply out, Atlantis refuses the lock of applies, as it does by itself.
func TestApplyLockWhereAppliesAreDisabled(t *testing.T) {
	w, _ := audited(t)
	w.handover.locks.ApplyLocker = locking.NewApplyClient(w.store(), true, false)
	for name, press := range map[string]func(http.ResponseWriter, *http.Request, atlock.Actor){"lock": w.handover.LockApply, "unlock": w.handover.UnlockApply} {
		answered := httptest.NewRecorder()
		press(answered, httptest.NewRequest(http.MethodPost, "/", nil), ada)
		if answered.Code != http.StatusInternalServerError {
			t.Errorf("%s: %d %s", name, answered.Code, answered.Body)
		}
	}
	lock, err := w.database.CheckCommandLock(command.Apply)
	if lock != nil || err != nil {
		t.Errorf("%v %v", lock, err)
	}
}

// asBob runs a command of another user than the one who plans.
func (w *world) asBob(name command.Name) {
	w.t.Helper()
	ctx := w.context(1)
	ctx.User = models.User{Username: "bob"}
	w.server.CommandRunner.CommentCommandRunnerByCmd[name].Run(ctx, &events.CommentCommand{Name: name})
}

// pressed presses the button of Atlantis's page of a lock.
func (w *world) pressed(by atlock.Actor, key string) {
	w.t.Helper()
	request := mux.SetURLVars(httptest.NewRequest(http.MethodDelete, "/locks", nil), map[string]string{"id": url.PathEscape(key)})
	answered := httptest.NewRecorder()
	if w.handover.DeleteLock(answered, request, by); answered.Code != http.StatusOK {
		w.t.Fatalf("%d %s", answered.Code, answered.Body)
	}
}

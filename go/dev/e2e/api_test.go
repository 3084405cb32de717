//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atlock/atlock/go/dev/internal/githost"
)

// drifts is a server on which drift can be looked for, where the release knows of drift.
var drifts = mode{name: "drifts", answers: "strict", settings: func(w *world) ([]string, string) {
	flags, content := withQueueOnSled("auto")(w)
	if knowsDrift() {
		flags = append(flags, "--enable-drift-detection")
	}
	return flags, content
}}

// apiReleases: since v0.40, a call releases all locks of its pull request when it ends.
func apiReleases() bool { return !isBefore("v0.40.0") }

func knowsDrift() bool { return !isBefore("v0.46.0") }

// TestAtlantissAPI: a call of Atlantis's API has no command around it, and since v0.40 releases all locks of its pull request when it ends.
func TestAtlantissAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, drifts)
	scenes := map[string]func(*testing.T, *repository){"another's lock": theAPITakesNoLockOfAnother, "free": theAPIAppliesWhatIsFree}
	if apiReleases() {
		scenes["applied"] = theAPIReleasesNothingThatIsApplied
	}
	// From v0.42 until v0.46 a call waits by itself until no plan of its pull request works in the clone.
	if apiReleases() && (isBefore("v0.42.0") || !isBefore("v0.46.0")) {
		scenes["busy"] = theAPIWaitsForThePlan
	}
	if knowsDrift() {
		scenes["drift"] = driftIsLookedForUnderALock
	}
	for name, scene := range scenes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scene(t, w.repository(t, "acme/"+strings.NewReplacer("'", "", " ", "-").Replace(name)))
		})
	}
}

// call asks Atlantis's API to plan or apply network in a pull request. The call names the commit: for a branch's name Atlantis looks into the
// clone, and waits until no plan of the pull request works there.
func (r *repository) call(t *testing.T, command string, number int) (code int, body string) {
	t.Helper()
	asked := fmt.Sprintf(`{"Repository": %q, "Ref": %q, "Type": %q, "PR": %d, "Paths": [{"Directory": "network", "Workspace": "default"}]}`,
		r.name, r.pull(t, number).Head, kindOfGitHost(), number)
	code, body, err := r.server.Call(t.Context(), http.MethodPost, "/api/"+command, asked)
	if err != nil {
		t.Fatal(err)
	}
	return code, body
}

// callWhenIdle is the same, once no command of the pull request runs: Atlantis comments before a command is over.
func (r *repository) callWhenIdle(t *testing.T, command string, number int) (code int, body string) {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(100 * time.Millisecond) {
		code, body = r.call(t, command, number)
		if !strings.Contains(body, ": try again when that is over") || time.Now().After(deadline) {
			return code, body
		}
	}
}

// wantRefused fails unless the answer to a call is a refusal that says so.
func wantRefused(t *testing.T, code int, body string, texts ...string) {
	t.Helper()
	if code != http.StatusInternalServerError {
		t.Fatalf("the call is answered %d %s", code, body)
	}
	wantText(t, body, texts...)
	wantNoText(t, body, applied)
}

func theAPITakesNoLockOfAnother(t *testing.T, r *repository) {
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	second, comment := r.open(t, "network")
	wantText(t, comment, refusedBy(first))
	for _, command := range []string{"plan", "apply"} {
		code, body := r.callWhenIdle(t, command, second)
		wantRefused(t, code, body, fmt.Sprintf("#%d", first))
		r.wantHolders(t, map[string]int{"network": first})
	}
	if line := r.inLine(t, "network"); len(line) != 1 || line[0].Pull.Num != second {
		t.Errorf("a call of the API cost the place in the queue: %+v", line)
	}
	r.wantFreedBy(t, "network", fmt.Sprintf("merge or close pull #%d", first))
	r.wantPlannedByItself(t, second, func() { r.merge(t, first) })
}

func theAPIReleasesNothingThatIsApplied(t *testing.T, r *repository) {
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	wantText(t, r.command(t, first, "atlantis apply"), applied)
	for _, command := range []string{"plan", "apply"} {
		code, body := r.callWhenIdle(t, command, first)
		wantRefused(t, code, body, fmt.Sprintf("this call would release the locks of #%d when it ends", first),
			"applied what is not merged yet ("+r.key("network")+")", "comment `atlantis unlock` there if its locks are not needed any more")
		r.wantHolders(t, map[string]int{"network": first})
	}
	wantUnlocked(t, r.command(t, first, "atlantis unlock")) // as the refusal says
	if code, body := r.callWhenIdle(t, "plan", first); code != http.StatusOK {
		t.Errorf("plan after the unlock: %d %s", code, body)
	}
}

func theAPIWaitsForThePlan(t *testing.T, r *repository) {
	slow := newSlow(t)
	first := r.openSlowly(t, slow, "app")
	r.waitForRunning(t, slow)
	code, body := r.call(t, "plan", first)
	wantRefused(t, code, body, fmt.Sprintf("and a plan of #%d runs since ", first), ": try again when that is over")
	r.wantHolders(t, map[string]int{"app": first})
	r.wantFreedBy(t, "app", fmt.Sprintf("wait: a plan of #%d runs now, and may give the lock up at its end", first))
	slow.end(t)
	wantText(t, r.commentAfter(t, first, 0), planned)
	r.wantHolders(t, map[string]int{"app": first})
}

func theAPIAppliesWhatIsFree(t *testing.T, r *repository) {
	first := r.openQuietly(t)
	if code, body := r.callWhenIdle(t, "apply", first); code != http.StatusOK || !strings.Contains(body, applied) {
		t.Errorf("apply: %d %s", code, body)
	}
	holders := map[string]int{"network": first}
	if apiReleases() {
		holders = map[string]int{}
	}
	r.eventuallyHolders(t, holders)
}

// driftIsLookedForUnderALock: it takes nobody's lock, and whoever wants its lock meanwhile is planned when it is over.
func driftIsLookedForUnderALock(t *testing.T, r *repository) {
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	wantText(t, r.detectDrift(t), fmt.Sprintf("pull #%d", first))
	r.wantHolders(t, map[string]int{"network": first})

	slow := slow{filepath.Join(t.TempDir(), "busy")}
	wantText(t, r.pushFiles(t, first, map[string]string{"network/slow.tf": slow.line()}), planned) // not slow yet
	r.merge(t, first)
	r.eventuallyHolders(t, map[string]int{})
	if err := os.WriteFile(slow.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	slowly := make(chan string)
	go func() { slowly <- r.detectDrift(t) }()
	r.waitForRunning(t, slow)
	second, err := r.host.OpenPull(t.Context(), r.name, "ann", "a change", r.change([]string{"network"}))
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, r.commentAfter(t, second.Number, 0), "This project is currently locked by an unapplied plan from pull #-", nextInQueue)
	r.wantPlannedByItself(t, second.Number, func() {
		slow.end(t)
		wantNoText(t, <-slowly, "locked by")
	})
	r.waitFor(t, second.Number, "the plan", func(p githost.Pull) bool { return len(p.Comments) == 2 })
}

func (r *repository) detectDrift(t *testing.T) string {
	t.Helper()
	asked, err := json.Marshal(map[string]any{
		"repository": r.name, "ref": "main", "type": kindOfGitHost(), "paths": []map[string]string{{"directory": "network"}},
	})
	if err != nil {
		t.Error(err)
	}
	code, body, err := r.server.Call(t.Context(), http.MethodPost, "/api/drift/detect", string(asked))
	if err != nil || code != http.StatusOK && code != http.StatusMultiStatus {
		t.Errorf("look for drift: %d %s %v", code, body, err)
	}
	return body
}

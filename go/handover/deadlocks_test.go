package handover

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

func withDetection(resolve atlock.Resolve) setting {
	return func(config *atlock.Config, _ *Options) {
		config.Locking.Enhanced.DeadlockDetection = atlock.DeadlockDetection{
			Enabled: true, Resolve: resolve, Confirm: atlock.Duration(50 * time.Millisecond),
		}
	}
}

// inCircle is a world in which #1 has a and waits for b, and #2 has b and waits for a; the circle is confirmed.
func inCircle(t *testing.T, resolve atlock.Resolve) *world {
	t.Helper()
	w := newWorld(t, withQueue, withDetection(resolve))
	wantPlanned(t, w.planned(1, nil, project("a")))
	wantPlanned(t, w.planned(2, nil, project("b")))
	w.planned(1, nil, project("a"), project("b"))
	w.planned(2, nil, project("a"), project("b"))
	w.wantHolders(map[string]int{"a": 1, "b": 2})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		found, err := w.database.Deadlocks()
		must(t, err)
		if len(found) > 0 {
			return w
		}
		if time.Now().After(deadline) {
			t.Fatal("the circle is not found")
		}
	}
}

// told are the pull requests on which there are comments, each with what its comments say.
func (w *world) told() map[string]string {
	w.git.mutex.Lock()
	defer w.git.mutex.Unlock()
	told := map[string]string{}
	for _, comment := range w.git.comments {
		where, text, _ := strings.Cut(comment, ": ")
		told[where] += text
	}
	return told
}

func TestACircleIsToldOnceOnEachPull(t *testing.T) {
	w := inCircle(t, atlock.ResolveReport)
	for range 3 {
		must(t, w.handover.deadlocks.look())
	}
	told := w.told()
	if len(told) != 2 || len(w.git.comments) != 2 {
		t.Fatalf("%q", w.git.comments)
	}
	want(t, told["acme/infra#1"], "This pull request and !2 wait for each other", "- !2 holds `b`, for which this pull request waits.",
		"discard !2's lock of `b` on Atlantis's page, or comment `atlantis unlock` in !2")
	want(t, told["acme/infra#2"], "discard this pull request's lock of `b`", "comment `atlantis unlock` here")
	w.wantHolders(map[string]int{"a": 1, "b": 2})
	if len(w.deleted) > 0 {
		t.Errorf("plans were deleted: %v", w.deleted)
	}
}

// The way out goes around what was applied; and where all have applied something there is none.
func TestNobodyIsToldToGiveUpWhatIsApplied(t *testing.T) {
	w := inCircle(t, atlock.ResolveReport)
	wantPlanned(t, w.applied(2, nil, project("b")))
	must(t, w.handover.deadlocks.look())
	want(t, w.told()["acme/infra#1"], "discard this pull request's lock of `a`")

	w = inCircle(t, atlock.ResolveYield)
	wantPlanned(t, w.applied(1, nil, project("a")))
	wantPlanned(t, w.applied(2, nil, project("b")))
	must(t, w.handover.deadlocks.look())
	want(t, w.told()["acme/infra#1"], "Something may have been applied in each of them")
	w.wantHolders(map[string]int{"a": 1, "b": 2})
}

func TestOneYieldsAsIfItsLockWereDiscarded(t *testing.T) {
	w := inCircle(t, atlock.ResolveYield)
	must(t, w.handover.deadlocks.look())
	w.wantHolders(map[string]int{"a": 1})
	if fmt.Sprint(w.deleted) != "[#2 "+keyB+"]" {
		t.Errorf("deleted plans: %v", w.deleted)
	}
	status, err := w.database.GetPullStatus(pull(2))
	must(t, err)
	for _, project := range status.Projects {
		if project.RepoRelDir == "b" && project.Status != models.DiscardedPlanStatus {
			t.Errorf("its plan is %s", project.Status)
		}
	}
	must(t, w.handover.deadlocks.look())
	if told := w.told(); len(told) != 1 || len(w.git.comments) != 1 {
		t.Fatalf("%q", w.git.comments)
	}
	want(t, w.told()["acme/infra#2"], "so this one gave `b` back", "It keeps its place in the queue. It is planned automatically")
	wantPlanned(t, w.planned(1, nil, project("a"), project("b")))
}

// While a command runs the circle may be about to end; without the folder nothing is known of what was applied.
func TestNobodyYieldsOfWhomSomethingIsNotKnown(t *testing.T) {
	w := inCircle(t, atlock.ResolveYield)
	w.apply = func(*command.Context, *events.CommentCommand) { must(t, w.handover.deadlocks.look()) }
	for _, num := range []int{1, 2} {
		w.run(command.Apply, num, events.CommentCommand{Name: command.Apply})
	}
	if w.wantHolders(map[string]int{"a": 1, "b": 2}); len(w.git.comments) > 0 {
		t.Fatalf("told while an apply runs: %q", w.git.comments)
	}
	w.forgetFolders()
	must(t, w.handover.deadlocks.look())
	w.wantHolders(map[string]int{"a": 1, "b": 2})
	told := w.told()
	if nums := slices.Sorted(maps.Keys(told)); fmt.Sprint(nums) != "[acme/infra#1 acme/infra#2]" {
		t.Fatalf("%q", told)
	}
	want(t, told["acme/infra#2"], "Something may have been applied in each of them")
}

// What was applied is known from the pull status and, once a plan has overwritten that, from the record; either is enough.
func TestWhatMayHaveBeenApplied(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	may := func(want bool, when string) {
		t.Helper()
		if got := w.handover.mayHaveApplied(pull(1)); got != want {
			t.Errorf("%s: %v", when, got)
		}
	}
	may(false, "planned")
	wantPlanned(t, w.applied(1, nil, project("a")))
	file := filepath.Join(w.folder, repo, "1") + recordSuffix
	kept, err := os.ReadFile(file)
	must(t, err)
	must(t, os.Remove(file))
	may(true, "without the record")
	must(t, os.WriteFile(file, kept, 0o600))
	wantPlanned(t, w.planned(1, nil, project("a")))
	may(true, "planned again")
	must(t, os.WriteFile(file, []byte("{"), 0o600))
	may(true, "with a damaged record")
}

//go:build e2e

package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/dev/internal/githost"
)

var (
	circlesSled   = mode{name: "circles-sled", answers: "strict", settings: withCircles(withQueueOnSled("auto"), sledsEnd)}
	circlesYield  = mode{name: "circles-yield", answers: "strict", settings: withYield(circlesSled.settings)}
	circlesHybrid = mode{name: "circles-hybrid", answers: "hybrid", redis: true, settings: withCircles(withQueue("hybrid", "auto"), "")}
)

// sledsEnd is what withQueueOnSled's settings end with.
const sledsEnd = "}}\n"

// withCircles looks for circles besides. What ends the settings is put behind.
func withCircles(settings func(*world) ([]string, string), end string) func(*world) ([]string, string) {
	return func(w *world) ([]string, string) {
		flags, content := settings(w)
		if end != "" {
			return flags, strings.TrimSuffix(content, end) + ", deadlock_detection: {enabled: true}" + end
		}
		return flags, content + "    deadlock_detection: {enabled: true}\n"
	}
}

// withYield ends circles.
func withYield(settings func(*world) ([]string, string)) func(*world) ([]string, string) {
	return func(w *world) ([]string, string) {
		flags, content := settings(w)
		return flags, strings.Replace(content, "deadlock_detection: {enabled: true}", "deadlock_detection: {enabled: true, resolve: yield}", 1)
	}
}

// circle is two pull requests, each of which holds a lock that the other waits for.
type circle struct {
	*repository
	first, second int
	// firsts and seconds are the projects whose locks they hold.
	firsts, seconds string
}

// turned is the same circle, told from the other pull request.
func (c circle) turned() circle {
	return circle{c.repository, c.second, c.first, c.seconds, c.firsts}
}

// circles are the ways into one, in which the second pull request has the last place in the queue; with stock Atlantis as here: locks are taken one by one, and kept until the pull request ends.
var circles = map[string]func(*testing.T, *repository) circle{
	"two pushes":   circleOfTwoPushes,
	"one moment":   circleOfOneMoment,
	"both applied": circleOfTwoApplied,
}

// circleOfTwoPushes: each has a lock, and a later commit of each needs the other's.
func circleOfTwoPushes(t *testing.T, r *repository) circle {
	t.Helper()
	c := circle{repository: r, firsts: "network", seconds: "database"}
	var comment string
	c.first, comment = r.open(t, c.firsts)
	wantText(t, comment, planned)
	c.second, comment = r.open(t, c.seconds)
	wantText(t, comment, planned)
	c.close(t)
	return c
}

// circleOfOneMoment: both need both locks, and are planned at once. Each gets the one that it asks for first.
func circleOfOneMoment(t *testing.T, r *repository) circle {
	t.Helper()
	c := circle{repository: r, firsts: "app", seconds: "network"}
	slow := newSlow(t)
	c.first = r.openSlowly(t, slow, c.firsts, c.seconds)
	r.waitForRunning(t, slow)
	var comment string
	c.second, comment = r.open(t, c.firsts, c.seconds)
	wantText(t, comment, planned, refusedBy(c.first))
	slow.end(t)
	wantText(t, r.commentAfter(t, c.first, 0), planned, refusedBy(c.second))
	return c.turned() // the one that was planned last joined last
}

// circleOfTwoApplied: each has applied what it holds, so that no machine may undo that, and needs the other's.
func circleOfTwoApplied(t *testing.T, r *repository) circle {
	t.Helper()
	c := circle{repository: r, firsts: "network", seconds: "database"}
	apply := func(project string) int {
		num, comment := r.open(t, project)
		wantText(t, comment, planned)
		wantText(t, r.command(t, num, "atlantis apply"), applied)
		return num
	}
	c.first, c.second = apply(c.firsts), apply(c.seconds)
	c.close(t)
	return c
}

// close pushes to each what needs the other's lock.
func (c circle) close(t *testing.T) {
	t.Helper()
	wantText(t, c.push(t, c.first, c.seconds), planned, refusedBy(c.second), nextInQueue)
	wantText(t, c.push(t, c.second, c.firsts), planned, refusedBy(c.first), nextInQueue)
}

// wantTold waits until the server tells of the circle, and fails unless each of its locks is explained by it.
func (c circle) wantTold(t *testing.T) atlock.Deadlock {
	t.Helper()
	c.wantHolders(t, map[string]int{c.firsts: c.first, c.seconds: c.second})
	told := c.deadlock(t)
	pulls := []int{told.Pulls[0].Num, told.Pulls[1].Num}
	slices.Sort(pulls)
	want, keys := []int{c.first, c.second}, []string{c.key(c.firsts), c.key(c.seconds)}
	for _, sorted := range [][]string{keys, told.Keys} {
		slices.Sort(sorted)
	}
	slices.Sort(want)
	if !slices.Equal(pulls, want) || !slices.Equal(told.Keys, keys) {
		t.Fatalf("the circle of %v by %v is told as %+v", want, keys, told)
	}
	for _, num := range want {
		c.wantComment(t, num, "This pull request and "+number(c.first+c.second-num)+" wait for each other, and neither goes on by itself")
	}
	for _, key := range keys {
		explained := c.explainKey(t, key)
		if explained.Deadlock != told.ID || !slices.Contains(explained.FreesIt, told.Suggestion) {
			t.Fatalf("%s is not explained by the circle %s: %+v", key, told.ID, explained)
		}
	}
	return told
}

// wantComment waits until a comment on the pull request, one and no more, has this text.
func (r *repository) wantComment(t *testing.T, number int, text string) {
	t.Helper()
	having := func(pull githost.Pull) (comments int) {
		for _, comment := range pull.Comments {
			if strings.Contains(withGiteasSigns(comment.Body), text) {
				comments++
			}
		}
		return comments
	}
	pull := r.waitFor(t, number, "a comment with "+text, func(pull githost.Pull) bool { return having(pull) > 0 })
	if having(pull) > 1 {
		t.Errorf("#%d was told more than once: %+v", number, pull.Comments)
	}
}

// deadlock waits until the server tells of a circle of this repository.
func (r *repository) deadlock(t *testing.T) atlock.Deadlock {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(100 * time.Millisecond) {
		for _, told := range r.deadlocks(t) {
			if told.Repo == r.name && len(told.Pulls) > 1 {
				return told
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no circle of %s is told within %v", r.name, answerLimit)
		}
	}
}

func (w *world) deadlocks(t *testing.T) (told []atlock.Deadlock) {
	t.Helper()
	w.getJSON(t, "/api/locks/deadlocks", &told)
	return told
}

// TestPullRequestsThatWaitForEachOther: each way into a circle, what the server tells of it, and that the way out which explain names is one.
func TestPullRequestsThatWaitForEachOther(t *testing.T) {
	t.Parallel()
	for _, mode := range []mode{circlesSled, circlesHybrid} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, mode)
			for _, name := range slices.Sorted(maps.Keys(circles)) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					r := w.repository(t, "acme/"+strings.ReplaceAll(name, " ", "-"))
					c := circles[name](t, r)
					told := c.wantTold(t)
					if name == "both applied" {
						c.mergeOne(t, told)
					} else {
						c.discardOne(t, told)
					}
				})
			}
		})
	}
}

// discardOne does what the suggestion says: the lock of whoever has the last place is discarded, and the other one goes on.
func (c circle) discardOne(t *testing.T, told atlock.Deadlock) {
	t.Helper()
	wantText(t, told.Suggestion, "has the last place: discard its lock "+quoted(c.key(c.seconds)), "comment `atlantis unlock` in "+number(c.second))
	c.wantPlannedByItself(t, c.first, func() { c.discard(t, c.seconds) })
	c.wantHolders(t, map[string]int{c.firsts: c.first, c.seconds: c.first})
	if got := strings.Count(c.command(t, c.first, "atlantis apply"), applied); got != 2 {
		t.Fatalf("%d projects were applied, and not both", got)
	}
	c.wantPlannedByItself(t, c.second, func() { c.merge(t, c.first) })
	c.eventuallyHolders(t, map[string]int{c.firsts: c.second, c.seconds: c.second})
	c.wantNoDeadlock(t)
}

// mergeOne does what the suggestion says of pull requests that have applied something.
func (c circle) mergeOne(t *testing.T, told atlock.Deadlock) {
	t.Helper()
	wantText(t, told.Suggestion, "has applied something there, choose another pull of the circle, or merge or close one")
	c.wantPlannedByItself(t, c.second, func() { c.merge(t, c.first) })
	c.wantHolders(t, map[string]int{c.firsts: c.second, c.seconds: c.second})
	c.wantNoDeadlock(t)
}

// TestOneYields: of a circle, the pull request that has the last place gives its lock back and keeps its place; nobody does a thing.
func TestOneYields(t *testing.T) {
	t.Parallel()
	w := newWorld(t, circlesYield)
	t.Run("planned", func(t *testing.T) {
		t.Parallel()
		c := circleOfTwoPushes(t, w.repository(t, "acme/planned"))
		c.wantComment(t, c.second, "This pull request and "+number(c.first)+" waited for each other, so this one gave `"+c.seconds+"` back")
		c.eventuallyHolders(t, map[string]int{c.firsts: c.first, c.seconds: c.first})
		// The plans of its two pushes, and that of its turn.
		c.waitFor(t, c.first, "a third plan", func(pull githost.Pull) bool { return len(pull.Comments) > 2 })
		if got := strings.Count(c.command(t, c.first, "atlantis apply"), applied); got != 2 {
			t.Fatalf("%d projects were applied, and not both", got)
		}
		wantNoText(t, c.command(t, c.second, "atlantis apply"), applied)
		c.wantPlannedByItself(t, c.second, func() { c.merge(t, c.first) })
		c.eventuallyHolders(t, map[string]int{c.firsts: c.second, c.seconds: c.second})
	})
	t.Run("applied", func(t *testing.T) {
		t.Parallel()
		c := circleOfTwoApplied(t, w.repository(t, "acme/applied"))
		told := c.wantTold(t)
		c.wantComment(t, c.first, "Something may have been applied in each of them, and Atlantis does not undo that")
		c.wantHolders(t, map[string]int{c.firsts: c.first, c.seconds: c.second})
		c.mergeOne(t, told)
	})
}

func (r *repository) wantNoDeadlock(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(100 * time.Millisecond) {
		told := r.deadlocks(t)
		if !slices.ContainsFunc(told, func(d atlock.Deadlock) bool { return d.Repo == r.name }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the circle is over, and still told: %+v", told)
		}
	}
}

var onApply = mode{name: "on-apply", answers: "strict", settings: func(w *world) ([]string, string) {
	_, content := circlesSled.settings(w)
	return []string{`--repo-config-json={"repos":[{"id":"/.*/","repo_locks":{"mode":"on_apply"}}]}`}, content
}}

// TestAppliesThatNeedEachOther: locked at the apply, each pull request has applied one project, and needs the other's lock for its second. An
// apply that is refused waits for nothing, so no circle is told; what explain says of each lock is the way out.
func TestAppliesThatNeedEachOther(t *testing.T) {
	t.Parallel()
	r := newWorld(t, onApply).repository(t, "acme/infra")
	first, comment := r.open(t, "network", "database")
	wantText(t, comment, planned)
	second, comment := r.open(t, "network", "database")
	wantText(t, comment, planned)
	wantNoText(t, comment, "currently locked")
	wantText(t, r.command(t, first, "atlantis apply -d network"), applied)
	wantText(t, r.command(t, second, "atlantis apply -d database"), applied)
	wantText(t, r.command(t, first, "atlantis apply -d database"), refusedBy(second))
	wantText(t, r.command(t, second, "atlantis apply -d network"), refusedBy(first))
	r.wantHolders(t, map[string]int{"network": first, "database": second})
	r.wantFreedBy(t, "network", "merge or close pull "+number(first))
	r.wantFreedBy(t, "database", "merge or close pull "+number(second))
	r.merge(t, first)
	r.eventuallyHolders(t, map[string]int{"database": second})
	if told := r.deadlocks(t); len(told) != 0 {
		t.Errorf("nobody waits, and this is told: %+v", told)
	}
	wantText(t, r.command(t, second, "atlantis plan -d network"), planned)
	wantText(t, r.command(t, second, "atlantis apply -d network"), applied)
}

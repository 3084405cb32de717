//go:build e2e

package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/dev/internal/atlantis"
	"github.com/atlock/atlock/go/dev/internal/githost"
)

// TestAGitHostThatFails: whoever is next keeps its turn while the Git host does not tell whether its pull request is open, and is planned when it
// does. Other pull requests are planned meanwhile, also while as many questions hang as there are planners.
func TestAGitHostThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plansSled)
	faults := map[string]githost.Fault{
		"answers-404": {Code: 404},
		"answers-401": {Code: 401},
		"answers-502": {Code: 502},
		"is-broken":   {Broken: true},
		"is-silent":   {Silent: true},
		"is-silent-2": {Silent: true},
		"is-silent-3": {Silent: true},
		"is-slow":     {Delay: 3 * time.Second},
	}
	lines, last := map[string]line{}, map[string]int64{}
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		l := newLine(t, w, "acme/"+name)
		lines[name], last[name] = l, l.last(t, l.second)
	}
	other := newLine(t, w, "acme/other")
	for name, l := range lines {
		if err := w.host.SetFault(l.name, faults[name]); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range lines {
		l.merge(t, l.first)
		l.eventuallyReserved(t, "network", l.second)
	}
	other.wantPlannedByItself(t, other.second, func() { other.merge(t, other.first) })
	w.wantPostponed(t, len(faults)-1) // but for the slow one
	for name, l := range lines {
		if name == "is-slow" {
			continue
		}
		if l.last(t, l.second) != last[name] {
			t.Errorf("%s: it was commented on", name)
		}
		l.wantReserved(t, "network", l.second)
		if err := w.host.SetFault(l.name, githost.Fault{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, l := range lines {
		comment := l.commentAfter(t, l.second, last[name])
		wantText(t, comment, planned)
		l.wantHolders(t, map[string]int{"network": l.second})
	}
}

// wantPostponed waits until this many turns were put off, each once at least.
func (w *world) wantPostponed(t *testing.T, wanted int) {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(100 * time.Millisecond) {
		log := w.log(t)
		put := map[string]bool{}
		for text := range strings.SplitSeq(log, "\n") {
			if strings.Contains(text, "but the Git host does not tell whether it is open") {
				_, repo, _ := strings.Cut(text, " of acme/")
				repo, _, _ = strings.Cut(repo, " ")
				put[repo] = true
			}
		}
		if len(put) >= wanted {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d turns were put off, want %d: %v", len(put), wanted, put)
		}
	}
}

// inLine is the repository's line for the lock of a project, as explain tells.
func (r *repository) inLine(t *testing.T, project string) []atlock.InLine {
	t.Helper()
	return r.explainKey(t, r.key(project)).Queue
}

// isReserved tells whether the lock is kept for the pull request.
func (r *repository) isReserved(t *testing.T, project string, number int) bool {
	t.Helper()
	line := r.inLine(t, project)
	return len(line) > 0 && line[0].Pull.Num == number && line[0].ReservedUntil != nil
}

func (r *repository) wantReserved(t *testing.T, project string, number int) {
	t.Helper()
	if !r.isReserved(t, project, number) {
		t.Errorf("%s of %s is not kept for #%d: %+v", project, r.name, number, r.inLine(t, project))
	}
}

func (r *repository) eventuallyReserved(t *testing.T, project string, number int) {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); !r.isReserved(t, project, number); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s of %s is not kept for #%d within %v: %+v", project, r.name, number, answerLimit, r.inLine(t, project))
		}
	}
}

// TestWhoCannotBePlannedAnyMoreIsToldOnce: the fork is gone, or the repository left the allowlist, while the pull request waits. It is told
// once, and the next one's turn comes.
func TestWhoCannotBePlannedAnyMoreIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plansSled)
	l, other, right := newLine(t, w, "acme/left"), newLine(t, w, "acme/stays"), newLine(t, w, "acme/right")
	t.Run("fork is gone", func(t *testing.T) {
		l := newLine(t, w, "acme/fork")
		last := l.last(t, l.second)
		if err := w.host.DeleteFork(l.name, l.second); err != nil {
			t.Fatal(err)
		}
		l.wantPlannedByItself(t, l.third, func() { l.merge(t, l.first) })
		l.wantToldOnce(t, map[int]int64{l.second: last},
			"it cannot be planned:** what the Git host tells of it cannot be read, as of a pull request whose fork is gone")
	})
	t.Run("not allowlisted", func(t *testing.T) {
		lasts := map[int]int64{l.second: l.last(t, l.second), l.third: l.last(t, l.third)}
		w.restartWith(t, "--repo-allowlist=127.0.0.1/acme/stays")
		l.discard(t, "network") // its merge would not be heard of any more
		for number, last := range lasts {
			l.commentAfter(t, number, last)
		}
		other.wantPlannedByItself(t, other.second, func() { other.merge(t, other.first) })
		l.wantToldOnce(t, lasts, "it cannot be planned:** its repository is not in Atlantis's allowlist any more. This pull request waits no more.")
		l.wantHolders(t, map[string]int{})
	})
	// Gitea tells nobody's teams, so Atlantis takes the author for one who may not plan, and says so only in its log.
	t.Run("no right", func(t *testing.T) {
		lasts := map[int]int64{right.second: right.last(t, right.second), right.third: right.last(t, right.third)}
		w.restartWith(t, "--repo-allowlist=*", "--gh-team-allowlist=admins:plan")
		right.merge(t, right.first)
		for number, last := range lasts {
			right.commentAfter(t, number, last)
		}
		right.wantToldOnce(t, lasts, "its plan did not take `network`.** It no longer waits for that. To join the queue again, comment `atlantis plan`.")
		right.wantHolders(t, map[string]int{})
	})
}

// restartWith starts the server anew, with further flags.
func (w *world) restartWith(t *testing.T, flags ...string) {
	t.Helper()
	w.stop(t)
	w.server.Change(func(options *atlantis.Options) { options.Args = append(options.Args, flags...) })
	w.restart(t)
}

// wantToldOnce fails unless each of the pull requests has one comment after that one, with this text.
func (r *repository) wantToldOnce(t *testing.T, after map[int]int64, text string) {
	t.Helper()
	for number, last := range after {
		var told []string
		for _, comment := range r.pull(t, number).Comments {
			if comment.ID > last {
				told = append(told, comment.Body)
			}
		}
		if len(told) != 1 {
			t.Fatalf("#%d of %s was told %d times: %q", number, r.name, len(told), told)
		}
		wantText(t, told[0], text)
	}
}

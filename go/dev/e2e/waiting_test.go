//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/dev/internal/githost"
)

var setsSled = mode{name: "sets-sled", answers: "strict", settings: func(w *world) ([]string, string) {
	flags, content := withQueueOnSled("auto")(w)
	return flags, strings.Replace(content, "replan: auto", "replan: auto, sets: whole", 1)
}}

// TestASetIsPlannedWhole: a plan takes all of its locks or none newly, and whoever can use what a waiting set cannot use yet does.
func TestASetIsPlannedWhole(t *testing.T) {
	t.Parallel()
	r := newWorld(t, setsSled).repository(t, "acme/infra")
	first, comment := r.open(t, "database")
	wantText(t, comment, planned)
	second, comment := r.open(t, "database", "network")
	wantNoText(t, comment, planned)
	blocked := fmt.Sprintf("This pull request takes all of its locks at once, and `database` is locked by #%d: nothing was planned.", first)
	if got := strings.Count(withGiteasSigns(comment), blocked); got != 2 {
		t.Fatalf("the comment tells what blocks the set %d times, and not of each project:\n%s", got, comment)
	}
	wantText(t, comment, refusedBy(first), nextInQueue)
	r.wantHolders(t, map[string]int{"database": first})
	r.wantFreedBy(t, "network", fmt.Sprintf("wait: #%d takes all of its locks at once, and not all of them are free", second))

	third, comment := r.open(t, "network")
	wantText(t, comment, planned)
	last := r.last(t, second)
	r.wantFreedBy(t, "database", fmt.Sprintf("merge or close pull #%d", first))
	r.merge(t, first)
	r.eventuallyHolders(t, map[string]int{"network": third})
	time.Sleep(4 * time.Second) // longer than the server collects locks for
	if r.last(t, second) != last {
		t.Fatal("half of a set was planned")
	}
	r.wantFreedBy(t, "network", fmt.Sprintf("merge or close pull #%d", third))
	r.merge(t, third)
	comment = r.commentAfter(t, second, last)
	if got := strings.Count(comment, planned); got != 2 {
		t.Fatalf("%d projects were planned, and not both:\n%s", got, comment)
	}
	r.wantHolders(t, map[string]int{"database": second, "network": second})
}

// TestManyPullRequestsWait: a hundred wait for one lock, the next one is told that the queue is full, and those whose turn comes are planned in
// the order in which they came.
func TestManyPullRequestsWait(t *testing.T) {
	t.Parallel()
	const limit, turns = 100, 4
	r := newWorld(t, plansSled).repository(t, "acme/infra")
	holder, comment := r.open(t, "network")
	wantText(t, comment, planned)
	begun := time.Now()
	var opening sync.WaitGroup
	slots := make(chan struct{}, 8)
	for range limit {
		opening.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			pull, err := r.host.OpenPull(t.Context(), r.name, "ann", "a change", r.change([]string{"network"}))
			if err == nil {
				_, err = r.host.CommentAfter(t.Context(), r.name, pull.Number, 0)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	t.Logf("%d pull requests wait after %v", limit, time.Since(begun).Round(time.Millisecond))
	_, comment = r.open(t, "network")
	wantText(t, comment, refusedBy(holder), "**The queue is full: this pull request has no place in it.** Comment `atlantis plan` again later.")

	line := r.inLine(t, "network")
	if len(line) != limit {
		t.Fatalf("%d pull requests wait, want %d", len(line), limit)
	}
	if !slices.IsSortedFunc(line, func(a, b atlock.InLine) int { return int(a.Since - b.Since) }) {
		t.Error("the line is not in the order of arrival")
	}
	for _, next := range line[:turns] {
		r.wantPlannedByItself(t, next.Pull.Num, func() { r.merge(t, holder) })
		holder = next.Pull.Num
		r.wantHolders(t, map[string]int{"network": holder})
	}
	for _, later := range line[turns:] {
		if comments := r.pull(t, later.Pull.Num).Comments; len(comments) != 1 {
			t.Errorf("#%d was not to be planned yet: %+v", later.Pull.Num, comments)
		}
	}
}

func (r *repository) pull(t *testing.T, number int) githost.Pull {
	t.Helper()
	pull, err := r.host.Pull(r.name, number)
	if err != nil {
		t.Fatal(err)
	}
	return pull
}

// TestAtMostTwoPlansRunAtOnce: one merge makes it the turn of six pull requests.
func TestAtMostTwoPlansRunAtOnce(t *testing.T) {
	t.Parallel()
	const most = 2
	w := newWorld(t, plansSled)
	files := map[string]string{}
	var projects []string
	for i := range 6 {
		projects = append(projects, fmt.Sprintf("project-%d", i))
		files[projects[i]+"/main.tf"] = "# a project\n"
	}
	if err := w.host.CreateRepository(t.Context(), "acme/wide", files); err != nil {
		t.Fatal(err)
	}
	r := &repository{world: w, name: "acme/wide"}
	first, comment := r.open(t, projects...)
	wantText(t, comment, planned)
	waiting := map[int]slow{}
	for _, project := range projects {
		slow := newSlow(t)
		number := r.openSlowly(t, slow, project)
		wantText(t, r.commentAfter(t, number, 0), refusedBy(first), nextInQueue)
		waiting[number] = slow
	}
	r.merge(t, first)
	for len(waiting) > 0 {
		running := runningOf(waiting)
		for deadline := time.Now().Add(answerLimit); len(running) < min(most, len(waiting)); running = runningOf(waiting) {
			if time.Now().After(deadline) {
				t.Fatalf("%d plans run, and %d pull requests wait", len(running), len(waiting))
			}
			time.Sleep(20 * time.Millisecond)
		}
		if len(waiting) == len(projects) {
			time.Sleep(4 * time.Second) // long enough for one more
			running = runningOf(waiting)
		}
		if len(running) > most {
			t.Fatalf("%d plans run at once", len(running))
		}
		last := r.last(t, running[0])
		waiting[running[0]].end(t)
		delete(waiting, running[0])
		wantText(t, r.commentAfter(t, running[0], last), planned)
	}
}

// runningOf are the pull requests whose plan has begun, of those that are not let go on.
func runningOf(waiting map[int]slow) (running []int) {
	for number, slow := range waiting {
		if _, err := os.Stat(slow.file + ".begun"); err == nil {
			running = append(running, number)
		}
	}
	slices.Sort(running)
	return running
}

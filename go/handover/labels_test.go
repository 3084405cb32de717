package handover

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// labelHost is a Git host that is asked for labels.
type labelHost struct {
	hosts
	asked  atomic.Int32 // a question that is not waited for may still be asked
	answer func(num int) ([]string, error)
}

func (h *labelHost) GetPullLabels(_ logging.SimpleLogging, _ models.Repo, pull models.PullRequest) ([]string, error) {
	h.asked.Add(1)
	return h.answer(pull.Num)
}

func withLabelRule(config *atlock.Config, options *Options) {
	withQueue(config, options)
	config.Locking.Enhanced.PriorityQueue.Rules = []atlock.PriorityRule{{Label: "hotfix", Priority: "critical"}}
}

// ahead are those who wait for a project, the next one first.
func (w *world) ahead(path string) []int {
	w.t.Helper()
	queues, err := w.database.Queues(repo)
	must(w.t, err)
	places := map[int]int{}
	for _, queued := range queues[repo] {
		if place, waits := queued.Keys[repo+"/"+path+"/default/"]; waits {
			places[place.Position] = queued.Pull.Num
		}
	}
	order := make([]int, len(places))
	for position, num := range places {
		order[position-1] = num
	}
	return order
}

// A label counts from the next plan on after it was put on; an apply and an unlock do not ask.
func TestALabelGivesPriorityAtTheNextPlan(t *testing.T) {
	w := newWorld(t, withLabelRule)
	labels := map[int][]string{}
	host := &labelHost{answer: func(num int) ([]string, error) { return labels[num], nil }}
	w.handover.labels.client = host
	wantPlanned(t, w.planned(1, nil, project("a")))
	labels[2] = []string{"docs"}
	w.planned(2, nil, project("a"))
	w.planned(3, nil, project("a"))
	if order := w.ahead("a"); !slices.Equal(order, []int{2, 3}) {
		t.Fatalf("without the label: %v", order)
	}
	labels[3] = []string{"docs", "hotfix"}
	w.planned(3, nil, project("a"))
	if order := w.ahead("a"); !slices.Equal(order, []int{3, 2}) {
		t.Fatalf("with the label: %v", order)
	}
	asked := host.asked.Load()
	wantPlanned(t, w.applied(1, nil, project("a")))
	w.unlocked(1)
	if asked != 4 || host.asked.Load() != asked {
		t.Errorf("asked %d times by plans, then %d", asked, host.asked.Load()-asked)
	}
}

// A Git host that refuses, hangs or panics delays no plan for long: the pull request waits in the order of its arrival, and the log says why.
func TestAGitHostThatTellsNoLabelsBlocksNoPlan(t *testing.T) {
	hung := make(chan struct{})
	defer close(hung)
	for what, answer := range map[string]func(int) ([]string, error){
		"502 Bad Gateway":         func(int) ([]string, error) { return nil, errors.New("502 Bad Gateway") },
		"did not answer within ":  func(int) ([]string, error) { <-hung; return []string{"hotfix"}, nil },
		"panicked: runtime error": func(num int) ([]string, error) { return [][]string{}[num], nil },
	} {
		w := newWorld(t, withLabelRule)
		w.handover.labels = &labeller{&labelHost{answer: answer}, 50 * time.Millisecond}
		wantPlanned(t, w.planned(1, nil, project("a")))
		w.planned(2, nil, project("a"))
		ctx := w.context(3)
		ctx.Log = logging.NewNoopLogger(t).WithHistory()
		begun := time.Now()
		if labels := w.handover.labels.of(ctx, atlock.RunPlan); labels != nil || time.Since(begun) > 5*time.Second {
			t.Errorf("%s: %v after %v", what, labels, time.Since(begun))
		}
		w.planned(3, nil, project("a"))
		if order := w.ahead("a"); !slices.Equal(order, []int{2, 3}) {
			t.Errorf("%s: %v", what, order)
		}
		said := ctx.Log.GetHistory()
		want(t, said, "no priority rule with a label fits this plan", what)
		if lines := strings.Count(said, "\n"); lines > 1 {
			t.Errorf("%s: %d lines:\n%s", what, lines, said)
		}
	}
}

// What is over the library's limits fits no rule, and is no reason to plan without a place.
func TestLabelsAreCutToTheLibrarysLimits(t *testing.T) {
	w := newWorld(t, withLabelRule)
	labels := []string{strings.Repeat("x", longestLabel+1), "hotfix"}
	for i := range 2 * mostLabels {
		labels = append(labels, fmt.Sprint(i))
	}
	w.handover.labels.client = &labelHost{answer: func(int) ([]string, error) { return labels, nil }}
	wantPlanned(t, w.planned(1, nil, project("a")))
	w.planned(2, nil, project("a"))
	if order := w.ahead("a"); !slices.Equal(order, []int{2}) {
		t.Errorf("who waits: %v", order)
	}
	if told := w.handover.labels.of(w.context(2), atlock.RunPlan); len(told) != mostLabels || told[0] != "hotfix" {
		t.Errorf("%d labels, the first is %q", len(told), told[0])
	}
}

// Without a rule that has a label, no Git host is asked.
func TestLabelsAreAskedForOnlyWhereARuleHasOne(t *testing.T) {
	for _, queue := range []atlock.PriorityQueue{
		{},
		{Enabled: true, Rules: []atlock.PriorityRule{{Author: "a*", Priority: "low"}}},
		{Rules: []atlock.PriorityRule{{Label: "hotfix", Priority: "high"}}},
	} {
		asks := newLabeller(&labelHost{}, queue)
		if asks != nil || asks.of(&command.Context{}, atlock.RunPlan) != nil {
			t.Errorf("%+v asks", queue)
		}
	}
}

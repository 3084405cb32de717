package handover

import (
	"fmt"
	"slices"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/events/vcs"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

const (
	// labelsWithin is how long a plan waits for the labels of its pull request. Atlantis's clients mostly have no timeout of their own.
	labelsWithin = 5 * time.Second
	// mostLabels and longestLabel are the limits of the library: what is beyond them fits no rule.
	mostLabels   = 100
	longestLabel = 1024
)

// labeller asks a Git host for the labels of a pull request that is about to be planned, if some rule about priority has one.
//
// A label is put on by people and by bots, at any time, so it is asked for at each plan and never kept. It decides about a place in a queue
// and about nothing else: a Git host that does not tell, or not in time, delays a plan by [labelsWithin] at most, and then no rule with a
// label fits. Its question may go on for longer beside the plan. Bitbucket's and Azure DevOps's clients in Atlantis tell no labels.
type labeller struct {
	client vcs.Client
	within time.Duration
}

// newLabeller is nil where no rule has a label.
func newLabeller(client vcs.Client, queue atlock.PriorityQueue) *labeller {
	hasLabel := func(rule atlock.PriorityRule) bool { return rule.Label != "" }
	if !queue.Enabled || !slices.ContainsFunc(queue.Rules, hasLabel) {
		return nil
	}
	return &labeller{client, labelsWithin}
}

// of are the labels of the command's pull request; nil where they are not needed, or not known.
func (l *labeller) of(ctx *command.Context, name string) []string {
	if l == nil || name != atlock.RunPlan {
		return nil
	}
	type answer struct {
		labels []string
		err    error
	}
	answers := make(chan answer, 1) // also who comes too late is done then
	go func() {
		labels, err := l.ask(ctx.Log, ctx.Pull)
		answers <- answer{labels, err}
	}()
	late := time.NewTimer(l.within)
	defer late.Stop()
	var told answer
	select {
	case told = <-answers:
	case <-late.C:
		told.err = fmt.Errorf("the Git host did not answer within %v", l.within)
	}
	if told.err != nil {
		ctx.Log.Warn("the labels of #%d are not known, so that no priority rule with a label fits this plan: %v", ctx.Pull.Num, told.err)
		return nil
	}
	labels := slices.DeleteFunc(slices.Clone(told.labels), func(label string) bool { return len(label) > longestLabel })
	return labels[:min(len(labels), mostLabels)]
}

// ask asks the Git host. A client that panics has no answer: here is nobody else to catch that.
func (l *labeller) ask(log logging.SimpleLogging, pull models.PullRequest) (labels []string, err error) {
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("Atlantis's client of the Git host panicked: %v", caught)
		}
	}()
	return labelsBy(l.client)(log, pull.BaseRepo, pull)
}

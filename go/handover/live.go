package handover

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// liveLimit is how long the Git host may take for an answer about a pull request.
const liveLimit = 10 * time.Second

// errUnreadable: the Git host answered, and Atlantis cannot make a pull request of what it said; of one whose fork is gone, for example.
var errUnreadable = errors.New("what the Git host tells of the pull request cannot be read")

// pullFetcher asks the Git host about a pull request.
type pullFetcher interface {
	GetLivePullIdentity(project command.ProjectContext) (models.PullRequest, error)
}

// live asks the Git host about pull requests, and outlives whatever the Git host does.
//
// Atlantis's clients of some Git hosts wait for ever, and its readers of some answers panic, which ends the server where no command runs around
// them. Here each question is bounded in time, and a panic is an error. A pull request about which a question is open is not asked
// about again, so that a Git host that hangs costs one goroutine a pull request.
type live struct {
	pullFetcher
	limit time.Duration

	mutex sync.Mutex
	asked map[pullKey]bool // questions that are not answered yet
}

func newLive(fetcher pullFetcher, limit time.Duration) *live {
	return &live{pullFetcher: fetcher, limit: limit, asked: map[pullKey]bool{}}
}

// GetLivePullIdentity is what the Git host tells of a pull request. Errors: errUnreadable; any other is of a Git host that did not answer.
func (l *live) GetLivePullIdentity(project command.ProjectContext) (models.PullRequest, error) {
	key := keyOf(project.Pull.BaseRepo, project.Pull.Num)
	if !l.begin(key) {
		return models.PullRequest{}, errors.New("the Git host has not answered the question before")
	}
	type answer struct {
		pull models.PullRequest
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		defer l.end(key)
		pull, err := l.ask(project)
		answers <- answer{pull, err}
	}()
	timer := time.NewTimer(l.limit)
	defer timer.Stop()
	select {
	case said := <-answers:
		return said.pull, said.err
	case <-timer.C:
		return models.PullRequest{}, fmt.Errorf("the Git host did not answer within %v", l.limit)
	}
}

func (l *live) ask(project command.ProjectContext) (pull models.PullRequest, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("%w: %v", errUnreadable, panicked)
		}
	}()
	pull, err = l.pullFetcher.GetLivePullIdentity(project)
	if err != nil && strings.HasPrefix(err.Error(), "extracting ") { // Atlantis's own words for it; it has no type
		err = fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return pull, err
}

func (l *live) begin(key pullKey) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.asked[key] {
		return false
	}
	l.asked[key] = true
	return true
}

func (l *live) end(key pullKey) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	delete(l.asked, key)
}

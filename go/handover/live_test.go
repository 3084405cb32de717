package handover

import (
	"errors"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// fetches stands in for Atlantis's fetcher.
type fetches func() (models.PullRequest, error)

func (f fetches) GetLivePullIdentity(command.ProjectContext) (models.PullRequest, error) { return f() }

func TestAGitHostIsAskedOnceAtATimeAndNotWaitedForForEver(t *testing.T) {
	hangs, asked := make(chan struct{}), make(chan struct{}, 3)
	asks := newLive(fetches(func() (models.PullRequest, error) {
		asked <- struct{}{}
		<-hangs
		return pull(1), nil
	}), 10*time.Millisecond)
	question := command.ProjectContext{Pull: pull(1)}
	for range 2 {
		if _, err := asks.GetLivePullIdentity(question); err == nil || errors.Is(err, errUnreadable) {
			t.Fatalf("a Git host that does not answer: %v", err)
		}
	}
	if len(asked) != 1 {
		t.Errorf("%d questions are open", len(asked))
	}
	close(hangs)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		found, err := asks.GetLivePullIdentity(question)
		if err == nil && found.Num == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the Git host answers again, and this came of it: %v", err)
		}
	}
}

// Atlantis's reader of Gitea's answers panics at a pull request whose fork is gone, and its readers of others' tell an error.
func TestAnAnswerThatCannotBeReadIsToldApart(t *testing.T) {
	var gone *models.PullRequest
	for name, c := range map[string]struct {
		fetch      fetches
		unreadable bool
	}{
		"panics": {func() (models.PullRequest, error) { return *gone, nil }, true},
		"parser": {func() (models.PullRequest, error) {
			return models.PullRequest{}, errors.New("extracting GitHub pull request identity: invalid repo format")
		}, true},
		"away": {func() (models.PullRequest, error) {
			return models.PullRequest{}, errors.New("making pull request API call to GitHub: 404 Not Found")
		}, false},
	} {
		if _, err := newLive(c.fetch, time.Minute).GetLivePullIdentity(command.ProjectContext{}); err == nil || errors.Is(err, errUnreadable) != c.unreadable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

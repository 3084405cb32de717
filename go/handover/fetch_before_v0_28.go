//go:build atlantis_before_v0_28

package handover

import (
	"fmt"

	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"
)

func (f runnersFetcher) github(_ logging.SimpleLogging, repo models.Repo, num int) (models.PullRequest, error) {
	found, err := f.runner.GithubPullGetter.GetPullRequest(repo, num)
	if err != nil {
		return models.PullRequest{}, err
	}
	pull, _, _, err := f.runner.EventParser.ParseGithubPull(found)
	return told(pull, err)
}

func (f runnersFetcher) gitlab(_ logging.SimpleLogging, repo models.Repo, num int) (models.PullRequest, error) {
	found, err := askedFor(f.runner.GitlabMergeRequestGetter.GetMergeRequest, repo.FullName, num)
	if err != nil {
		return models.PullRequest{}, err
	}
	return f.runner.EventParser.ParseGitlabMergeRequest(found, repo), nil
}

// askedFor is what GitLab answers. Atlantis's client panics where no answer came, which is no answer that cannot be read.
func askedFor[T any](ask func(repo string, num int) (T, error), repo string, num int) (found T, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("GitLab gave no answer: %v", panicked)
		}
	}()
	return ask(repo, num)
}

func (f runnersFetcher) azureDevops(_ logging.SimpleLogging, repo models.Repo, num int) (models.PullRequest, error) {
	found, err := f.runner.AzureDevopsPullGetter.GetPullRequest(repo, num)
	if err != nil {
		return models.PullRequest{}, err
	}
	pull, _, _, err := f.runner.EventParser.ParseAzureDevopsPull(found)
	return told(pull, err)
}

// other is of no kind: this release has no Gitea.
func (f runnersFetcher) other(logging.SimpleLogging, models.Repo, int) (models.PullRequest, error) {
	return models.PullRequest{}, errNotConfigured
}

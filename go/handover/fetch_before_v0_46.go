//go:build atlantis_before_v0_46 && !atlantis_before_v0_28

package handover

import (
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"
)

func (f runnersFetcher) github(log logging.SimpleLogging, repo models.Repo, num int) (models.PullRequest, error) {
	found, err := f.runner.GithubPullGetter.GetPullRequest(log, repo, num)
	if err != nil {
		return models.PullRequest{}, err
	}
	pull, _, _, err := f.runner.EventParser.ParseGithubPull(log, found)
	return told(pull, err)
}

func (f runnersFetcher) gitlab(log logging.SimpleLogging, repo models.Repo, num int) (models.PullRequest, error) {
	found, err := f.runner.GitlabMergeRequestGetter.GetMergeRequest(log, repo.FullName, num)
	if err != nil {
		return models.PullRequest{}, err
	}
	return f.runner.EventParser.ParseGitlabMergeRequest(found, repo), nil
}

func (f runnersFetcher) azureDevops(log logging.SimpleLogging, repo models.Repo, num int) (models.PullRequest, error) {
	found, err := f.runner.AzureDevopsPullGetter.GetPullRequest(log, repo, num)
	if err != nil {
		return models.PullRequest{}, err
	}
	pull, _, _, err := f.runner.EventParser.ParseAzureDevopsPull(found)
	return told(pull, err)
}

func (f runnersFetcher) other(log logging.SimpleLogging, repo models.Repo, num int) (models.PullRequest, error) {
	if repo.VCSHost.Type != models.Gitea || f.runner.GiteaPullGetter == nil {
		return models.PullRequest{}, errNotConfigured
	}
	found, err := f.runner.GiteaPullGetter.GetPullRequest(log, repo, num)
	if err != nil {
		return models.PullRequest{}, err
	}
	pull, _, _, err := f.runner.EventParser.ParseGiteaPull(found)
	return told(pull, err)
}

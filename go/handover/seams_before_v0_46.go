//go:build atlantis_before_v0_46

package handover

import (
	"errors"
	"fmt"
	"time"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// pullFetcherOf is who asks the Git host in this server: Atlantis's own clients, as its command runner has them.
func pullFetcherOf(atlantis *server.Server) pullFetcher {
	return runnersFetcher{atlantis.CommandRunner}
}

// runnersFetcher asks by the command runner's clients.
type runnersFetcher struct{ runner *events.DefaultCommandRunner }

var errNotConfigured = errors.New("Atlantis is not configured for this kind of Git host, or cannot ask it")

// GetLivePullIdentity has the words of newer releases for an answer that cannot be read.
func (f runnersFetcher) GetLivePullIdentity(project command.ProjectContext) (models.PullRequest, error) {
	repo, num := project.Pull.BaseRepo, project.Pull.Num
	switch kind := repo.VCSHost.Type; {
	case kind == models.Github && f.runner.GithubPullGetter != nil:
		return f.github(project.Log, repo, num)
	case kind == models.Gitlab && f.runner.GitlabMergeRequestGetter != nil:
		return f.gitlab(project.Log, repo, num)
	case kind == models.AzureDevops && f.runner.AzureDevopsPullGetter != nil:
		return f.azureDevops(project.Log, repo, num)
	default:
		return f.other(project.Log, repo, num)
	}
}

// told is what a Git host told, if it could be read.
func told(pull models.PullRequest, err error) (models.PullRequest, error) {
	if err != nil {
		err = fmt.Errorf("extracting the pull request: %w", err)
	}
	return pull, err
}

// tail is for how long a command waits for the end of the one before, which comments before that.
const tail = 10 * time.Second

// unlocksWhoeverHolds: a plan that fails gives its lock up as a person does on the page, also one under which something was applied.
const unlocksWhoeverHolds = true

// partsOff is what this release gives no hold for.
var partsOff = []string{
	"a pull request that is closed while its pre-workflow hooks run is seen only by who asks the Git host (locking.enhanced.stale_locks): " +
		"a plan that comes after them takes locks again",
}

// newRepo is models.NewRepo.
func newRepo(kind models.VCSHostType, name, clone, user, token string) (models.Repo, error) {
	return models.NewRepo(kind, name, clone, user, token)
}

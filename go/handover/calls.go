//go:build !atlantis_before_v0_28

package handover

import (
	"github.com/runatlantis/atlantis/server/core/config/valid"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/events/vcs"
	"github.com/runatlantis/atlantis/server/logging"
)

// locksMode is when a project is locked.
type locksMode = valid.RepoLocksMode

const locksOnPlan = valid.RepoLocksOnPlanMode

func modeOf(project command.ProjectContext) locksMode { return project.RepoLocksMode }

// guardApplies has nothing to do: the [locker] is asked before each apply.
func guardApplies(*events.DefaultProjectCommandRunner, *Handover) {}

// isAPI tells whether a command is a call of Atlantis's API.
func isAPI(ctx *command.Context) bool { return ctx.API }

func comment(client vcs.Client, log logging.SimpleLogging, repo models.Repo, num int, text, name string) error {
	return client.CreateComment(log, repo, num, text, name)
}

// labelsBy asks a Git host for labels.
func labelsBy(client vcs.Client) func(logging.SimpleLogging, models.Repo, models.PullRequest) ([]string, error) {
	return client.GetPullLabels
}

func cleanUp(cleaner events.PullCleaner, log logging.SimpleLogging, repo models.Repo, pull models.PullRequest) error {
	return cleaner.CleanUpPull(log, repo, pull)
}

// CleanUpPull is called by Atlantis.
func (c cleaner) CleanUpPull(log logging.SimpleLogging, repo models.Repo, pull models.PullRequest) error {
	return c.cleanUp(log, repo, pull)
}

func deleteLock(stock *events.DefaultDeleteLockCommand, log logging.SimpleLogging, id string) (*models.ProjectLock, error) {
	return stock.DeleteLock(log, id)
}

// DeleteLock is called by Atlantis.
func (d discarder) DeleteLock(log logging.SimpleLogging, id string) (*models.ProjectLock, error) {
	return d.discard(log, id)
}

// CreateComment is called by Atlantis.
func (c commentCollector) CreateComment(_ logging.SimpleLogging, repo models.Repo, num int, text string, _ string) error {
	c.collect(repo, num, text)
	return nil
}

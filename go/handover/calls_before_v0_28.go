//go:build atlantis_before_v0_28

package handover

import (
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/events/vcs"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

// locksMode is when a project is locked: in this release when it is planned, or never.
type locksMode string

const (
	locksOnPlan locksMode = "on_plan"
	locksNever  locksMode = "disabled"
)

func modeOf(project command.ProjectContext) locksMode {
	if project.RepoLocking {
		return locksOnPlan
	}
	return locksNever
}

// guardApplies puts the guard where this release asks whether a project may be applied: it asks no locker.
func guardApplies(runner *events.DefaultProjectCommandRunner, h *Handover) {
	runner.CommandRequirementHandler = requirements{runner.CommandRequirementHandler, h}
}

// requirements are Atlantis's, and the guard behind them.
type requirements struct {
	events.CommandRequirementHandler
	handover *Handover
}

// ValidateApplyProject is called by Atlantis before each apply of a project. It says why the project must not be applied.
func (r requirements) ValidateApplyProject(repoDir string, ctx command.ProjectContext) (string, error) {
	failure, err := r.CommandRequirementHandler.ValidateApplyProject(repoDir, ctx)
	if failure != "" || err != nil {
		return failure, err
	}
	in := r.handover.open.working(keyOf(ctx.Pull.BaseRepo, ctx.Pull.Num))
	if in == nil {
		return "", nil
	}
	project := release.NewProject(ctx.Pull.BaseRepo.FullName, ctx.RepoRelDir, ctx.ProjectName)
	return r.handover.guard(ctx.Log, in, ctx.Pull, atlock.ProjectWorkspace{Project: project, Workspace: ctx.Workspace}), nil
}

// isAPI tells whether a command that makes its list of projects from a comment is a call of Atlantis's API: only that has no trigger.
func isAPI(ctx *command.Context) bool { return ctx.Trigger != command.CommentTrigger }

func comment(client vcs.Client, _ logging.SimpleLogging, repo models.Repo, num int, text, name string) error {
	return client.CreateComment(repo, num, text, name)
}

// labelsBy asks a Git host for labels.
func labelsBy(client vcs.Client) func(logging.SimpleLogging, models.Repo, models.PullRequest) ([]string, error) {
	return func(_ logging.SimpleLogging, repo models.Repo, pull models.PullRequest) ([]string, error) {
		return client.GetPullLabels(repo, pull)
	}
}

func cleanUp(cleaner events.PullCleaner, _ logging.SimpleLogging, repo models.Repo, pull models.PullRequest) error {
	return cleaner.CleanUpPull(repo, pull)
}

// CleanUpPull is called by Atlantis.
func (c cleaner) CleanUpPull(repo models.Repo, pull models.PullRequest) error {
	return c.cleanUp(c.handover.logger, repo, pull)
}

func deleteLock(stock *events.DefaultDeleteLockCommand, _ logging.SimpleLogging, id string) (*models.ProjectLock, error) {
	return stock.DeleteLock(id)
}

// DeleteLock is called by Atlantis.
func (d discarder) DeleteLock(id string) (*models.ProjectLock, error) {
	return d.discard(d.handover.logger, id)
}

// CreateComment is called by Atlantis.
func (c commentCollector) CreateComment(repo models.Repo, num int, text string, _ string) error {
	c.collect(repo, num, text)
	return nil
}

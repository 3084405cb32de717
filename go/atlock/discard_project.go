//go:build !atlantis_before_v0_46

package atlock

import (
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// discardProject gives the store the result of an import: of all results, that one leaves a plan discarded, and it is of one project.
func (p *passthrough) discardProject(pull models.PullRequest, project models.ProjectStatus) error {
	_, err := counted(p, swapPullStatus, askedOfStatus(swapPullStatus, pull), answeredUpdate, func() (models.PullStatus, error) {
		return p.legacy.UpdatePullWithResults(pull, []command.ProjectResult{{
			Command: command.Import, RepoRelDir: project.RepoRelDir, Workspace: project.Workspace, ProjectName: project.ProjectName,
		}})
	})
	return err
}

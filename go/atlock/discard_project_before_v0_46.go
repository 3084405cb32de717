//go:build atlantis_before_v0_46

package atlock

import "github.com/runatlantis/atlantis/server/events/models"

// discardProject is Atlantis's own way: no result of a command leaves a plan discarded here. Of two named projects in one folder it marks the
// first one.
func (p *passthrough) discardProject(pull models.PullRequest, project models.ProjectStatus) error {
	answered := func(error) any { return notKnown }
	return countedError(p, swapPullStatus, askedOfStatus(swapPullStatus, pull), answered, func() error {
		return p.legacy.UpdateProjectStatus(pull, project.Workspace, project.RepoRelDir, models.DiscardedPlanStatus)
	})
}

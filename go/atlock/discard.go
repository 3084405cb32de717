package atlock

import (
	"slices"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

// DiscardPlan marks the plan of one project as discarded, as [Database.UpdateProjectStatus] does with the first project of a folder and
// workspace: of two named projects in one folder that may be the other one. Without a status for the pull, or for the project, it does
// nothing.
func (d *Database) DiscardPlan(pull models.PullRequest, lock ProjectWorkspace) error {
	return throughError(d, func(store inner) error { return store.discardPlan(pull, lock) })
}

// projectOf is the place of the lock's project in a status; -1 if it is not there.
func projectOf(status *models.PullStatus, lock ProjectWorkspace) int {
	return slices.IndexFunc(status.Projects, func(project models.ProjectStatus) bool {
		named := release.NewProject(lock.Project.RepoFullName, project.RepoRelDir, project.ProjectName)
		return ProjectWorkspace{named, project.Workspace}.key() == lock.key()
	})
}

func (l *library) discardPlan(pull models.PullRequest, lock ProjectWorkspace) error {
	_, err := l.updatePullStatus(pull, func(key string, raw []byte) (*models.PullStatus, error) {
		status, err := decodePullStatus(key, raw)
		if status == nil || err != nil {
			return nil, err
		}
		at := projectOf(status, lock)
		if at < 0 {
			return nil, nil
		}
		status.Projects[at].Status = models.DiscardedPlanStatus
		return status, nil
	})
	return err
}

// discardPlan marks the project in Atlantis's own store. No other update of this process comes between the question and that.
func (p *passthrough) discardPlan(pull models.PullRequest, lock ProjectWorkspace) error {
	p.statuses.Lock()
	defer p.statuses.Unlock()
	status, err := p.GetPullStatus(pull)
	if status == nil || err != nil {
		return err
	}
	at := projectOf(status, lock)
	if at < 0 {
		return nil
	}
	return p.discardProject(status.Pull, status.Projects[at])
}

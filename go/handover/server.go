//go:build !atlantis_before_v0_40

package handover

import (
	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/controllers"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// apiReleases: when a call of Atlantis's API ends, Atlantis releases all locks of its pull request.
const apiReleases = true

// projectRunner is what plans and applies each project. The runner of `atlantis cancel` has it as it is, the others inside of wrappers.
func projectRunner(atlantis *server.Server) (*events.DefaultProjectCommandRunner, error) {
	cancel, err := as[*events.CancelCommandRunner](
		"the runner of the command cancel", atlantis.CommandRunner.CommentCommandRunnerByCmd[command.Cancel])
	if err != nil {
		return nil, err
	}
	return as[*events.DefaultProjectCommandRunner]("the cancel runner's ProjectCmdRunner", cancel.ProjectCmdRunner)
}

// markNoPlans keeps Atlantis's page of a lock from marking plans: the [discarder] does.
func markNoPlans(locks *controllers.LocksController) { locks.Database = marked{locks.Database} }

// marked is the database in the hands of Atlantis's page of a lock, which marks a project's plan after the [discarder] has done so.
type marked struct{ db.Database }

func (marked) UpdateProjectStatus(models.PullRequest, string, string, models.ProjectPlanStatus) error {
	return nil
}

//go:build atlantis_before_v0_40

package handover

import (
	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/controllers"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// apiReleases: when a call of Atlantis's API ends, these releases of Atlantis release the locks of its pull request only if it named none.
const apiReleases = false

// projectRunner is what plans and applies each project, inside of the wrappers of the plan's runner.
func projectRunner(atlantis *server.Server) (*events.DefaultProjectCommandRunner, error) {
	plan, err := as[*events.PlanCommandRunner](
		"the runner of the command plan", atlantis.CommandRunner.CommentCommandRunnerByCmd[command.Plan])
	if err != nil {
		return nil, err
	}
	return as[*events.DefaultProjectCommandRunner]("the plan runner's project command runner", events.AtlockProjectRunner(plan))
}

// markNoPlans keeps Atlantis's page of a lock from marking plans: the [discarder] does.
func markNoPlans(locks *controllers.LocksController) { locks.Backend = marked{locks.Backend} }

// marked is the database in the hands of Atlantis's page of a lock, which marks a project's plan after the [discarder] has done so.
type marked struct{ locking.Backend }

func (marked) UpdateProjectStatus(models.PullRequest, string, string, models.ProjectPlanStatus) error {
	return nil
}

//go:build !atlantis_before_v0_40

package conformance

import (
	"errors"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// setTeams sets the teams of the user.
func setTeams(lock *models.ProjectLock, teams []string) { lock.User.Teams = teams }

// planned is the result of a successful plan with changes.
func planned(workspace, dir, project string) command.ProjectResult {
	return command.ProjectResult{
		Command: command.Plan, Workspace: workspace, RepoRelDir: dir, ProjectName: project,
		ProjectCommandOutput: command.ProjectCommandOutput{
			PlanSuccess: &models.PlanSuccess{TerraformOutput: "Plan: 1 to add, 0 to change, 0 to destroy."},
		},
	}
}

func failedPlan(workspace, dir, project string) command.ProjectResult {
	return command.ProjectResult{
		Command: command.Plan, Workspace: workspace, RepoRelDir: dir, ProjectName: project,
		ProjectCommandOutput: command.ProjectCommandOutput{Error: errors.New("no such module")},
	}
}

func applied(workspace, dir, project string) command.ProjectResult {
	return command.ProjectResult{
		Command: command.Apply, Workspace: workspace, RepoRelDir: dir, ProjectName: project,
		ProjectCommandOutput: command.ProjectCommandOutput{ApplySuccess: "done"},
	}
}

func policyChecked(workspace, dir, project string, sets ...models.PolicySetResult) command.ProjectResult {
	return command.ProjectResult{
		Command: command.PolicyCheck, Workspace: workspace, RepoRelDir: dir, ProjectName: project,
		ProjectCommandOutput: command.ProjectCommandOutput{
			PolicyCheckResults: &models.PolicyCheckResults{PolicySetResults: sets},
		},
	}
}

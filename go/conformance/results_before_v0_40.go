//go:build atlantis_before_v0_40

package conformance

import (
	"errors"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// setTeams does nothing: this release keeps no teams.
func setTeams(*models.ProjectLock, []string) {}

// planned is the result of a successful plan with changes.
func planned(workspace, dir, project string) command.ProjectResult {
	return command.ProjectResult{
		Command: command.Plan, Workspace: workspace, RepoRelDir: dir, ProjectName: project,
		PlanSuccess: &models.PlanSuccess{TerraformOutput: "Plan: 1 to add, 0 to change, 0 to destroy."},
	}
}

func failedPlan(workspace, dir, project string) command.ProjectResult {
	return command.ProjectResult{
		Command: command.Plan, Workspace: workspace, RepoRelDir: dir, ProjectName: project,
		Error: errors.New("no such module"),
	}
}

func applied(workspace, dir, project string) command.ProjectResult {
	return command.ProjectResult{
		Command: command.Apply, Workspace: workspace, RepoRelDir: dir, ProjectName: project,
		ApplySuccess: "done",
	}
}

func policyChecked(workspace, dir, project string, sets ...models.PolicySetResult) command.ProjectResult {
	return command.ProjectResult{
		Command: command.PolicyCheck, Workspace: workspace, RepoRelDir: dir, ProjectName: project,
		PolicyCheckResults: &models.PolicyCheckResults{PolicySetResults: sets},
	}
}

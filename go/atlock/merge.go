package atlock

import (
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// mergeResults is how a pull's status follows from the one before and new results, by the rules of the release's own stores
// (UpdatePullWithResults in server/core/boltdb/boltdb.go).
func mergeResults(current *models.PullStatus, pull models.PullRequest, results []command.ProjectResult) models.PullStatus {
	if current == nil || outdated(current.Pull, pull) {
		return freshStatus(current, pull, results)
	}
	merged := *current
	for _, result := range results {
		if project := findProject(merged.Projects, result.Workspace, result.RepoRelDir, result.ProjectName); project != nil {
			project.Status = result.PlanStatus()
			project.PolicyStatus = mergePolicies(project.PolicyStatus, result.PolicyStatus())
		} else {
			merged.Projects = append(merged.Projects, projectStatus(result))
		}
	}
	return merged
}

// freshStatus starts over for a new commit or base branch. Policy approvals of the commit before stay until the policy check
// of the new one writes its own.
func freshStatus(before *models.PullStatus, pull models.PullRequest, results []command.ProjectResult) models.PullStatus {
	var projects []models.ProjectStatus
	for _, result := range results {
		project := projectStatus(result)
		if before != nil && keepsPolicies {
			old := findProject(before.Projects, result.Workspace, result.RepoRelDir, result.ProjectName)
			if old != nil && len(old.PolicyStatus) > 0 {
				project.PolicyStatus = old.PolicyStatus
			}
		}
		projects = append(projects, project)
	}
	return models.PullStatus{Pull: pull, Projects: projects}
}

// outdated tells whether a status belongs to another commit or base branch of the pull.
func outdated(status models.PullRequest, pull models.PullRequest) bool {
	if status.HeadCommit != pull.HeadCommit {
		return true
	}
	return knowsBaseBranch && pull.BaseBranch != "" && status.BaseBranch != pull.BaseBranch
}

// mergePolicies updates the policy sets that the result has and keeps the others.
func mergePolicies(old, updated []models.PolicySetStatus) []models.PolicySetStatus {
	if len(old) == 0 {
		return updated
	}
	for i := range old {
		for _, policy := range updated {
			if old[i].PolicySetName == policy.PolicySetName {
				old[i] = policy
			}
		}
	}
	return old
}

func findProject(projects []models.ProjectStatus, workspace, repoRelDir, name string) *models.ProjectStatus {
	for i := range projects {
		project := &projects[i]
		if project.Workspace == workspace && project.RepoRelDir == repoRelDir && project.ProjectName == name {
			return project
		}
	}
	return nil
}

func projectStatus(result command.ProjectResult) models.ProjectStatus {
	return models.ProjectStatus{
		Workspace:    result.Workspace,
		RepoRelDir:   result.RepoRelDir,
		ProjectName:  result.ProjectName,
		PolicyStatus: result.PolicyStatus(),
		Status:       result.PlanStatus(),
	}
}

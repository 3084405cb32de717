//go:build atlantis_before_v0_28

package release

import "github.com/runatlantis/atlantis/server/events/models"

// ProjectName is the name of a project in its repository's configuration: this release keeps none.
func ProjectName(models.Project) string { return "" }

// Project is a project as it is given, without [NewProject]'s cleaning of the path.
func Project(repo, path, _ string) models.Project {
	return models.Project{RepoFullName: repo, Path: path}
}

// NewProject is models.NewProject.
func NewProject(repo, path, _ string) models.Project { return models.NewProject(repo, path) }

//go:build !atlantis_before_v0_28

package release

import "github.com/runatlantis/atlantis/server/events/models"

// ProjectName is the name of a project in its repository's configuration; empty without one, and in releases that keep none.
func ProjectName(project models.Project) string { return project.ProjectName }

// Project is a project as it is given, without [NewProject]'s cleaning of the path.
func Project(repo, path, name string) models.Project {
	return models.Project{RepoFullName: repo, Path: path, ProjectName: name}
}

// NewProject is models.NewProject.
func NewProject(repo, path, name string) models.Project { return models.NewProject(repo, path, name) }

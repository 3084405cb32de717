package models

// GenerateLockKey is the key of a lock: before v0.40 it has no project name.
func GenerateLockKey(project Project, workspace string) string {
	return project.RepoFullName + "/" + project.Path + "/" + workspace
}

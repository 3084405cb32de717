package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

// fixedTime is the time of locks whose time does not matter to a behaviour. It
// has nanoseconds, since whole seconds would hide rounding.
var fixedTime = time.Date(2025, time.March, 9, 1, 59, 58, 123456789, time.UTC)

// newLock returns a lock with every field set, so that a field that gets lost is noticed.
func newLock(repo, path, workspace, projectName string, pullNum int) models.ProjectLock {
	owner, name := models.SplitRepoFullName(repo)
	lock := models.ProjectLock{
		Project: release.Project(repo, path, projectName),
		Pull: models.PullRequest{
			Num:        pullNum,
			HeadCommit: "b1946ac92492d2347c6235b4d2611184",
			URL:        fmt.Sprintf("https://vcs.example.com/%s/pull/%d", repo, pullNum),
			HeadBranch: "feature/<quotes> & \"ampersands\"",
			BaseBranch: "main",
			Author:     "author",
			State:      models.ClosedPullState,
			BaseRepo: models.Repo{
				FullName:          repo,
				Owner:             owner,
				Name:              name,
				CloneURL:          "https://user:token@vcs.example.com/" + repo + ".git",
				SanitizedCloneURL: "https://user:<redacted>@vcs.example.com/" + repo + ".git",
				VCSHost:           models.VCSHost{Hostname: "vcs.example.com", Type: models.Gitlab},
			},
		},
		User:      models.User{Username: "user"},
		Workspace: workspace,
		Time:      fixedTime,
	}
	setTeams(&lock, []string{"platform", "sre"})
	setBody(&lock, "first line\nsecond line\twith a tab, ünïcödé and \u2028")
	return lock
}

// simpleLock is newLock for behaviours to which only the repository, the path
// and the pull matter.
func simpleLock(repo, path string, pullNum int) models.ProjectLock {
	return newLock(repo, path, "default", "", pullNum)
}

// rivalOf returns another pull's request for the same project and workspace.
func rivalOf(holder models.ProjectLock) models.ProjectLock {
	rival := newLock(holder.Project.RepoFullName, holder.Project.Path, holder.Workspace, release.ProjectName(holder.Project), holder.Pull.Num+1)
	rival.User.Username = "rival"
	rival.Time = holder.Time.Add(time.Hour)
	return rival
}

func keyOf(lock models.ProjectLock) string {
	return models.GenerateLockKey(lock.Project, lock.Workspace)
}

// apart leaves out the locks that share their key with one before: in releases before v0.40 keys do not have the project's name.
func apart(locks ...models.ProjectLock) []models.ProjectLock {
	taken := map[string]bool{}
	return slices.DeleteFunc(locks, func(lock models.ProjectLock) bool {
		isTaken := taken[keyOf(lock)]
		taken[keyOf(lock)] = true
		return isTaken
	})
}

// abbreviate keeps messages readable for very long names and values.
func abbreviate(text string) string {
	const limit = 200
	if len(text) <= limit {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", text[:limit], len(text))
}

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"
)

const (
	// repositories and locksPerPull spread the stored locks: 10,000 locks are 10 repositories of 200 pulls of 5 locks each.
	// UnlockByPull of stock reads every lock of the repository, so this number decides how long that takes.
	repositories = 10
	locksPerPull = 5

	// The numbers of pulls that come and go are above those of the stored locks.
	firstFreshPull = 1_000_000
	firstRivalPull = 2_000_000
)

// epoch is the time of lock number 0. Locks are a second apart, with nanoseconds, as real ones.
var epoch = time.Date(2025, time.March, 9, 1, 59, 58, 123456789, time.UTC)

// description makes a lock's JSON as large as that of a real pull: about 1.1 KB.
var description = strings.Repeat("Raises the node pool's ceiling and moves the state bucket's replica. ", 4)

// storedLock is lock number i of those that stay while the operations are measured.
func storedLock(i int) models.ProjectLock {
	pull := i/repositories/locksPerPull + 1
	return newLock(i%repositories, fmt.Sprintf("stacks/%05d", i), pull, i)
}

// newLock returns a lock whose value no other version has.
func newLock(repository int, path string, pull, version int) models.ProjectLock {
	owner, name := "acme", fmt.Sprintf("infrastructure-%02d", repository)
	repo := owner + "/" + name
	return models.ProjectLock{
		Project:   models.Project{RepoFullName: repo, Path: path},
		Workspace: "default",
		User:      models.User{Username: "reviewer"},
		Time:      epoch.Add(time.Duration(version) * time.Second),
		Pull: models.PullRequest{
			Num:        pull,
			HeadCommit: fmt.Sprintf("%040x", version),
			URL:        fmt.Sprintf("https://git.example.com/%s/pull/%d", repo, pull),
			HeadBranch: fmt.Sprintf("change-%d", pull),
			BaseBranch: "main",
			Author:     "author",
			Body:       fmt.Sprintf("%s\n\nPlan of version %d.", description, version),
			State:      models.OpenPullState,
			BaseRepo: models.Repo{
				FullName:          repo,
				Owner:             owner,
				Name:              name,
				CloneURL:          "https://user:token@git.example.com/" + repo + ".git",
				SanitizedCloneURL: "https://user:<redacted>@git.example.com/" + repo + ".git",
				VCSHost:           models.VCSHost{Hostname: "git.example.com", Type: models.Gitea},
			},
		},
	}
}

// rivalOf is another pull's request for a held lock.
func rivalOf(holder models.ProjectLock) models.ProjectLock {
	rival := holder
	rival.Pull.Num += firstRivalPull
	rival.User.Username = "rival"
	return rival
}

func keyOf(lock models.ProjectLock) string {
	return models.GenerateLockKey(lock.Project, lock.Workspace)
}

// same tells an error if got is not the lock that was expected, field by field.
func same(got *models.ProjectLock, want models.ProjectLock) error {
	switch {
	case got == nil:
		return fmt.Errorf("%s: no lock", keyOf(want))
	case got.Project != want.Project, got.Workspace != want.Workspace, got.User.Username != want.User.Username,
		got.Pull != want.Pull, !got.Time.Equal(want.Time):
		return fmt.Errorf("%s: got %+v, expected %+v", keyOf(want), *got, want)
	}
	return nil
}

package atlock_test

import (
	"fmt"
	"testing"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// Of two named projects in one folder, the plan of the one that was named is discarded, whichever is first in the pull status.
func TestOneOfTwoProjectsInAFolderIsDiscarded(t *testing.T) {
	stores := map[string]func() (*atlock.Database, error){
		"sled": func() (*atlock.Database, error) {
			return atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: atlock.BackendSled, DataDir: t.TempDir()}})
		},
		"boltdb": func() (*atlock.Database, error) { return atlock.Open(atlock.Config{}, atlock.WithBoltDB(t.TempDir())) },
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			database, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer database.Close()
			pull := models.PullRequest{Num: 7, HeadCommit: "c1", BaseBranch: "main", BaseRepo: models.Repo{FullName: "acme/infra"}}
			var plans []command.ProjectResult
			for _, project := range []string{"blue", "green", ""} {
				plans = append(plans, command.ProjectResult{
					Command: command.Plan, RepoRelDir: "network", Workspace: "default", ProjectName: project,
					ProjectCommandOutput: command.ProjectCommandOutput{PlanSuccess: &models.PlanSuccess{TerraformOutput: "Plan: 1 to add"}},
				})
			}
			if _, err := database.UpdatePullWithResults(pull, plans); err != nil {
				t.Fatal(err)
			}
			atAnOlderCommit := pull
			atAnOlderCommit.HeadCommit = "c0"
			for _, step := range []struct{ discards, want string }{
				{"green", "[blue:planned green:plan_discarded :planned]"},
				{"red", "[blue:planned green:plan_discarded :planned]"},
				{"", "[blue:planned green:plan_discarded :plan_discarded]"},
			} {
				lock := atlock.ProjectWorkspace{
					Project: models.Project{RepoFullName: "acme/infra", Path: "network", ProjectName: step.discards}, Workspace: "default",
				}
				if err := database.DiscardPlan(atAnOlderCommit, lock); err != nil {
					t.Fatal(err)
				}
				status, err := database.GetPullStatus(pull)
				if err != nil || status.Pull.HeadCommit != "c1" {
					t.Fatal(status, err)
				}
				var got []string
				for _, project := range status.Projects {
					got = append(got, project.ProjectName+":"+project.Status.String())
				}
				if fmt.Sprint(got) != step.want {
					t.Errorf("after discarding %q: %v, want %s", step.discards, got, step.want)
				}
			}
			pull.Num = 8
			if err := database.DiscardPlan(pull, atlock.ProjectWorkspace{Workspace: "default"}); err != nil {
				t.Error(err)
			}
			if status, err := database.GetPullStatus(pull); status != nil || err != nil {
				t.Error(status, err)
			}
		})
	}
}

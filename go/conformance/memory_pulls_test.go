//go:build !atlantis_before_v0_46

package conformance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// withPullStatus calls a function with the entry of a pull, while no other call runs.
func (m *memory) withPullStatus(pull models.PullRequest, act func(*pullEntry) error) error {
	const separator = "::"
	host, repo := pull.BaseRepo.VCSHost.Hostname, pull.BaseRepo.FullName
	if strings.Contains(host, separator) {
		return fmt.Errorf("vcs hostname %q contains illegal string %q", host, separator)
	}
	if strings.Contains(repo, separator) {
		return fmt.Errorf("repo name %q contains illegal string %q", host, separator)
	}
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	return act(&pullEntry{m.storage.tables[Pulls], pullKey(pull)})
}

// pullEntry is the stored status of one pull.
type pullEntry struct {
	table map[string][]byte
	key   string
}

func (e *pullEntry) get() (*models.PullStatus, error) {
	value, found := e.table[e.key]
	if !found {
		return nil, nil
	}
	var status models.PullStatus
	if err := json.Unmarshal(value, &status); err != nil {
		return nil, fmt.Errorf("deserializing pull: %w", err)
	}
	return &status, nil
}

func (e *pullEntry) set(status models.PullStatus) error {
	value, err := json.Marshal(status)
	if err == nil {
		e.table[e.key] = value
	}
	return err
}

func (m *memory) UpdateProjectStatus(pull models.PullRequest, workspace, dir string, newStatus models.ProjectPlanStatus) error {
	return m.withPullStatus(pull, func(entry *pullEntry) error {
		status, err := entry.get()
		if err != nil || status == nil {
			return err
		}
		for i, project := range status.Projects {
			if project.Workspace == workspace && project.RepoRelDir == dir {
				status.Projects[i].Status = newStatus
				break
			}
		}
		return entry.set(*status)
	})
}

func (m *memory) GetPullStatus(pull models.PullRequest) (status *models.PullStatus, err error) {
	err = m.withPullStatus(pull, func(entry *pullEntry) (err error) {
		status, err = entry.get()
		return err
	})
	return status, err
}

func (m *memory) DeletePullStatus(pull models.PullRequest) error {
	return m.withPullStatus(pull, func(entry *pullEntry) error {
		delete(entry.table, entry.key)
		return nil
	})
}

func (m *memory) UpdatePullWithResults(pull models.PullRequest, results []command.ProjectResult) (status models.PullStatus, err error) {
	err = m.withPullStatus(pull, func(entry *pullEntry) error {
		before, err := entry.get()
		if err != nil {
			before = nil // an unreadable entry is replaced
		}
		status = merge(before, pull, results)
		return entry.set(status)
	})
	return status, err
}

// merge is the rule by which results change a pull's status.
func merge(before *models.PullStatus, pull models.PullRequest, results []command.ProjectResult) models.PullStatus {
	current := before != nil && before.Pull.HeadCommit == pull.HeadCommit &&
		(pull.BaseBranch == "" || pull.BaseBranch == before.Pull.BaseBranch)
	after := models.PullStatus{Pull: pull}
	if current {
		after = *before
	}
	for _, result := range results {
		fresh := projectStatus(result)
		if i := indexOf(after.Projects, fresh); current && i >= 0 {
			mergeProject(&after.Projects[i], fresh)
			continue
		}
		if before != nil && !current {
			if i := indexOf(before.Projects, fresh); i >= 0 && len(before.Projects[i].PolicyStatus) > 0 {
				fresh.PolicyStatus = before.Projects[i].PolicyStatus
			}
		}
		after.Projects = append(after.Projects, fresh)
	}
	return after
}

func indexOf(projects []models.ProjectStatus, project models.ProjectStatus) int {
	return slices.IndexFunc(projects, func(p models.ProjectStatus) bool {
		return p.Workspace == project.Workspace && p.RepoRelDir == project.RepoRelDir && p.ProjectName == project.ProjectName
	})
}

func mergeProject(known *models.ProjectStatus, fresh models.ProjectStatus) {
	known.Status = fresh.Status
	if len(known.PolicyStatus) == 0 {
		known.PolicyStatus = fresh.PolicyStatus
		return
	}
	for i, set := range known.PolicyStatus {
		for _, newSet := range fresh.PolicyStatus {
			if set.PolicySetName == newSet.PolicySetName {
				known.PolicyStatus[i] = newSet
			}
		}
	}
}

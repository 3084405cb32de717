package atlock

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

const (
	pullKeySeparator = "::"
	// maxSwaps bounds how often an update is tried anew because somebody else's came first.
	maxSwaps = 100
)

// pullKey is stock's key of a pull status.
func pullKey(pull models.PullRequest) (string, error) {
	hostname, repo := pull.BaseRepo.VCSHost.Hostname, pull.BaseRepo.FullName
	if strings.Contains(hostname, pullKeySeparator) {
		return "", fmt.Errorf("vcs hostname %q contains illegal string %q", hostname, pullKeySeparator)
	}
	if strings.Contains(repo, pullKeySeparator) {
		// Stock names the host here, too; callers may compare the text.
		return "", fmt.Errorf("repo name %q contains illegal string %q", hostname, pullKeySeparator)
	}
	return fmt.Sprintf("%s::%s::%d", hostname, repo, pull.Num), nil
}

func (l *library) GetPullStatus(pull models.PullRequest) (*models.PullStatus, error) {
	key, err := pullKey(pull)
	if err != nil {
		return nil, err
	}
	raw, err := l.PullStatus(key)
	if err != nil {
		return nil, transactionFailed(err)
	}
	status, err := decodePullStatus(key, raw)
	if err != nil {
		return nil, transactionFailed(err)
	}
	return status, nil
}

func (l *library) DeletePullStatus(pull models.PullRequest) error {
	key, err := pullKey(pull)
	if err != nil {
		return err
	}
	if err := l.Client.DeletePullStatus(key); err != nil {
		return transactionFailed(err)
	}
	return nil
}

func (l *library) UpdateProjectStatus(pull models.PullRequest, workspace string, repoRelDir string, newStatus models.ProjectPlanStatus) error {
	_, err := l.updatePullStatus(pull, func(key string, raw []byte) (*models.PullStatus, error) {
		status, err := decodePullStatus(key, raw)
		if status == nil || err != nil {
			return nil, err
		}
		for i := range status.Projects {
			project := &status.Projects[i]
			if project.Workspace == workspace && project.RepoRelDir == repoRelDir {
				project.Status = newStatus
				break
			}
		}
		return status, nil
	})
	return err
}

func (l *library) UpdatePullWithResults(pull models.PullRequest, newResults []command.ProjectResult) (models.PullStatus, error) {
	status, err := l.updatePullStatus(pull, func(key string, raw []byte) (*models.PullStatus, error) {
		current, err := decodePullStatus(key, raw)
		if err != nil {
			// As stock: an entry of another schema is overwritten with fresh data.
			l.logger.Warn("discarding an unreadable pull status", slog.String("key", key), slog.String("error", err.Error()))
		}
		merged := mergeResults(current, pull, newResults)
		return &merged, nil
	})
	if err != nil || status == nil {
		return models.PullStatus{}, err
	}
	return *status, nil
}

// updatePullStatus replaces a pull's status by what update makes of it, with compare-and-swap: update is called again when
// somebody else's change came first. A nil status from update means no change.
func (l *library) updatePullStatus(pull models.PullRequest, update func(key string, raw []byte) (*models.PullStatus, error)) (*models.PullStatus, error) {
	key, err := pullKey(pull)
	if err != nil {
		return nil, err
	}
	status, err := l.swapUntilDone(key, update)
	if err != nil {
		return nil, transactionFailed(err)
	}
	return status, nil
}

func (l *library) swapUntilDone(key string, update func(key string, raw []byte) (*models.PullStatus, error)) (*models.PullStatus, error) {
	raw, err := l.PullStatus(key)
	if err != nil {
		return nil, err
	}
	for range maxSwaps {
		status, err := update(key, raw)
		if status == nil || err != nil {
			return nil, err
		}
		value, err := json.Marshal(status)
		if err != nil {
			return nil, fmt.Errorf("serializing: %w", err)
		}
		swapped, current, err := l.SwapPullStatus(key, raw, value)
		if err != nil {
			return nil, err
		}
		if swapped {
			return status, nil
		}
		raw = current
	}
	return nil, fmt.Errorf("pull status %q: %w, %d times in a row", key, ErrContended, maxSwaps)
}

func decodePullStatus(key string, raw []byte) (*models.PullStatus, error) {
	if raw == nil {
		return nil, nil
	}
	var status models.PullStatus
	if err := decode(raw, &status); err != nil {
		return nil, fmt.Errorf("deserializing pull at %q: %w", key, err)
	}
	return &status, nil
}

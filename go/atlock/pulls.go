package atlock

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
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

// GetPullStatus returns a pull's status, or nil if there is none.
func (c *core) GetPullStatus(pull models.PullRequest) (*models.PullStatus, error) {
	key, err := pullKey(pull)
	if err != nil {
		return nil, err
	}
	raw, err := c.pullStatus(key)
	if err != nil {
		return nil, fmt.Errorf("DB transaction failed: %w", err)
	}
	status, err := decodePullStatus(key, raw)
	if err != nil {
		return nil, fmt.Errorf("DB transaction failed: %w", err)
	}
	return status, nil
}

// DeletePullStatus deletes a pull's status, if there is one.
func (c *core) DeletePullStatus(pull models.PullRequest) error {
	key, err := pullKey(pull)
	if err != nil {
		return err
	}
	if err := c.slots.run(func() error { return c.handle.DeletePullStatus(key) }); err != nil {
		return fmt.Errorf("DB transaction failed: %w", err)
	}
	return nil
}

// UpdateProjectStatus sets the status of one project of a pull. Without a status for the pull, or for the project, it does
// nothing, as stock.
func (c *core) UpdateProjectStatus(pull models.PullRequest, workspace string, repoRelDir string, newStatus models.ProjectPlanStatus) error {
	_, err := c.updatePullStatus(pull, func(key string, raw []byte) (*models.PullStatus, error) {
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

// UpdatePullWithResults merges new results into a pull's status and returns it. Updates at the same time are all kept.
func (c *core) UpdatePullWithResults(pull models.PullRequest, newResults []command.ProjectResult) (models.PullStatus, error) {
	status, err := c.updatePullStatus(pull, func(key string, raw []byte) (*models.PullStatus, error) {
		current, err := decodePullStatus(key, raw)
		if err != nil {
			// As stock: an entry of another schema is overwritten with fresh data.
			c.logger.Warn("discarding an unreadable pull status", slog.String("key", key), slog.String("error", err.Error()))
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
func (c *core) updatePullStatus(pull models.PullRequest, update func(key string, raw []byte) (*models.PullStatus, error)) (*models.PullStatus, error) {
	key, err := pullKey(pull)
	if err != nil {
		return nil, err
	}
	status, err := c.swapUntilDone(key, update)
	if err != nil {
		return nil, fmt.Errorf("DB transaction failed: %w", err)
	}
	return status, nil
}

func (c *core) swapUntilDone(key string, update func(key string, raw []byte) (*models.PullStatus, error)) (*models.PullStatus, error) {
	raw, err := c.pullStatus(key)
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
		swapped, current, err := c.swapPullStatus(key, raw, value)
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

// pullStatus reads the raw status at key; nil if there is none.
func (c *core) pullStatus(key string) ([]byte, error) {
	var raw []byte
	err := c.slots.run(func() error {
		buffer, err := c.handle.PullStatus(key)
		raw = takeBytes(&buffer)
		return err
	})
	return raw, err
}

// swapPullStatus replaces the raw status at key if it is still expected; otherwise it returns the current one.
func (c *core) swapPullStatus(key string, expected, value []byte) (bool, []byte, error) {
	var swapped bool
	var current []byte
	err := c.slots.run(func() error {
		done, buffer, err := c.handle.SwapPullStatus(key, expected, value)
		swapped, current = done, takeBytes(&buffer)
		return err
	})
	return swapped, current, err
}

// takeBytes copies a buffer's bytes and frees it; nil if it is null.
func takeBytes(buffer *capi.Buffer) []byte {
	if buffer.IsNull() {
		return nil
	}
	defer buffer.Free()
	return append([]byte{}, buffer.Bytes()...)
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

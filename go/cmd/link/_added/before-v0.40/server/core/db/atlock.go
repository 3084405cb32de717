package db

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	bolt "go.etcd.io/bbolt"
)

// Database is locking.Backend, and what releases from v0.37 have beside.
type Database interface {
	TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error)
	Unlock(project models.Project, workspace string) (*models.ProjectLock, error)
	List() ([]models.ProjectLock, error)
	GetLock(project models.Project, workspace string) (*models.ProjectLock, error)
	UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error)
	UpdateProjectStatus(pull models.PullRequest, workspace string, repoRelDir string, newStatus models.ProjectPlanStatus) error
	GetPullStatus(pull models.PullRequest) (*models.PullStatus, error)
	DeletePullStatus(pull models.PullRequest) error
	UpdatePullWithResults(pull models.PullRequest, newResults []command.ProjectResult) (models.PullStatus, error)
	LockCommand(cmdName command.Name, lockTime time.Time) (*command.Lock, error)
	UnlockCommand(cmdName command.Name) error
	CheckCommandLock(cmdName command.Name) (*command.Lock, error)
	Close() error
}

// UnlockIfOwnedByPull releases a lock only if this pull request has it.
func (b *BoltDB) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	var released *models.ProjectLock
	err := b.db.Update(func(tx *bolt.Tx) error {
		bucket, key := tx.Bucket(b.locksBucketName), []byte(b.lockKey(project, workspace))
		value := bucket.Get(key)
		if value == nil {
			return nil
		}
		var lock models.ProjectLock
		if err := json.Unmarshal(value, &lock); err != nil {
			return fmt.Errorf("failed to deserialize lock: %w", err)
		}
		if lock.Pull.Num != pullNum {
			return nil
		}
		released = &lock
		return bucket.Delete(key)
	})
	if err != nil {
		return nil, fmt.Errorf("DB transaction failed: %w", err)
	}
	return released, nil
}

// Ping tells whether the file can be read.
func (b *BoltDB) Ping() error { return b.db.View(func(*bolt.Tx) error { return nil }) }

// Close closes the file.
func (b *BoltDB) Close() error { return b.db.Close() }

package boltdb

import (
	"encoding/json"
	"fmt"

	"github.com/runatlantis/atlantis/server/events/models"
	bolt "go.etcd.io/bbolt"
)

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

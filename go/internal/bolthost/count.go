package bolthost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	bolt "go.etcd.io/bbolt"
)

// CountLocks tells how many locks, of projects and of commands, the file in a folder has: none if it is not there. It changes nothing,
// and waits for another process as [Open] does.
func CountLocks(dir string) (int, error) {
	file := Path(dir)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: openTimeout, OpenFile: OpenWhole})
	if err != nil {
		if errors.Is(err, bolt.ErrTimeout) {
			err = ErrBusy
		}
		return 0, fmt.Errorf("looking for locks in %s: %w", file, err)
	}
	locks := 0
	err = db.View(func(tx *bolt.Tx) error {
		for _, name := range []string{locksBucket, commandsBucket} {
			if bucket := tx.Bucket([]byte(name)); bucket != nil {
				locks += bucket.Stats().KeyN
			}
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return 0, fmt.Errorf("looking for locks in %s: %w", file, err)
	}
	return locks, nil
}

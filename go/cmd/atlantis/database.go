package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/runatlantis/atlantis/server"
	bolt "go.etcd.io/bbolt"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/bolthost"
)

// openDatabase opens what the settings ask for. Strict mode on Atlantis's own store is Atlantis's own code, on the store that
// --locking-db-type names.
func openDatabase(config atlock.Config, user server.UserConfig, logger *slog.Logger) (*atlock.Database, error) {
	if user.LockingDBType == dbTypeRedis && config.Mode() == atlock.ModeStrict && config.Locking.Backend == atlock.BackendBoltDB {
		return openStockRedis(config, user, logger)
	}
	if user.LockingDBType == dbTypeBoltDB && config.Locking.Backend == atlock.BackendSled && !config.HasLocalStore() {
		if err := refuseForgottenLocks(user.DataDir); err != nil {
			return nil, err
		}
	}
	return atlock.Open(config, atlock.WithBoltDB(user.DataDir), atlock.WithLogger(logger))
}

// refuseForgottenLocks refuses to begin with an empty embedded store while stock Atlantis's file has locks: they would be
// granted again.
func refuseForgottenLocks(dataDir string) error {
	path := filepath.Join(dataDir, "atlantis.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	file, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second, OpenFile: bolthost.OpenWhole})
	if err != nil {
		if errors.Is(err, bolt.ErrTimeout) {
			err = bolthost.ErrBusy
		}
		return fmt.Errorf("looking for locks in %s: %w", path, err)
	}
	defer file.Close()
	locks := 0
	err = file.View(func(tx *bolt.Tx) error {
		for _, name := range []string{"runLocks", "globalLocks"} {
			if bucket := tx.Bucket([]byte(name)); bucket != nil {
				locks += bucket.Stats().KeyN
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking for locks in %s: %w", path, err)
	}
	if locks > 0 {
		return fmt.Errorf("%s has locks (%d), which locking.backend: sled would not know, and grant again: keep backend: boltdb, "+
			"or release them first, or move the file away to begin without them", path, locks)
	}
	return nil
}

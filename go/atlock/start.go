package atlock

import (
	"errors"
	"log/slog"

	"github.com/atlock/atlock/go/internal/bolthost"
)

// The rules of a start: what was held when the server ended must be known when it begins, whatever its mode and store were before.
//
// Invariant: no store begins to grant while it may lack a lock that another store of this server holds. Either the lock goes along, or
// opening fails and says where the lock is.

// bringBack gives the BoltDB file what hybrid or native mode had not yet written there, before Atlantis's own code opens it. It
// returns what the library warns of.
func bringBack(config Config, dir string, logger *slog.Logger) ([]string, error) {
	if !config.HasLocalStore() {
		return nil, nil
	}
	// Opening it is all that is needed.
	database, err := openOverBoltDB(config, dir, logger)
	if err != nil {
		return nil, err
	}
	status, err := database.Status()
	return status.Warnings, errors.Join(err, database.Close())
}

// refuseForgottenLocks refuses to begin with an embedded store that is new while Atlantis's BoltDB file has locks: they would be granted
// again.
func refuseForgottenLocks(config Config, dir string) error {
	if config.Locking.Backend != BackendSled || config.HasLocalStore() {
		return nil
	}
	locks, err := bolthost.CountLocks(dir)
	if err != nil {
		return err
	}
	if locks > 0 {
		return invalid("%s has locks (%d), which locking.backend: sled would not know, and grant again: keep backend: boltdb, "+
			"or release them first, or move the file away to begin without them", bolthost.Path(dir), locks)
	}
	return nil
}

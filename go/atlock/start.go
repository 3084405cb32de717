package atlock

import (
	"errors"
	"fmt"
	"log/slog"
)

// The rules of a start: what was held when the server ended must be known when it begins, whatever its mode and store were before.
//
// Invariant: no store begins to grant while it may lack a lock that another store of this server holds. Either the lock goes along, or
// opening fails and says where the lock is.
//
// Faults that it survives: the server was killed in any mode, at any moment; a hand-over was cut off, and is made again by the next
// start; Redis is away, or the BoltDB file is damaged or open elsewhere, which are errors.

// bringBack gives the BoltDB file what hybrid or native mode had not yet written there, before Atlantis's own code opens it. It
// returns what the library warns of.
func bringBack(config Config, dir string, logger *slog.Logger) ([]string, error) {
	if has, err := config.HasLocalStore(); err != nil || !has {
		return nil, err
	}
	// Opening it is all that is needed, without a shadow of it.
	config.Locking.Shadow = Shadow{}
	database, err := openOverBoltDB(config, dir, logger)
	if err != nil {
		return nil, err
	}
	status, err := database.Status()
	return status.Warnings, errors.Join(err, database.Close())
}

// HandOverToRedis brings Redis everything that hybrid mode decided without it, and notes in `locking.data_dir` that others decide in
// Redis from then on. Without a local store in that folder there is nothing to do.
//
// Call it before a program opens the same Redis without this package, or passes that store to [Open] by [WithLegacy] (then with an empty
// data_dir): stock Atlantis's locks in Redis, after hybrid mode. The locks that hybrid mode granted while Redis was away would be granted
// again otherwise; and hybrid mode, when it begins again while Redis is away, would believe that its local store knows all locks, and
// grant what others took in Redis meanwhile. The mode of the settings does not matter.
//
// It needs Redis, and fails within the timeouts of `locking.enhanced.redis` if Redis cannot be used.
func HandOverToRedis(config Config, opts ...Option) error {
	if has, err := config.HasLocalStore(); err != nil || !has {
		return err
	}
	// Native mode does both where it begins. What it does has no shadow.
	config.Locking.Shadow = Shadow{}
	config.Locking.Enhanced.Enabled = true
	config.Locking.Enhanced.CompatibilityMode = ModeNative
	native, err := Open(config, opts...)
	if err == nil {
		err = native.Close()
	}
	if err != nil {
		return fmt.Errorf("Redis must have what hybrid mode decided without it before others use it alone: %w. "+
			"If those changes may be lost, move %s away", err, config.Locking.DataDir)
	}
	return nil
}

package main

import (
	"log/slog"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
)

// openDatabase opens what the settings ask for. Strict mode on Atlantis's own store is Atlantis's own code, on the store that
// --locking-db-type names.
func openDatabase(config atlock.Config, user server.UserConfig, logger *slog.Logger) (*atlock.Database, error) {
	if user.LockingDBType != dbTypeRedis {
		return atlock.Open(config, atlock.WithBoltDB(user.DataDir), atlock.WithLogger(logger))
	}
	if config.Mode() == atlock.ModeStrict && config.Locking.Backend == atlock.BackendBoltDB {
		return openStockRedis(config, user, logger)
	}
	// A BoltDB file that lies there is from before Redis: it is nobody's store.
	return atlock.Open(config, atlock.WithLogger(logger))
}

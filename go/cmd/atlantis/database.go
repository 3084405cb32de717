package main

import (
	"errors"
	"log/slog"
	"reflect"

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

// openStockRedis opens Atlantis's own Redis code, after Redis got what hybrid mode decided while it was away.
func openStockRedis(config atlock.Config, user server.UserConfig, logger *slog.Logger) (*atlock.Database, error) {
	if config.Locking.Shadow.Store == atlock.ShadowRedis && !sameServer(config, user) {
		return nil, errors.New("locking.enhanced.redis is not the Redis of --redis-host, --redis-port, --redis-db or --redis-cluster-addresses, " +
			"which strict mode uses, so that it cannot be told whether locking.shadow.redis is another one: make both the same")
	}
	legacy, err := openRedis(user)
	if err != nil {
		return nil, err
	}
	has, err := config.HasLocalStore()
	if err != nil {
		return nil, errors.Join(err, legacy.Close())
	}
	if has {
		if err := handOver(config, user, logger); err != nil {
			return nil, errors.Join(err, legacy.Close())
		}
		config.Locking.DataDir = "" // nothing is left in it that Redis lacks
	}
	database, err := atlock.Open(config, atlock.WithLegacy(legacy), atlock.WithLogger(logger))
	if err != nil {
		return nil, errors.Join(err, legacy.Close())
	}
	return database, nil
}

// handOver gives Redis what hybrid mode decided without it.
func handOver(config atlock.Config, user server.UserConfig, logger *slog.Logger) error {
	if !sameServer(config, user) {
		return errors.New("locking.enhanced.redis is not the Redis of --redis-host, --redis-port, --redis-db or " +
			"--redis-cluster-addresses, which strict mode uses, and that Redis must have what hybrid mode decided without it: make " +
			"both the same; or, if those changes may be lost, move " + config.Locking.DataDir + " away")
	}
	return atlock.HandOverToRedis(config, atlock.WithLogger(logger))
}

func sameServer(config atlock.Config, user server.UserConfig) bool {
	here, flags := config.Locking.Enhanced.Redis, defaults(user).Locking.Enhanced.Redis
	if len(here.Sentinel.Addresses) > 0 {
		// Stock knows no Sentinels, and would stay with a master that was replaced.
		return false
	}
	if here.ClusterMode || flags.ClusterMode {
		return here.ClusterMode && flags.ClusterMode && reflect.DeepEqual(here.Addresses, flags.Addresses)
	}
	return here.Address == flags.Address && here.DB == flags.DB
}

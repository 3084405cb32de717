package main

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/core/redis"

	"github.com/atlock/atlock/go/atlock"
)

const (
	// settleTimeout is how long Redis may take to get what hybrid mode decided without it.
	settleTimeout = 15 * time.Second
	settlePoll    = 20 * time.Millisecond
)

// openStockRedis opens Atlantis's own Redis code, after Redis got what hybrid mode decided while it was away.
func openStockRedis(config atlock.Config, user server.UserConfig, logger *slog.Logger) (*atlock.Database, error) {
	legacy, err := redis.NewWithConfig(redis.Config{
		Hostname:           user.RedisHost,
		Port:               user.RedisPort,
		Password:           user.RedisPassword,
		Username:           user.RedisUsername,
		TLSEnabled:         user.RedisTLSEnabled,
		InsecureSkipVerify: user.RedisInsecureSkipVerify,
		DB:                 user.RedisDB,
		ClusterAddresses:   clusterAddresses(user),
	})
	if err != nil {
		return nil, err
	}
	if config.HasLocalStore() {
		if err := settle(config, user, logger); err != nil {
			err = fmt.Errorf("strict mode on Redis must not begin before Redis has what hybrid mode decided without it: %w. "+
				"If those changes may be lost, move %s away", err, config.Locking.DataDir)
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

// settle runs hybrid mode until Redis has everything.
func settle(config atlock.Config, user server.UserConfig, logger *slog.Logger) (err error) {
	if !sameServer(config, user) {
		return errors.New("locking.enhanced.redis is not the Redis of --redis-host, --redis-port, --redis-db or " +
			"--redis-cluster-addresses, which strict mode uses: make them the same")
	}
	config.Locking.Backend = atlock.BackendSled
	config.Locking.Enhanced.Enabled = true
	config.Locking.Enhanced.CompatibilityMode = atlock.ModeHybrid
	hybrid, err := atlock.Open(config, atlock.WithLogger(logger))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hybrid.Close()) }()
	for end := time.Now().Add(settleTimeout); ; time.Sleep(settlePoll) {
		status, err := hybrid.Status()
		switch {
		case err != nil:
			return err
		case status.CircuitState == "closed" && status.JournalLength == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("after %s, Redis still lacks the changes of %d locks (%s)", settleTimeout, status.JournalLength, status.Cause)
		}
	}
}

func sameServer(config atlock.Config, user server.UserConfig) bool {
	here, flags := config.Locking.Enhanced.Redis, defaults(user).Locking.Enhanced.Redis
	if here.ClusterMode || flags.ClusterMode {
		return here.ClusterMode && flags.ClusterMode && reflect.DeepEqual(here.Addresses, flags.Addresses)
	}
	return here.Address == flags.Address && here.DB == flags.DB
}

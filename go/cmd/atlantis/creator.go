package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/runatlantis/atlantis/cmd"
	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/logging"
	"github.com/spf13/viper"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/handover"
	"github.com/atlock/atlock/go/hook"
	"github.com/atlock/atlock/go/internal/bolthost"
)

// creator makes stock Atlantis's server, or one with atlock's database.
type creator struct {
	viper  *viper.Viper
	logger logging.SimpleLogging
}

func (c *creator) NewServer(user server.UserConfig, config server.Config) (cmd.ServerStarter, error) {
	settings, err := loadSettings(c.viper.GetString(configFlag), user, os.Environ())
	if err != nil {
		return nil, err
	}
	if settings == nil {
		if user.LockingDBType == dbTypeBoltDB {
			// Stock's code does not start either, and cannot say why.
			if err := bolthost.Moved(user.DataDir); err != nil {
				return nil, err
			}
		}
		left := defaults(user)
		switch has, err := left.HasLocalStore(); {
		case err != nil:
			c.logger.Warn("there are no locking settings: stock Atlantis begins with %s alone. Whether that has all locks is not known: %v",
				storeName(user), err)
		case has:
			c.logger.Warn("%s was left by atlock, and there are no locking settings: stock Atlantis begins with %s alone. If that "+
				"may lack locks, stop, and start once with the settings and ATLANTIS_ENHANCED_LOCKING_ENABLED=false",
				left.Locking.DataDir, storeName(user))
		}
		return newStock(user, config)
	}
	if !hook.Linked() {
		return nil, errors.New("there are locking settings, but this program was built with an Atlantis that does not know " +
			"atlock: build it with make atlantis")
	}
	named := c.viper.GetString(configFlag)
	if why := distrust(settingsFile(named, user), named == ""); why != "" {
		c.logger.Warn("locking: %s", why)
	}
	return newLinked(*settings, named, user, config, c.logger)
}

// newStock makes stock Atlantis's server. On an error the interface is nil, too.
func newStock(user server.UserConfig, config server.Config) (cmd.ServerStarter, error) {
	stock, err := server.NewServer(user, config)
	if err != nil {
		return nil, err
	}
	return stock, nil
}

// storeName is where stock Atlantis keeps its locks.
func storeName(user server.UserConfig) string {
	if user.LockingDBType == dbTypeRedis {
		return "Redis"
	}
	return filepath.Join(user.DataDir, "atlantis.db")
}

// newLinked makes a server over atlock's database, which Atlantis opens through package hook.
func newLinked(
	settings atlock.Config, file string, user server.UserConfig, config server.Config, logger logging.SimpleLogging,
) (*linked, error) {
	var database *atlock.Database
	var store *handover.Store
	log := slog.New(newLogHandler(logger))
	hook.OpenWith(func() (db.Database, error) {
		opened, err := openDatabase(settings, user, log)
		if err != nil {
			return nil, err
		}
		database, store = opened, handover.NewStore(opened)
		return closedLater{store}, nil
	})
	asked := user
	asked.LockingDBType = hook.DBType
	atlantis, err := server.NewServer(asked, config)
	switch {
	case err != nil && database != nil:
		return nil, errors.Join(err, database.Close())
	case err != nil:
		return nil, err
	}
	status, err := database.Status()
	if err != nil {
		return nil, errors.Join(err, database.Close())
	}
	logger.Info("Utilizing atlock %s, mode %s", status.Version, status.Mode)
	for _, warning := range status.Warnings {
		logger.Warn("locking: %s", warning)
	}
	handed, err := handover.Wire(atlantis, database, handover.Options{
		Store: store, Settings: settings, Clones: filepath.Join(user.DataDir, "repos"), UnlockLabel: user.DisableUnlockLabel,
	})
	if err != nil {
		return nil, errors.Join(err, database.Close())
	}
	serving, stop := context.WithCancel(context.Background())
	stopping, hangUp := context.WithCancel(serving)
	changer := &changer{database: database, handover: handed, user: user, named: file, logger: log}
	changer.use(settings)
	if err := routes(serving, stopping, atlantis, changer, handed); err != nil {
		stop()
		hangUp()
		return nil, errors.Join(err, database.Close())
	}
	atlantis.Logger = loginLogger{atlantis.Logger, database}
	return &linked{
		server: atlantis, database: database, handover: handed, changer: changer, logger: logger, serving: serving, stop: stop, hangUp: hangUp,
	}, nil
}

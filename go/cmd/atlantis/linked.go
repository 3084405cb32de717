package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/control"
	"github.com/atlock/atlock/go/handover"
)

// linked is Atlantis's server with atlock's database.
type linked struct {
	server   *server.Server
	database *atlock.Database
	handover *handover.Handover
	changer  *changer
	logger   logging.SimpleLogging
	// stop ends serving: what runs beside the server.
	serving context.Context
	stop    context.CancelFunc
}

// Start serves until the process is told to stop, and then closes the database.
func (l *linked) Start() error {
	var beside sync.WaitGroup
	beside.Go(func() { l.handover.Run(l.serving) })
	stopChanging := l.takeChanges(&beside)
	err := l.server.Start()
	l.stop()
	stopChanging()
	closeErr := l.database.Close() // which ends the wait for whose turn it is
	beside.Wait()
	if closeErr != nil {
		closeErr = fmt.Errorf("closing the locking database: %w", closeErr)
		l.logger.Err("%s", closeErr)
	}
	return errors.Join(err, closeErr)
}

// takeChanges lets commands, and SIGHUP, change mode and settings until it is stopped. Without a socket the server serves all the same.
func (l *linked) takeChanges(beside *sync.WaitGroup) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	beside.Go(func() {
		for {
			select {
			case <-hangups:
				if exchanged, err := l.changer.reload("signal"); err != nil {
					l.logger.Err("SIGHUP: %v", err)
				} else {
					l.logger.Info("SIGHUP: the settings were read again, mode %s: %s", exchanged.To, exchanged.Result)
				}
			case <-l.serving.Done():
				signal.Stop(hangups)
				return
			}
		}
	})
	locking := l.changer.settings.Locking
	if locking.Socket == atlock.SocketOff {
		return func() {}
	}
	listener, err := control.Listen(locking.DataDir, l.changer.answer)
	if err != nil {
		l.logger.Warn("no command can change this server's mode while it runs: %v", err)
		return func() {}
	}
	return func() {
		if err := listener.Close(); err != nil {
			l.logger.Warn("closing the socket by which commands change the mode: %v", err)
		}
	}
}

// closedLater is the database in Atlantis's hands. Atlantis closes its database before it stops to serve, so that late requests
// would reach a closed one, and waits one second for that; linked closes it once nobody is served any more.
type closedLater struct{ db.Database }

// Close does nothing.
func (closedLater) Close() error { return nil }

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
	// hangUp ends before that what pages listen to: Atlantis would wait for it.
	hangUp context.CancelFunc
}

// Start serves until the process is told to stop, and then closes the database.
func (l *linked) Start() error {
	var beside sync.WaitGroup
	beside.Go(func() { l.handover.Run(l.serving) })
	l.takeChanges(&beside)
	stopping, ignore := signal.NotifyContext(l.serving, os.Interrupt, syscall.SIGTERM) // as Atlantis
	context.AfterFunc(stopping, l.hangUp)
	err := l.server.Start()
	ignore()
	l.stop()
	l.changer.stopListening()
	closeErr := l.database.Close() // which ends the wait for whose turn it is
	beside.Wait()
	if closeErr != nil {
		closeErr = fmt.Errorf("closing the locking database: %w", closeErr)
		l.logger.Err("%s", closeErr)
	}
	return errors.Join(err, closeErr)
}

// takeChanges lets commands, and SIGHUP, change mode and settings.
func (l *linked) takeChanges(beside *sync.WaitGroup) {
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
	l.changer.listen(l.changer.settings.Locking.DataDir)
}

// closedLater is the database in Atlantis's hands. Atlantis closes its database before it stops to serve, so that late requests
// would reach a closed one, and waits one second for that; linked closes it once nobody is served any more.
type closedLater struct{ db.Database }

// Close does nothing.
func (closedLater) Close() error { return nil }

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/control"
	"github.com/atlock/atlock/go/handover"
	"github.com/atlock/atlock/go/internal/capi"
)

// changer changes mode and settings of the server while it serves: on request of a command, or on SIGHUP.
//
// Invariants:
//   - The settings file is the truth: after a change that succeeded, a restart comes to the same mode. See [staged].
//   - A change opens the stores by openDatabase, as a start does.
//   - Only what a change can change is changed: a file in which something else is new is refused as a whole, with its name.
type changer struct {
	mutex    sync.Mutex // one change after the other
	database *atlock.Database
	handover *handover.Handover
	user     server.UserConfig
	named    string // by --locking-config
	settings atlock.Config
	logger   *slog.Logger
	audited  atomic.Pointer[string] // the file of the audit trail: a page does not wait for a change that goes on

	socket   sync.Mutex
	listener *control.Listener // guarded by socket; nil without one
	stopped  bool              // the same: there is none any more
}

// listen takes changes by a socket in this folder, and in the one of before no more. Without a socket the server serves all the same.
func (c *changer) listen(folder string) {
	c.socket.Lock()
	defer c.socket.Unlock()
	if c.stopped || c.settings.Locking.Socket == atlock.SocketOff {
		return
	}
	if c.listener != nil {
		go c.closeListener(c.listener) // it waits for its requests, and this may be in one
	}
	listener, err := control.Listen(folder, c.answer, func(by control.Peer) {
		c.database.As(actorOf(by)).Denied("control", "another user of this machine may not change the server")
	})
	if err != nil {
		c.logger.Warn("no command can change this server's mode while it runs", "error", err)
	}
	c.listener = listener
}

// stopListening ends that; who is being answered still is.
func (c *changer) stopListening() {
	c.socket.Lock()
	listener := c.listener
	c.listener, c.stopped = nil, true
	c.socket.Unlock()
	if listener != nil {
		c.closeListener(listener)
	}
}

func (c *changer) closeListener(listener *control.Listener) {
	if err := listener.Close(); err != nil {
		c.logger.Warn("closing the socket by which commands change the mode", "error", err)
	}
}

// use makes these the settings of the server.
func (c *changer) use(settings atlock.Config) {
	c.settings = settings
	c.audited.Store(&settings.Locking.Audit.File)
}

// auditFile is the file to which the audit trail is written now.
func (c *changer) auditFile() string { return *c.audited.Load() }

// refuse is an error with a code, for whoever asked by the socket.
func refuse(code capi.Code, format string, args ...any) error {
	return &atlock.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// actorOf is who asks by the socket, for the audit trail.
func actorOf(by control.Peer) atlock.Actor {
	return atlock.Actor{Via: atlock.ViaCommandLine, By: atlock.Person{UID: &by.Socket.Uid, PID: &by.Socket.Pid}}
}

// modeAnswer tells in which mode the server is.
type modeAnswer struct {
	Mode       atlock.Mode    `json:"mode"`
	File       string         `json:"file,omitempty"` // of the settings; empty: the environment alone
	LastChange *atlock.Change `json:"last_change,omitempty"`
}

// answer answers a request by the control socket.
func (c *changer) answer(request control.Request) (any, error) {
	if request.Op != "mode" && c.settings.Locking.Socket == atlock.SocketRead {
		c.database.As(actorOf(request.By)).Denied(request.Op, "locking.socket is read")
		return nil, refuse(capi.Permission, "%s is not done by this server's socket: locking.socket is read. Set it to all and restart the server", request.Op)
	}
	switch request.Op {
	case "mode":
		status, err := c.database.Status()
		if err != nil {
			return nil, err
		}
		return modeAnswer{status.Mode, settingsFile(c.named, c.user), status.LastChange}, nil
	case "change_mode":
		var mode atlock.Mode
		if err := json.Unmarshal(request.Input, &mode); err != nil {
			return nil, err
		}
		return c.changeMode(mode, request.By)
	case "reload":
		return c.reload(request.By)
	case "migrate":
		return c.migrate(request.Input, request.By)
	default:
		return nil, refuse(capi.Unsupported, "there is no operation %q here", request.Op)
	}
}

// changeMode changes the mode, in the settings file, too.
func (c *changer) changeMode(mode atlock.Mode, by any) (*atlock.Exchanged, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !slices.Contains([]atlock.Mode{atlock.ModeStrict, atlock.ModeHybrid, atlock.ModeNative}, mode) {
		return nil, refuse(capi.InvalidArgument, "the mode %q is none: it is strict, hybrid or native", mode)
	}
	file := settingsFile(c.named, c.user)
	if file == "" {
		return nil, refuse(capi.InvalidConfig, "this server has no settings file, so that the mode would not outlast a restart: set "+
			"ATLANTIS_ENHANCED_LOCKING_ENABLED and ATLANTIS_ENHANCED_LOCKING_COMPATIBILITY_MODE and restart it")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	byHand := "write `enabled` and `compatibility_mode` of locking.enhanced by hand where the file is made, and then type `atlock reload`"
	if text, err = withMode(text, mode); err != nil {
		return nil, refuse(capi.InvalidConfig, "%s: %v: %s", file, err, byHand)
	}
	made, err := stage(file, text)
	if err != nil {
		return nil, refuse(capi.InvalidConfig, "nothing was changed: %v: %s", err, byHand)
	}
	defer made.drop()
	settings, err := loadSettings(made.beside, c.user, os.Environ())
	if err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	if found := settings.Mode(); found != mode {
		return nil, refuse(capi.InvalidConfig, "nothing was changed: with %s in %s the mode would be %s, since an environment variable "+
			"(ATLANTIS_ENHANCED_LOCKING_…) decides: change that and restart the server", mode, file, found)
	}
	return c.change(*settings, &made, by)
}

// reload reads the settings again.
func (c *changer) reload(by any) (*atlock.Exchanged, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	settings, err := loadSettings(c.named, c.user, os.Environ())
	if err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	if settings == nil {
		return nil, refuse(capi.InvalidConfig, "nothing was changed: there are no locking settings any more; stock Atlantis's locking begins with a restart")
	}
	if settings.Locking.Encryption != (atlock.Encryption{}) {
		// Opening the stores reads the key again, which may be another one behind the same setting.
		return c.changeBy(*settings, nil, by, steps{})
	}
	return c.change(*settings, nil, by)
}

// steps are what a change does while no store is open; nil: nothing.
type steps struct{ between, undo func() error }

// change brings the server to other settings, and then puts them into the file.
func (c *changer) change(settings atlock.Config, file *staged, by any) (*atlock.Exchanged, error) {
	if _, err := c.database.Status(); err == nil && reflect.DeepEqual(settings, c.settings) { // with an error no store is open
		mode := settings.Mode()
		return &atlock.Exchanged{Change: atlock.Change{From: mode, To: mode, Result: atlock.ChangeNone}}, nil
	}
	return c.changeBy(settings, file, by, steps{})
}

func (c *changer) changeBy(settings atlock.Config, file *staged, by any, steps steps) (*atlock.Exchanged, error) {
	before := c.settings
	if fixed := fixedAtStart(before, settings, steps.between != nil); len(fixed) > 0 {
		return nil, refuse(capi.InvalidConfig, "nothing was changed: %s is read at a start alone. Put it back as it was, or restart the server", strings.Join(fixed, ", "))
	}
	open := func(settings atlock.Config) func() (*atlock.Database, error) {
		return func() (*atlock.Database, error) { return openDatabase(settings, c.user, c.logger) }
	}
	changed, err := atlock.ChangedSettings(before, settings)
	if err != nil {
		return nil, err
	}
	exchanged, err := c.database.Change(atlock.Exchange{
		Settings: changed, To: settings.Mode(), Check: c.needs(settings, steps), Open: open(settings), Reopen: open(before), By: by,
		Between: steps.between, Undo: steps.undo,
	})
	if err == nil && file != nil {
		if err = file.commit(); err != nil {
			err = fmt.Errorf("%s cannot be replaced, and a restart would come to another mode: %w", file.path, err)
			back, backErr := c.database.Change(atlock.Exchange{
				To: before.Mode(), Open: open(before), Reopen: open(settings), By: by, Between: steps.undo,
			})
			if backErr == nil {
				return &back, fmt.Errorf("%w. The settings of before hold again", err)
			}
			err = fmt.Errorf("%w, and %w", err, backErr)
		}
	}
	if err != nil {
		return nil, err
	}
	c.use(settings)
	c.handover.Follow(settings)
	if settings.Locking.DataDir != before.Locking.DataDir {
		c.listen(settings.Locking.DataDir)
	}
	return &exchanged, nil
}

// needs looks whether Redis is there, if the mode uses Redis. A start of hybrid mode goes on without Redis, and grants nothing until Redis is
// there; a change that leads there is none that anybody wants. And another key than the stores are sealed under must be found out while they
// are open.
func (c *changer) needs(settings atlock.Config, steps steps) func() error {
	return func() error {
		if err := c.database.CheckKeys(settings); err != nil && c.isOpen() {
			return fmt.Errorf("nothing was changed: %w", err)
		}
		if settings.Mode() == atlock.ModeStrict {
			return nil
		}
		err := atlock.CheckRedis(settings)
		if steps.between != nil && errors.Is(err, atlock.ErrStoreMoved) {
			return nil // of an earlier migration: this one may replace what that left
		}
		return err
	}
}

// isOpen tells whether any store is open: after a change that failed, and whose way back failed, none is.
func (c *changer) isOpen() bool {
	_, err := c.database.Status()
	return err == nil
}

// fixedAtStart are the settings that differ and that only a start reads. A migration may lead to another folder.
func fixedAtStart(before, after atlock.Config, migrates bool) (names []string) {
	old, new := before.Locking, after.Locking
	if migrates {
		old.DataDir = new.DataDir
	}
	for _, setting := range []struct {
		name     string
		old, new any
	}{
		{"locking.data_dir", old.DataDir, new.DataDir},
		{"locking.socket", old.Socket, new.Socket},
		{"locking.timeout", old.Timeout, new.Timeout},
		{"locking.enhanced.priority_queue", old.Enhanced.PriorityQueue, new.Enhanced.PriorityQueue},
		{"locking.enhanced.deadlock_detection", old.Enhanced.DeadlockDetection, new.Enhanced.DeadlockDetection},
		{"locking.enhanced.timeouts", old.Enhanced.Timeouts, new.Enhanced.Timeouts},
		{"locking.enhanced.stale_locks", old.Enhanced.StaleLocks, new.Enhanced.StaleLocks},
	} {
		if !reflect.DeepEqual(setting.old, setting.new) {
			names = append(names, setting.name)
		}
	}
	return names
}

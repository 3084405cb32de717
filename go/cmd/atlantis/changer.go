package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/control"
	"github.com/atlock/atlock/go/handover"
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
}

// modeAnswer tells in which mode the server is.
type modeAnswer struct {
	Mode       string         `json:"mode"`
	File       string         `json:"file,omitempty"` // of the settings; empty: the environment alone
	LastChange *atlock.Change `json:"last_change,omitempty"`
}

// answer answers a request by the control socket.
func (c *changer) answer(request control.Request) (any, error) {
	if request.Op != "mode" && c.settings.Locking.Socket == atlock.SocketRead {
		return nil, fmt.Errorf("%w: %s is not done by this server's socket: locking.socket is read. Set it to all and restart the server",
			atlock.ErrPermission, request.Op)
	}
	switch request.Op {
	case "mode":
		status, err := c.database.Status()
		if err != nil {
			return nil, err
		}
		return modeAnswer{status.Mode, settingsFile(c.named, c.user), status.LastChange}, nil
	case "change_mode":
		var mode string
		if err := json.Unmarshal(request.Input, &mode); err != nil {
			return nil, err
		}
		return c.changeMode(mode, request.By)
	case "reload":
		return c.reload(request.By)
	default:
		return nil, fmt.Errorf("%w: there is no operation %q here", atlock.ErrUnsupported, request.Op)
	}
}

// changeMode changes the mode, in the settings file, too.
func (c *changer) changeMode(mode string, by any) (*atlock.Exchanged, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !slices.Contains([]string{atlock.ModeStrict, atlock.ModeHybrid, atlock.ModeNative}, mode) {
		return nil, fmt.Errorf("%w: the mode %q is none: it is strict, hybrid or native", atlock.ErrInvalidArgument, mode)
	}
	file := settingsFile(c.named, c.user)
	if file == "" {
		return nil, fmt.Errorf("%w: this server has no settings file, so that the mode would not outlast a restart: set "+
			"ATLANTIS_ENHANCED_LOCKING_ENABLED and ATLANTIS_ENHANCED_LOCKING_COMPATIBILITY_MODE and restart it", atlock.ErrInvalidConfig)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	byHand := "write `enabled` and `compatibility_mode` of locking.enhanced by hand where the file is made, and then type `atlock reload`"
	if text, err = withMode(text, mode); err != nil {
		return nil, fmt.Errorf("%w: %s: %w: %s", atlock.ErrInvalidConfig, file, err, byHand)
	}
	made, err := stage(file, text)
	if err != nil {
		return nil, fmt.Errorf("%w: nothing was changed: %w: %s", atlock.ErrInvalidConfig, err, byHand)
	}
	defer made.drop()
	settings, err := loadSettings(made.beside, c.user, os.Environ())
	if err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	if found := settings.Mode(); found != mode {
		return nil, fmt.Errorf("%w: nothing was changed: with %s in %s the mode would be %s, since an environment variable "+
			"(ATLANTIS_ENHANCED_LOCKING_…) decides: change that and restart the server", atlock.ErrInvalidConfig, mode, file, found)
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
		return nil, fmt.Errorf("%w: nothing was changed: there are no locking settings any more; stock Atlantis's locking begins with a restart",
			atlock.ErrInvalidConfig)
	}
	return c.change(*settings, nil, by)
}

// change brings the server to other settings, and then puts them into the file.
func (c *changer) change(settings atlock.Config, file *staged, by any) (*atlock.Exchanged, error) {
	before := c.settings
	if reflect.DeepEqual(settings, before) {
		return &atlock.Exchanged{Change: atlock.Change{From: before.Mode(), To: settings.Mode(), Result: "unchanged"}}, nil
	}
	if fixed := fixedAtStart(before, settings); len(fixed) > 0 {
		return nil, fmt.Errorf("%w: nothing was changed: %s is read at a start alone. Put it back as it was, or restart the server",
			atlock.ErrInvalidConfig, strings.Join(fixed, ", "))
	}
	open := func(settings atlock.Config) func() (*atlock.Database, error) {
		return func() (*atlock.Database, error) { return openDatabase(settings, c.user, c.logger) }
	}
	exchanged, err := c.database.Change(atlock.Exchange{
		To: settings.Mode(), Check: needs(settings), Open: open(settings), Reopen: open(before), By: by,
	})
	if err == nil && file != nil {
		if err = file.commit(); err != nil {
			err = fmt.Errorf("%s cannot be replaced, and a restart would come to another mode: %w", file.path, err)
			back, backErr := c.database.Change(atlock.Exchange{To: before.Mode(), Open: open(before), Reopen: open(settings), By: by})
			if backErr == nil {
				return &back, fmt.Errorf("%w. The settings of before hold again", err)
			}
			err = fmt.Errorf("%w, and %w", err, backErr)
		}
	}
	if err != nil {
		return nil, err
	}
	c.settings = settings
	c.handover.Follow(settings)
	return &exchanged, nil
}

// needs looks whether Redis is there, if the mode uses Redis. A start of hybrid mode goes on without Redis, and grants nothing until Redis is
// there; a change that leads there is none that anybody wants.
func needs(settings atlock.Config) func() error {
	return func() error {
		if settings.Mode() == atlock.ModeStrict {
			return nil
		}
		return atlock.CheckRedis(settings)
	}
}

// fixedAtStart are the settings that differ and that only a start reads.
func fixedAtStart(before, after atlock.Config) (names []string) {
	old, new := before.Locking, after.Locking
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

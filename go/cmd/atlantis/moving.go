package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/capi"
)

// moving is a migration that a command asks the server to make: from its own store to that of another settings file.
//
// Invariant: while the migration runs, no store is open here, so that what it demands of a stopped server is so. Afterwards the server has the
// new store open, and its settings file is the new one; or the migration was rolled back, and the store of before is open.
//
// Faults that it survives: those of a migration. A server that is killed meanwhile finds its store marked at its next start, and says so: the same
// command, or `atlock rollback`, then goes on without a server.
type moving struct {
	From string   `json:"from"` // as --from: the settings file of this server, or its BoltDB file
	To   string   `json:"to"`   // the new settings file, with its whole path
	Work string   `json:"work"` // the migration's folder, with its whole path
	More []string `json:"more"` // other options of the command
	// Execute is whether it is done. Otherwise the store is closed for as long as the plan looks at it, and opened again.
	Execute bool `json:"execute"`
}

// settingsBefore is where, in the migration's folder, the settings file is kept as it was.
const settingsBefore = "settings.before.yaml"

// moved is what came of it.
type moved struct {
	*atlock.Exchanged
	Status  int    `json:"status"`  // the command's exit status
	Out     string `json:"out"`     // what it wrote to stdout
	Remarks string `json:"remarks"` // and to stderr
}

// migrate moves all locks to another store, and goes on there.
func (c *changer) migrate(input json.RawMessage, by any) (*moved, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	var asked moving
	if err := json.Unmarshal(input, &asked); err != nil {
		return nil, err
	}
	file := settingsFile(c.named, c.user)
	if file == "" {
		return nil, refuse(capi.InvalidConfig, "this server has no settings file, so that its new store would not outlast a restart: stop it for the migration")
	}
	if err := c.isOwn(asked.From); err != nil {
		return nil, err
	}
	settings, err := loadSettings(asked.To, c.user, os.Environ())
	if err != nil {
		return nil, err
	}
	answer := &moved{}
	args := []string{"migrate", "--from", asked.From, "--to", "config:" + asked.To, "--work", asked.Work}
	if !asked.Execute {
		look := steps{between: func() error { _ = answer.run(append(args, asked.More...)...); return nil }}
		answer.Exchanged, err = c.changeBy(c.settings, nil, by, look)
		return answer, err
	}
	if c.settings.Locking.Audit.File != "" {
		args = append(args, "--config", file)
		if by != nil {
			asker, err := json.Marshal(by)
			if err != nil {
				return nil, err
			}
			args = append(args, "--asked-by", string(asker))
		}
	}
	return answer, c.moves(asked, append(args, "--execute"), *settings, answer, by)
}

// moves makes the migration, and puts the new settings into the settings file.
func (c *changer) moves(asked moving, args []string, settings atlock.Config, answer *moved, by any) error {
	file := settingsFile(c.named, c.user)
	before, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(asked.To)
	if err != nil {
		return err
	}
	made, err := stage(file, text)
	if err != nil {
		return refuse(capi.InvalidConfig, "nothing was changed: %v. Where the file is made, write what %s has, and migrate with the server stopped",
			err, asked.To)
	}
	defer made.drop()
	manifest := filepath.Join(asked.Work, "manifest.json")
	answer.Exchanged, err = c.changeBy(settings, &made, by, steps{
		between: func() error { return answer.run(append(args, asked.More...)...) },
		undo: func() error {
			if _, err := os.Stat(manifest); err != nil {
				return nil // nothing was begun
			}
			return new(moved).run("rollback", manifest)
		},
	})
	if err != nil {
		return err
	}
	// Whoever goes back has to name the store of before.
	kept := filepath.Join(asked.Work, settingsBefore)
	if err := os.WriteFile(kept, before, 0o600); err != nil {
		c.logger.Warn("the settings of before the migration are not kept", "file", kept, "error", err)
	}
	return nil
}

// run runs the command. What could not be taken along is told, and no error.
func (m *moved) run(args ...string) error {
	var out, remarks bytes.Buffer
	m.Status = atlock.MigrationCommand(args, &out, &remarks)
	m.Out, m.Remarks = out.String(), remarks.String()
	isComplete := strings.Contains(m.Out, "phase     complete\n") || strings.Contains(m.Out, `"phase":"complete"`)
	if m.Status != 0 && !isComplete {
		return errors.New(strings.TrimSpace(strings.TrimPrefix(m.Remarks, "atlock: ")))
	}
	return nil
}

// isOwn is an error if a name is not that of the store that this server has.
func (c *changer) isOwn(from string) error {
	kind, path, _ := strings.Cut(from, ":")
	switch kind {
	case "config":
		settings, err := loadSettings(path, c.user, os.Environ())
		if err != nil {
			return err
		}
		if settings != nil && reflect.DeepEqual(*settings, c.settings) {
			return nil
		}
	case "boltdb":
		isStocks := c.settings.Mode() == atlock.ModeStrict && c.settings.Locking.Backend != atlock.BackendSled && c.user.LockingDBType != dbTypeRedis
		if isStocks && path == filepath.Join(c.user.DataDir, "atlantis.db") {
			return nil
		}
	}
	return refuse(capi.InvalidArgument, "nothing was changed: the server that runs has another store than %s: name its settings file as it is, config:%s, or its "+
		"BoltDB file", from, settingsFile(c.named, c.user))
}

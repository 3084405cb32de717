package atlock

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/bolthost"
	"github.com/atlock/atlock/go/internal/capi"
)

// Database is Atlantis's database: all methods of db.Database, with stock's results and error texts. Its methods may be called
// from any goroutine at once. After Close they fail with [ErrClosed]; closing again is harmless.
type Database struct {
	database
}

var _ db.Database = (*Database)(nil)

// database is what the two kinds of Database do: Atlantis's own store called directly, or the library.
type database interface {
	db.Database
	Status() (Status, error)
	Health() (Health, error)
	Metrics() (string, error)
	Standings(keys []string) ([]Standing, error)
}

// Backend is the interface of Atlantis's locking package in v0.36 and older.
type Backend interface {
	TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error)
	Unlock(project models.Project, workspace string) (*models.ProjectLock, error)
	List() ([]models.ProjectLock, error)
	GetLock(project models.Project, workspace string) (*models.ProjectLock, error)
	UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error)
}

// Option changes what [Open] does.
type Option func(*options)

type options struct {
	legacy db.Database
	boltDB *string // a folder
	logger *slog.Logger
}

// WithLegacy passes Atlantis's own database in: the legacy store for `locking.backend: boltdb`. In strict mode it is called
// directly, so it answers bug for bug and at its own speed. The Database closes it; it stays the caller's if Open fails.
func WithLegacy(legacy db.Database) Option {
	return func(o *options) { o.legacy = legacy }
}

// WithBoltDB passes Atlantis's own BoltDB file in this folder in: the legacy store for `locking.backend: boltdb`. In strict mode
// this is [WithLegacy] of Atlantis's boltdb.New. Hybrid mode needs this one: it keeps the file's values byte for byte, which a
// db.Database does not show. What does not use the legacy store does not open the file.
func WithBoltDB(dir string) Option {
	return func(o *options) { o.boltDB = &dir }
}

// WithLogger says where entries that cannot be read are reported. The default is slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) { o.logger = logger }
}

// Open opens the stores that the settings name. If it fails, nothing stays open.
//
// Errors tell by their sentinel what is wrong: for example [ErrInvalidConfig], [ErrStoreBusy], [ErrStoreDamaged],
// [ErrUnreachable], [ErrAuthentication].
func Open(config Config, opts ...Option) (*Database, error) {
	o := options{logger: slog.Default()}
	for _, option := range opts {
		option(&o)
	}
	if o.legacy != nil && o.boltDB != nil {
		return nil, &Error{Code: capi.InvalidConfig, Message: "both WithLegacy and WithBoltDB were passed, and there is one legacy store: pass WithBoltDB alone"}
	}
	settings, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	switch {
	case config.strictOnBoltDB() && o.legacy != nil:
		if config.HasLocalStore() {
			return nil, &Error{Code: capi.InvalidConfig, Message: "hybrid or native mode was in use with locking.data_dir " + config.Locking.DataDir +
				", and what it holds must go into the BoltDB file first: pass WithBoltDB with the file's folder instead of WithLegacy"}
		}
		return &Database{newDirect(o.legacy, directWarnings(config, nil, o.logger))}, nil
	case config.strictOnBoltDB() && o.boltDB != nil:
		brought, err := config.bringBack(settings, *o.boltDB, o.logger)
		if err != nil {
			return nil, err
		}
		if err := bolthost.Check(*o.boltDB); err != nil {
			return nil, err
		}
		legacy, err := boltdb.New(*o.boltDB)
		if err != nil {
			return nil, err
		}
		return &Database{newDirect(legacy, directWarnings(config, brought, o.logger))}, nil
	case config.onBoltDB() && o.legacy != nil:
		return nil, &Error{Code: capi.InvalidConfig, Message: config.Locking.Enhanced.CompatibilityMode +
			" mode reads and writes the BoltDB file itself: pass WithBoltDB with its folder instead of WithLegacy"}
	case config.onBoltDB() && o.boltDB != nil:
		return config.openOverBoltDB(settings, *o.boltDB, o.logger)
	}
	handle, err := capi.Open(settings)
	if err != nil {
		return nil, err
	}
	return &Database{newCore(handle, o.logger)}, nil
}

// openOverBoltDB opens the library with a BoltDB file as its legacy store.
func (c Config) openOverBoltDB(settings []byte, dir string, logger *slog.Logger) (*Database, error) {
	host, err := c.openHost(dir, logger)
	if err != nil {
		return nil, err
	}
	handle, err := capi.OpenWithHost(settings, host)
	if err != nil {
		return nil, err
	}
	return &Database{newCore(handle, logger)}, nil
}

// openHost opens the BoltDB file. Hybrid mode begins also where that fails, since the file is a copy: the library hears of the
// failure when it reads the file, and says so, or refuses to begin where the file was never read. A file that another process has
// open is an error all the same: that process may be another server on this folder.
func (c Config) openHost(dir string, logger *slog.Logger) (capi.Host, error) {
	host, err := bolthost.Open(dir)
	if err == nil {
		return host, nil
	}
	if c.Mode() != ModeHybrid || errors.Is(err, bolthost.ErrBusy) {
		return nil, err
	}
	if !errors.Is(err, bolthost.ErrDamaged) {
		return failedHost{err}, nil
	}
	if !c.Locking.Enhanced.ReplaceDamagedCopy || !c.HasLocalStore() {
		return failedHost{fmt.Errorf("%w (with locking.enhanced.replace_damaged_copy: true the next start moves it aside and fills a new one)", err)}, nil
	}
	aside, moveErr := bolthost.MoveAside(dir)
	if moveErr != nil {
		return failedHost{errors.Join(err, moveErr)}, nil
	}
	logger.Warn("a damaged BoltDB file was moved aside, and a new one is filled", "moved_to", aside, "error", err)
	if host, err = bolthost.Open(dir); err != nil {
		return failedHost{err}, nil
	}
	return host, nil
}

// failedHost stands for a file that could not be opened.
type failedHost struct{ err error }

func (f failedHost) Call(uint32, []byte) ([]byte, error) { return nil, f.err }
func (f failedHost) Close() error                        { return nil }

// bringBack gives the BoltDB file what hybrid or native mode had not yet written there, before Atlantis's own code opens it. It
// returns what the library warns of.
func (c Config) bringBack(settings []byte, dir string, logger *slog.Logger) ([]string, error) {
	if !c.HasLocalStore() {
		return nil, nil
	}
	// Opening it is all that is needed.
	database, err := c.openOverBoltDB(settings, dir, logger)
	if err != nil {
		return nil, err
	}
	status, err := database.Status()
	return status.Warnings, errors.Join(err, database.Close())
}

// Backend returns the five methods that older Atlantis releases call.
func (d *Database) Backend() Backend { return d }

// directWarnings tells what the settings ask for that Atlantis's own store, called directly, does not do, and what was warned of
// before it was opened.
func directWarnings(config Config, before []string, logger *slog.Logger) []string {
	warnings := slices.Clone(before)
	if config.Locking.Audit.File != "" {
		warnings = append(warnings, "locking.audit is not written in strict mode on Atlantis's own store, which is called directly")
	}
	if asked := config.Locking.Enhanced.CompatibilityMode; asked != "" && asked != config.Mode() {
		const text = "locking.enhanced.compatibility_mode is %s, but locking.enhanced.enabled is false: strict mode answers"
		if warning := fmt.Sprintf(text, asked); !slices.Contains(warnings, warning) {
			warnings = append(warnings, warning)
		}
	}
	for _, warning := range warnings {
		logger.Warn(warning)
	}
	return warnings
}

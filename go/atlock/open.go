package atlock

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/internal/bolthost"
	"github.com/atlock/atlock/go/internal/capi"
	"github.com/atlock/atlock/go/internal/release"
)

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
// db.Database does not show. What does not use the legacy store does not open the file; only a store of `locking.backend: sled` looks
// whether the file has locks, and then does not begin.
func WithBoltDB(dir string) Option {
	return func(o *options) { o.boltDB = &dir }
}

// WithLogger says where entries that cannot be read are reported. The default is slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) { o.logger = cmp.Or(logger, slog.Default()) }
}

// Open opens the stores that the settings name. If it fails, nothing stays open.
//
// Errors tell by their sentinel what is wrong: for example [ErrInvalidConfig], [ErrStoreBusy], [ErrStoreDamaged],
// [ErrUnreachable], [ErrAuthentication].
func Open(config Config, opts ...Option) (*Database, error) {
	o := options{logger: slog.Default()}
	for _, option := range opts {
		if option != nil {
			option(&o)
		}
	}
	config, err := withReleasesKeys(config)
	if err != nil {
		return nil, err
	}
	if err := refuseQueueOnStocksStore(config); err != nil {
		return nil, err
	}
	switch {
	case o.legacy != nil && o.boltDB != nil:
		return nil, invalid("both WithLegacy and WithBoltDB were passed, and there is one legacy store: pass WithBoltDB alone")
	case isStrictOnBoltDB(config) && o.legacy != nil:
		return openPassthrough(config, o.legacy, o.logger)
	case isStrictOnBoltDB(config) && o.boltDB != nil:
		return openBoltDB(config, *o.boltDB, o.logger)
	case isHostOnBoltDB(config) && o.legacy != nil:
		return nil, invalid("%s mode reads and writes the BoltDB file itself: pass WithBoltDB with its folder instead of WithLegacy", config.Mode())
	case isHostOnBoltDB(config) && o.boltDB != nil:
		return openOverBoltDB(config, *o.boltDB, o.logger)
	}
	if o.boltDB != nil && config.Locking.Backend == BackendSled {
		// The library looks at it, and refuses to begin with an embedded store while this file has locks.
		return openLibrary(config, o.logger, client.WithHost(bolthost.Look{Dir: *o.boltDB}))
	}
	return openLibrary(config, o.logger)
}

// withReleasesKeys has the keys of the release of Atlantis that this package was compiled with: its own code makes no others.
func withReleasesKeys(config Config) (Config, error) {
	if set := cmp.Or(config.Locking.KeyFormat, release.KeyFormat); set != release.KeyFormat {
		return config, invalid("locking.key_format is %s, but the locks of this release of Atlantis have %s keys: leave that setting out", set, release.KeyFormat)
	}
	if release.KeyFormat != KeysCurrent { // which is the library's default
		config.Locking.KeyFormat = release.KeyFormat
	}
	return config, nil
}

// CheckRedis is an error if Redis cannot be used as the settings say. It changes nothing there.
func CheckRedis(config Config) error {
	config, err := withReleasesKeys(config)
	if err != nil {
		return err
	}
	config.Locking = Locking{Backend: BackendSled, KeyFormat: config.Locking.KeyFormat, Enhanced: Enhanced{Enabled: true, CompatibilityMode: ModeNative, Redis: config.Locking.Enhanced.Redis}}
	opened, err := client.Open(config)
	if err != nil {
		return err
	}
	return errors.Join(opened.Ping(), opened.Close())
}

// openPassthrough opens strict mode on a database that the caller opened.
func openPassthrough(config Config, legacy db.Database, logger *slog.Logger) (*Database, error) {
	whole, ok := legacy.(release.Database)
	if !ok { // with a release before v0.46 alone
		return nil, invalid("the database that was passed by WithLegacy has no Ping or no UnlockIfOwnedByPull: give it both")
	}
	has, err := config.HasLocalStore()
	if err != nil {
		return nil, err
	}
	if has {
		return nil, invalid("hybrid or native mode was in use with locking.data_dir %s, and what it holds must go into the BoltDB file first: "+
			"pass WithBoltDB with the file's folder instead of WithLegacy; or, if stock's store is Redis, call HandOverToRedis and then "+
			"open without locking.data_dir", config.Locking.DataDir)
	}
	opened, err := newPassthrough(config, whole, passthroughWarnings(config, nil, logger), logger)
	if err != nil {
		return nil, err
	}
	return newDatabase(config, opened, logger), nil
}

// openBoltDB opens strict mode on Atlantis's BoltDB file.
func openBoltDB(config Config, dir string, logger *slog.Logger) (*Database, error) {
	brought, err := bringBack(config, dir, logger)
	if err != nil {
		return nil, err
	}
	if err := bolthost.Check(dir); err != nil {
		return nil, err
	}
	legacy, err := boltdb.New(dir)
	if err != nil {
		return nil, err
	}
	opened, err := newPassthrough(config, legacy, passthroughWarnings(config, brought, logger), logger)
	if err != nil {
		return nil, errors.Join(err, legacy.Close())
	}
	return newDatabase(config, opened, logger), nil
}

// openOverBoltDB opens the library with a BoltDB file as its legacy store.
func openOverBoltDB(config Config, dir string, logger *slog.Logger) (*Database, error) {
	host, err := openHost(config, dir, logger)
	if err != nil {
		return nil, err
	}
	return openLibrary(config, logger, client.WithHost(host))
}

func openLibrary(config Config, logger *slog.Logger, opts ...client.Option) (*Database, error) {
	opened, err := client.Open(config, opts...)
	if err != nil {
		return nil, err
	}
	audit, err := client.OpenAudit(config)
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return newDatabase(config, newLibrary(config, opened, audit, logger), logger), nil
}

// isStrictOnBoltDB tells whether Atlantis's own store answers alone.
func isStrictOnBoltDB(config Config) bool {
	return config.Mode() == ModeStrict && isLegacyBoltDB(config)
}

// isHostOnBoltDB tells whether the library itself reads and writes Atlantis's BoltDB file: beside Redis in hybrid mode; before Redis
// takes its locks over, in native mode with a folder for what has to be remembered.
func isHostOnBoltDB(config Config) bool {
	beside := config.Mode() == ModeHybrid || (config.Mode() == ModeNative && config.Locking.DataDir != "")
	return beside && isLegacyBoltDB(config)
}

func isLegacyBoltDB(config Config) bool {
	return config.Locking.Backend == "" || config.Locking.Backend == BackendBoltDB
}

// passthroughWarnings tells what the settings ask for that Atlantis's own store, called directly, does not do, and what was warned of
// before it was opened.
func passthroughWarnings(config Config, before []string, logger *slog.Logger) []string {
	warnings := slices.Clone(before)
	for _, warning := range settingsWarnings(config) {
		if !slices.Contains(warnings, warning) {
			warnings = append(warnings, warning)
		}
	}
	for _, warning := range warnings {
		logger.Warn(warning)
	}
	return warnings
}

const noQueueOnStocksStore = "locking.enhanced.priority_queue.enabled is true, but strict mode on Atlantis's own store has no queue"

// settingsWarnings are the library's of settings that do nothing beside the others, in strict mode on Atlantis's own store.
func settingsWarnings(config Config) []string {
	var warnings []string
	enhanced := config.Locking.Enhanced
	if asked := enhanced.CompatibilityMode; asked != "" && asked != config.Mode() {
		const text = "locking.enhanced.compatibility_mode is %s, but locking.enhanced.enabled is false: strict mode answers"
		warnings = append(warnings, fmt.Sprintf(text, asked))
	}
	if enhanced.PriorityQueue.Enabled {
		warnings = append(warnings, noQueueOnStocksStore+": nobody waits in order")
	}
	if enhanced.DeadlockDetection.Enabled {
		warnings = append(warnings, "locking.enhanced.deadlock_detection.enabled is true, but there is no queue "+
			"(locking.enhanced.priority_queue): nobody waits, and no deadlock is looked for")
	}
	return warnings
}

// refuseQueueOnStocksStore is the library's check, which Atlantis's own store, called directly, does not come by. A rollback of a server
// with a queue begins, and warns.
func refuseQueueOnStocksStore(config Config) error {
	enhanced := config.Locking.Enhanced
	isRollback := enhanced.CompatibilityMode != "" && enhanced.CompatibilityMode != ModeStrict
	if isStrictOnBoltDB(config) && enhanced.PriorityQueue.Enabled && !isRollback {
		return invalid("%s: set locking.backend: sled, or hybrid or native mode, or leave the queue out", noQueueOnStocksStore)
	}
	return nil
}

// invalid is an [ErrInvalidConfig] with a text.
func invalid(format string, args ...any) error {
	return &Error{Code: capi.InvalidConfig, Message: fmt.Sprintf(format, args...)}
}

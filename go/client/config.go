package client

import (
	"encoding/json"
	"fmt"

	"github.com/atlock/atlock/go/internal/capi"
)

// Values of `locking.enhanced.compatibility_mode`.
const (
	ModeStrict = "strict"
	ModeHybrid = "hybrid"
	ModeNative = "native"
)

// Values of `locking.backend`.
const (
	BackendBoltDB = "boltdb"
	BackendSled   = "sled"
)

// Values of `locking.socket`.
const (
	SocketAll  = "all"
	SocketRead = "read"
	SocketOff  = "off"
)

// Values of `locking.enhanced.priority_queue.replan`.
const (
	ReplanAuto   = "auto"
	ReplanNotify = "notify"
	ReplanOff    = "off"
)

// Values of `locking.enhanced.stale_locks`.
const (
	StaleOff     = "off"
	StaleReport  = "report"
	StaleRelease = "release"
)

// Values of `locking.enhanced.apply_guard`.
const (
	GuardAuto = "auto"
	GuardOn   = "on"
	GuardOff  = "off"
)

// Values of `locking.enhanced.priority_queue.sets`.
const (
	SetsEach  = "each"
	SetsWhole = "whole"
)

// Values of `locking.enhanced.deadlock_detection.resolve`.
const (
	ResolveReport = "report"
	ResolveYield  = "yield"
)

// Config is the settings file's content. Fields left at zero get their defaults in [Open].
type Config struct {
	Locking Locking `json:"locking"`
}

// Locking is the block `locking`.
type Locking struct {
	Backend  string   `json:"backend,omitempty"`  // legacy store: boltdb (the default) or sled
	DataDir  string   `json:"data_dir,omitempty"` // folder of the embedded store, for sled, for hybrid mode, and to change modes
	Timeout  Duration `json:"timeout,omitzero"`   // deadline of an operation on the embedded store
	Socket   string   `json:"socket,omitempty"`   // what programs may ask by the socket in data_dir: all (the default), read or off
	Audit    Audit    `json:"audit,omitzero"`     // where changes to locks are recorded
	Enhanced Enhanced `json:"enhanced,omitzero"`  // the shared store
	Shadow   Shadow   `json:"shadow,omitzero"`    // another store that is compared with the one that decides
}

// Audit is the block `locking.audit`.
type Audit struct {
	File     string `json:"file,omitempty"`      // empty: no audit trail
	MaxBytes int64  `json:"max_bytes,omitempty"` // size at which the file is moved to .1 and a new one begun
	Keep     int    `json:"keep,omitempty"`      // how many moved files are kept
}

// Enhanced is the block `locking.enhanced`.
type Enhanced struct {
	Enabled           bool   `json:"enabled,omitempty"`            // false: strict, whatever the mode says
	Backend           string `json:"backend,omitempty"`            // redis
	CompatibilityMode string `json:"compatibility_mode,omitempty"` // strict (the default), hybrid or native

	// Hybrid only.
	LegacyFallback   *bool  `json:"legacy_fallback,omitempty"`    // nil: true; false fails closed while Redis is away
	AllowUnseenRedis bool   `json:"allow_unseen_redis,omitempty"` // true: a Redis that this data folder has never seen holds no lock
	Instances        string `json:"instances,omitempty"`          // single (the default) or many Atlantis servers on this Redis
	Durability       string `json:"durability,omitempty"`         // sync (the default) or async
	// Whether the start moves a damaged BoltDB file aside and fills a new one with what is known without it.
	ReplaceDamagedCopy bool `json:"replace_damaged_copy,omitempty"`

	Breaker Breaker `json:"breaker,omitzero"`
	Probes  Probes  `json:"health,omitzero"`

	// Strict, after hybrid or native mode: true begins also where locks may be lacking.
	AllowIncompleteRollback bool `json:"allow_incomplete_rollback,omitempty"`

	Redis Redis `json:"redis,omitzero"`

	// In every mode, whether Enabled or not: who waits, and how.
	PriorityQueue     PriorityQueue     `json:"priority_queue,omitzero"`
	DeadlockDetection DeadlockDetection `json:"deadlock_detection,omitzero"`
	Timeouts          LockTimeouts      `json:"timeouts,omitzero"`

	// In a linked Atlantis, whether a pull request that does not hold a project's lock is kept from applying there: on, off, or auto (the
	// default), which is on but for strict mode on Atlantis's own store.
	ApplyGuard string `json:"apply_guard,omitempty"`

	// In a linked Atlantis, what is done about the locks of pull requests that are closed, and others that nobody will release: off, report
	// (the default), or release, which releases those of pull requests that their Git host twice said to be closed.
	StaleLocks string `json:"stale_locks,omitempty"`
}

// Breaker is the block `breaker` of [Enhanced]: when Redis counts as failed, and for how long.
type Breaker struct {
	ConsecutiveFailures int      `json:"consecutive_failures,omitempty"`
	FailureRate         float64  `json:"failure_rate,omitempty"`
	MinimumCalls        int      `json:"minimum_calls,omitempty"`
	Window              Duration `json:"window,omitzero"`
	SlowCall            Duration `json:"slow_call,omitzero"`
	Open                Duration `json:"open,omitzero"`
	MaxOpen             Duration `json:"max_open,omitzero"`
	HalfOpenProbes      int      `json:"half_open_probes,omitempty"`
}

// Probes is the block `health` of [Enhanced]: how often both stores are looked at.
type Probes struct {
	Interval Duration `json:"interval,omitzero"`
	Timeout  Duration `json:"timeout,omitzero"`
	Compare  Duration `json:"compare,omitzero"` // how often the local store is compared with Redis
}

// Redis is the block `locking.enhanced.redis`.
type Redis struct {
	Address         string        `json:"address,omitempty"`   // host:port of a single server
	Addresses       []string      `json:"addresses,omitempty"` // host:port of some nodes of a cluster
	ClusterMode     bool          `json:"cluster_mode,omitempty"`
	Username        string        `json:"username,omitempty"`
	Password        Secret        `json:"password,omitempty"`
	PasswordFile    string        `json:"password_file,omitempty"`
	DB              int           `json:"db,omitempty"`
	TLS             TLS           `json:"tls,omitzero"`
	SharedWithStock *bool         `json:"shared_with_stock,omitempty"` // nil: true
	WaitReplicas    int           `json:"wait_replicas,omitempty"`
	Timeouts        RedisTimeouts `json:"timeouts,omitzero"`
}

// TLS is the block `locking.enhanced.redis.tls`.
type TLS struct {
	Enabled  bool   `json:"enabled,omitempty"`
	CAFile   string `json:"ca_file,omitempty"`
	CertFile string `json:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty"`
}

// RedisTimeouts is the block `locking.enhanced.redis.timeouts`.
type RedisTimeouts struct {
	Connect   Duration `json:"connect,omitzero"`
	Operation Duration `json:"operation,omitzero"`
}

// PriorityQueue is the block `locking.enhanced.priority_queue`.
type PriorityQueue struct {
	Enabled bool           `json:"enabled,omitempty"` // true: who is refused a lock waits in order
	Repos   []string       `json:"repos,omitempty"`   // patterns of the repositories that have a queue; all, if there is none
	Sets    string         `json:"sets,omitempty"`    // each (the default) lock by itself, or the whole set of a pull request at once
	Aging   Duration       `json:"aging,omitzero"`    // the head start of high priority; critical has three, low minus one
	Rules   []PriorityRule `json:"rules,omitempty"`   // the first that fits decides; without one the priority is normal
	Replan  string         `json:"replan,omitempty"`  // in a linked Atlantis, who is next is planned by itself (auto, the default), told (notify), or neither (off)
}

// PriorityRule is one of the rules of [PriorityQueue]. A pattern is a whole text in which * stands for any text; an empty one
// fits everything.
type PriorityRule struct {
	Repo     string `json:"repo,omitempty"`   // pattern of the repository, owner/name
	Base     string `json:"base,omitempty"`   // pattern of the base branch
	Author   string `json:"author,omitempty"` // pattern of who opened the pull request
	Label    string `json:"label,omitempty"`  // pattern of a label that it has, among others
	Priority string `json:"priority"`         // low, normal, high or critical
}

// DeadlockDetection is the block `locking.enhanced.deadlock_detection`.
type DeadlockDetection struct {
	Enabled bool     `json:"enabled,omitempty"`
	Resolve string   `json:"resolve,omitempty"` // report (the default) or yield
	Confirm Duration `json:"confirm,omitzero"`  // how long a circle must stand before it counts
}

// LockTimeouts is the block `locking.enhanced.timeouts`: how long somebody waits. No lock is ever released by time.
type LockTimeouts struct {
	Default Duration `json:"default,omitzero"`
	Max     Duration `json:"max,omitzero"`
}

// LoadConfig reads a settings file (YAML), applies the environment variables over it and checks the result. An empty path
// means no file: strict mode on Atlantis's own store, unless the environment says otherwise.
//
// Errors are [ErrInvalidConfig], with the file, line and key, or the variable, in their text.
func LoadConfig(path string) (Config, error) {
	return decodeConfig(capi.LoadConfig(path))
}

// LoadConfigOver is [LoadConfig] for a program that has settings of its own: what is set in defaults holds where neither the
// file nor the environment says otherwise. In the block `redis`, an operator's address, addresses or cluster_mode takes the
// place of all of these and of db; a password or password_file takes the place of either.
func LoadConfigOver(defaults Config, path string) (Config, error) {
	text, err := json.Marshal(defaults)
	if err != nil {
		return Config{}, err
	}
	return decodeConfig(capi.LoadConfigOver(text, path))
}

func decodeConfig(settings capi.Buffer, err error) (Config, error) {
	if err != nil {
		return Config{}, err
	}
	defer settings.Free()
	var config Config
	if err := json.Unmarshal(settings.Bytes(), &config); err != nil {
		return Config{}, fmt.Errorf("reading the library's settings: %w", err)
	}
	return config, nil
}

// HasLocalStore tells whether there is a store in `data_dir`: of the sled backend, or left by hybrid or native mode. A folder that this
// user may not look at may have one, and is an error ([ErrStoreNotWritable]).
func (c Config) HasLocalStore() (bool, error) {
	return capi.HasLocalStore(c.Locking.DataDir)
}

// Mode tells which store answers: the mode that is asked for, or strict while `enhanced` is not enabled.
func (c Config) Mode() string {
	enhanced := c.Locking.Enhanced
	if !enhanced.Enabled || enhanced.CompatibilityMode == "" {
		return ModeStrict
	}
	return enhanced.CompatibilityMode
}

package client

import (
	"encoding/json"
	"fmt"

	"github.com/atlock/atlock/go/internal/capi"
)

// Mode is which store answers: `locking.enhanced.compatibility_mode`.
type Mode string

// The modes.
const (
	ModeStrict Mode = "strict" // the store of before, as stock
	ModeHybrid Mode = "hybrid" // Redis, and a local store in its place while Redis is away
	ModeNative Mode = "native" // Redis alone
)

// BackendKind is the legacy store: `locking.backend`.
type BackendKind string

// The legacy stores.
const (
	BackendBoltDB BackendKind = "boltdb" // Atlantis's own
	BackendSled   BackendKind = "sled"   // the embedded store
)

// KeyFormat is which keys locks have: `locking.key_format`.
type KeyFormat string

// The formats.
const (
	KeysCurrent KeyFormat = "current"
	KeysOld     KeyFormat = "old" // those of Atlantis before v0.40
)

// SocketAccess is what programs of the machine may ask: `locking.socket`.
type SocketAccess string

// What may be asked.
const (
	SocketAll  SocketAccess = "all"
	SocketRead SocketAccess = "read"
	SocketOff  SocketAccess = "off"
)

// Instances is how many Atlantis servers use a Redis: `locking.enhanced.instances`.
type Instances string

// How many.
const (
	InstancesSingle Instances = "single"
	InstancesMany   Instances = "many"
)

// Durability is whether an acknowledgement waits for the disk: `locking.enhanced.durability`.
type Durability string

// Whether it does.
const (
	DurabilitySync  Durability = "sync"
	DurabilityAsync Durability = "async"
)

// Replan is what the server does for whoever is next: `locking.enhanced.priority_queue.replan`.
type Replan string

// What it does.
const (
	ReplanAuto   Replan = "auto"   // it plans
	ReplanNotify Replan = "notify" // it tells them
	ReplanOff    Replan = "off"
)

// StaleLocks is what is done about the locks of closed pull requests: `locking.enhanced.stale_locks`.
type StaleLocks string

// What is done.
const (
	StaleOff     StaleLocks = "off"
	StaleReport  StaleLocks = "report"
	StaleRelease StaleLocks = "release"
)

// ApplyGuard is whether nobody applies without the lock: `locking.enhanced.apply_guard`.
type ApplyGuard string

// Whether it is so.
const (
	GuardAuto ApplyGuard = "auto"
	GuardOn   ApplyGuard = "on"
	GuardOff  ApplyGuard = "off"
)

// Sets is whether locks are taken one by one: `locking.enhanced.priority_queue.sets`.
type Sets string

// How they are taken.
const (
	SetsEach  Sets = "each"
	SetsWhole Sets = "whole"
)

// Resolve is what is done about a deadlock: `locking.enhanced.deadlock_detection.resolve`.
type Resolve string

// What is done.
const (
	ResolveReport Resolve = "report"
	ResolveYield  Resolve = "yield"
)

// Config is the settings file's content. Fields left at zero get their defaults in [Open].
type Config struct {
	Locking Locking `json:"locking"`
}

// Locking is the block `locking`.
type Locking struct {
	Backend BackendKind  `json:"backend,omitempty"`  // legacy store: boltdb (the default) or sled
	DataDir string       `json:"data_dir,omitempty"` // folder of the embedded store, for sled, for hybrid mode, and to change modes
	Timeout Duration     `json:"timeout,omitzero"`   // deadline of an operation on the embedded store
	Socket  SocketAccess `json:"socket,omitempty"`   // what programs may ask by the socket in data_dir: all (the default), read or off
	// Which keys locks have: current (the default), or old, those of Atlantis before v0.40. One process has one format.
	KeyFormat KeyFormat `json:"key_format,omitempty"`
	Audit     Audit     `json:"audit,omitzero"` // where changes to locks are recorded
	// The key under which what is stored on this machine is sealed.
	Encryption Encryption `json:"encryption,omitzero"`
	Enhanced   Enhanced   `json:"enhanced,omitzero"` // the shared store
	Shadow     Shadow     `json:"shadow,omitzero"`   // another store that is compared with the one that decides
}

// Audit is the block `locking.audit`.
type Audit struct {
	File     string `json:"file,omitempty"`      // empty: no audit trail
	MaxBytes int64  `json:"max_bytes,omitempty"` // size at which the file is moved to .1 and a new one begun
	Keep     int    `json:"keep,omitempty"`      // how many moved files are kept; what is more is removed, and an entry tells so
	Stdout   bool   `json:"stdout,omitempty"`    // whether each line also goes to the process's stdout
	Required bool   `json:"required,omitempty"`  // whether a change is refused that cannot be recorded before it is made
}

// Encryption is the block `locking.encryption`: at most one of the three.
type Encryption struct {
	KeyFile    string `json:"key_file,omitempty"`    // the file that has the key
	KeyEnv     string `json:"key_env,omitempty"`     // the name of the environment variable that has it
	KeyCommand string `json:"key_command,omitempty"` // the command that prints it, for /bin/sh
}

// Enhanced is the block `locking.enhanced`.
type Enhanced struct {
	Enabled           bool   `json:"enabled,omitempty"`            // false: strict, whatever the mode says
	Backend           string `json:"backend,omitempty"`            // redis
	CompatibilityMode Mode   `json:"compatibility_mode,omitempty"` // strict (the default), hybrid or native

	// Hybrid only.
	LegacyFallback   *bool      `json:"legacy_fallback,omitempty"`    // nil: true; false fails closed while Redis is away
	AllowUnseenRedis bool       `json:"allow_unseen_redis,omitempty"` // true: a Redis that this data folder has never seen holds no lock
	Instances        Instances  `json:"instances,omitempty"`          // single (the default) or many Atlantis servers on this Redis
	Durability       Durability `json:"durability,omitempty"`         // sync (the default) or async
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
	ApplyGuard ApplyGuard `json:"apply_guard,omitempty"`

	// In a linked Atlantis, what is done about the locks of pull requests that are closed, and others that nobody will release: off, report
	// (the default), or release, which releases those of pull requests that their Git host twice said to be closed.
	StaleLocks StaleLocks `json:"stale_locks,omitempty"`
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
	Address         string   `json:"address,omitempty"`   // host:port of a single server, or unix:// and the path of its socket
	Addresses       []string `json:"addresses,omitempty"` // host:port of some nodes of a cluster
	ClusterMode     bool     `json:"cluster_mode,omitempty"`
	Sentinel        Sentinel `json:"sentinel,omitzero"` // instead of Address
	Username        string   `json:"username,omitempty"`
	Password        Secret   `json:"password,omitempty"`
	PasswordFile    string   `json:"password_file,omitempty"`
	PasswordCommand []string `json:"password_command,omitempty"` // program and arguments; the first line that it prints is the password
	DB              int      `json:"db,omitempty"`
	TLS             TLS      `json:"tls,omitzero"`
	// AllowPlaintext: a connection to another machine without TLS is meant, and no warning.
	AllowPlaintext bool `json:"allow_plaintext,omitempty"`
	// AllowNoPersistence: this Redis may keep its data in memory alone, without a warning.
	AllowNoPersistence bool `json:"allow_no_persistence,omitempty"`

	SharedWithStock *bool         `json:"shared_with_stock,omitempty"` // nil: true
	WaitReplicas    int           `json:"wait_replicas,omitempty"`
	Timeouts        RedisTimeouts `json:"timeouts,omitzero"`
}

// Sentinel is the block `locking.enhanced.redis.sentinel`: who knows which server is the master.
type Sentinel struct {
	Addresses    []string `json:"addresses,omitempty"`   // host:port of the Sentinels
	MasterName   string   `json:"master_name,omitempty"` // what they call the master
	Username     string   `json:"username,omitempty"`
	Password     Secret   `json:"password,omitempty"`
	PasswordFile string   `json:"password_file,omitempty"`
	TLS          TLS      `json:"tls,omitzero"`
}

// TLS is the block `locking.enhanced.redis.tls`.
type TLS struct {
	Enabled    bool   `json:"enabled,omitempty"`
	CAFile     string `json:"ca_file,omitempty"`
	CertFile   string `json:"cert_file,omitempty"`
	KeyFile    string `json:"key_file,omitempty"`
	ServerName string `json:"server_name,omitempty"` // the name that the certificate must have; empty: the address's host
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
	Sets    Sets           `json:"sets,omitempty"`    // each (the default) lock by itself, or the whole set of a pull request at once
	Aging   Duration       `json:"aging,omitzero"`    // the head start of high priority; critical has three, low minus one
	Rules   []PriorityRule `json:"rules,omitempty"`   // the first that fits decides; without one the priority is normal
	Replan  Replan         `json:"replan,omitempty"`  // in a linked Atlantis, who is next is planned by itself (auto, the default), told (notify), or neither (off)
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
	Resolve Resolve  `json:"resolve,omitempty"` // report (the default) or yield
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
func (c Config) Mode() Mode {
	enhanced := c.Locking.Enhanced
	if !enhanced.Enabled || enhanced.CompatibilityMode == "" {
		return ModeStrict
	}
	return enhanced.CompatibilityMode
}

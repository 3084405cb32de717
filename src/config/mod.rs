//! The settings: what may be set, and what it means when it is not. `load` reads them (`text` is their form), `overlay` puts the program's own
//! under them, `env` overrides them, `check` refuses what cannot work, all `mistakes` at once, and `effective` tells what holds and why.

mod audit;
mod check;
mod check_redis;
pub mod effective;
mod encryption;
mod env;
mod exposed;
mod load;
mod mistakes;
mod overlay;
mod plaintext;
mod queue;
mod redis;
mod shadow;
mod suggest;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::audit::Audit;
pub use self::encryption::Encryption;
pub use self::queue::{
    ApplyGuard, DeadlockDetection, LockTimeouts, PriorityQueue, PriorityRule, Replan, Resolve, Sets, StaleLocks,
};
pub use self::redis::{Place, Redis, RedisTimeouts, Sentinel, Tls, is_this_machine};
pub use self::shadow::{Shadow, ShadowStore};

pub use crate::domain::key::KeyFormat;

/// Where there must be an embedded store, and none is named.
pub(crate) const NO_DATA_DIR: &str = "locking.data_dir is missing: set it, or ATLANTIS_LOCKING_DATA_DIR, to the folder of the embedded \
     store, by which a running server is found, too; a linked Atlantis has the folder atlock in its --data-dir";

const NO_QUEUE_ON_STOCKS_STORE: &str =
    "locking.enhanced.priority_queue.enabled is true, but strict mode on Atlantis's own store has no queue";

/// The settings file: one block, `locking`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The locking layer.
    pub locking: Locking,
}

/// `locking`: the store of strict mode, and what may stand beside or instead of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Locking {
    /// The store of strict mode.
    pub backend: Backend,
    /// Folder of the embedded store.
    pub data_dir: Option<PathBuf>,
    /// Deadline of an operation on the embedded store.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How keys are made: a server of Atlantis before v0.40 makes others.
    pub key_format: KeyFormat,
    /// What programs of this machine may ask the server by its socket.
    pub socket: Socket,
    /// Where changes to locks are recorded.
    pub audit: Audit,
    /// The key under which what is stored on this machine is sealed.
    pub encryption: Encryption,
    /// Redis, and the mode.
    pub enhanced: Enhanced,
    /// Another store that is compared with the one that decides.
    pub shadow: Shadow,
}

impl Config {
    /// Which store answers: the mode asked for, or strict while `enhanced` is not enabled.
    pub fn mode(&self) -> Mode {
        if self.locking.enhanced.enabled { self.locking.enhanced.compatibility_mode } else { Mode::Strict }
    }

    /// Whether the store that answers is Atlantis's own, which the library does not open beside the server's.
    pub fn is_on_stocks_store(&self) -> bool {
        self.mode() == Mode::Strict && self.locking.backend == Backend::Boltdb
    }

    /// Whether a store is in use that holds no sealed records, since stock reads it: Redis, or Atlantis's own store.
    pub fn has_open_store(&self) -> bool {
        let locking = &self.locking;
        self.mode() != Mode::Strict || locking.backend == Backend::Boltdb || locking.shadow.store == ShadowStore::Redis
    }

    /// How long an operation may take: hybrid mode's has the time of both stores.
    pub fn operation_timeout(&self) -> Duration {
        let (local, redis) = (self.locking.timeout, self.locking.enhanced.redis.timeouts.operation);
        match self.mode() {
            Mode::Strict => local,
            Mode::Native => redis,
            Mode::Hybrid => redis + local,
        }
    }

    /// Whether those who are refused wait in order: the queue is enabled, and the store that answers keeps one.
    pub fn has_queue(&self) -> bool {
        self.locking.enhanced.priority_queue.enabled && !self.is_on_stocks_store()
    }

    /// Texts for an operator about settings that do nothing beside the others, so that something may have been forgotten to enable, and about
    /// connections that nobody encrypts.
    pub fn warnings(&self) -> Vec<String> {
        let (asked, mut warnings) = (self.locking.enhanced.compatibility_mode, Vec::new());
        if asked != self.mode() {
            warnings.push(format!(
                "locking.enhanced.compatibility_mode is {asked}, but locking.enhanced.enabled is false: strict mode answers"
            ));
        }
        if self.locking.enhanced.priority_queue.enabled && !self.has_queue() {
            warnings.push(format!("{NO_QUEUE_ON_STOCKS_STORE}: nobody waits in order"));
        }
        if self.locking.enhanced.deadlock_detection.enabled && !self.has_queue() {
            warnings.push(
                "locking.enhanced.deadlock_detection.enabled is true, but there is no queue (locking.enhanced.priority_queue): \
                 nobody waits, and no deadlock is looked for"
                    .to_owned(),
            );
        }
        if self.locking.shadow.is_on() && self.mode() == Mode::Hybrid && self.locking.enhanced.instances == Instances::Many {
            warnings.push(
                "locking.shadow hears of this server's operations alone, and locking.enhanced.instances is many: what another server \
                 takes or releases is counted as a difference"
                    .to_owned(),
            );
        }
        warnings.extend(self.plaintext());
        warnings
    }
}

impl Default for Locking {
    fn default() -> Locking {
        Locking {
            backend: Backend::default(),
            data_dir: None,
            timeout: Duration::from_secs(10),
            key_format: KeyFormat::default(),
            socket: Socket::default(),
            audit: Audit::default(),
            encryption: Encryption::default(),
            enhanced: Enhanced::default(),
            shadow: Shadow::default(),
        }
    }
}

/// `locking.socket`: see `crate::socket`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Socket {
    /// All that the socket has: locks, status, metrics, and releases.
    #[default]
    All,
    /// What changes no lock.
    Read,
    /// Nothing: there is no socket.
    Off,
}

/// `locking.backend`: the store of strict mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Atlantis's own BoltDB code, passed in by the program that links the library.
    #[default]
    Boltdb,
    /// The embedded store.
    Sled,
}

/// `locking.enhanced`: Redis. The name is the original specification's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enhanced {
    /// Whether the mode below counts; `false` is the rollback to `strict`.
    pub enabled: bool,
    /// What the shared store is.
    pub backend: EnhancedBackend,
    /// Which store answers.
    pub compatibility_mode: Mode,
    /// Hybrid: whether the local store may decide while Redis cannot; `false` fails closed.
    pub legacy_fallback: bool,
    /// Hybrid: whether the local store may decide before it has ever seen this Redis: who begins without one may know that it is empty.
    pub allow_unseen_redis: bool,
    /// Strict, after hybrid or native mode: whether it may begin with a local store that may lack locks.
    pub allow_incomplete_rollback: bool,
    /// Hybrid: how many Atlantis servers use this Redis.
    pub instances: Instances,
    /// Hybrid: what an acknowledgement waits for.
    pub durability: Durability,
    /// Hybrid in Go: whether the start moves a damaged BoltDB file aside and fills a new one. The library itself does nothing with it.
    pub replace_damaged_copy: bool,
    /// Hybrid: when Redis counts as failed.
    pub breaker: Breaker,
    /// Hybrid: how both stores are watched.
    pub health: Health,
    /// The Redis server or cluster.
    pub redis: Redis,
    /// Whether those who are refused wait in order. In every mode, whether enhanced locking is enabled or not.
    pub priority_queue: PriorityQueue,
    /// What is done about those who wait for each other.
    pub deadlock_detection: DeadlockDetection,
    /// How long somebody waits.
    pub timeouts: LockTimeouts,
    /// In a linked Atlantis: whether a pull request that does not hold a project's lock is kept from applying there. The library itself does
    /// nothing with it.
    pub apply_guard: ApplyGuard,
    /// In a linked Atlantis: what is done about locks of pull requests that are closed. The library itself does nothing with it.
    pub stale_locks: StaleLocks,
}

/// `locking.enhanced.instances`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instances {
    /// This server alone: its local store may grant while Redis is away.
    #[default]
    Single,
    /// Several: while Redis is away, locks are read and released, and none is granted.
    Many,
}

/// `locking.enhanced.durability`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Redis and the local store's disk.
    #[default]
    Sync,
    /// Redis alone; the local store follows.
    Async,
}

/// `locking.enhanced.breaker`: see `hybrid::breaker`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// It opens after so many failures in a row.
    pub consecutive_failures: u32,
    /// It opens when this part of the calls in the window failed, 0 to 1.
    pub failure_rate: f64,
    /// Fewest calls in the window for the rate to count.
    pub minimum_calls: u32,
    /// Length of the window.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// A call that takes longer counts as failed.
    #[serde(with = "humantime_serde")]
    pub slow_call: Duration,
    /// How long it stays open before Redis is tried again, the first time; it doubles with each try that fails.
    #[serde(with = "humantime_serde")]
    pub open: Duration,
    /// The longest that it stays open.
    #[serde(with = "humantime_serde")]
    pub max_open: Duration,
    /// How many probes in a row must succeed before it closes.
    pub half_open_probes: u32,
}

// No number here is NaN: `check` refuses it.
impl Eq for Breaker {}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            consecutive_failures: 3,
            failure_rate: 0.5,
            minimum_calls: 20,
            window: Duration::from_secs(10),
            slow_call: Duration::from_millis(250),
            open: Duration::from_millis(500),
            max_open: Duration::from_secs(10),
            half_open_probes: 2,
        }
    }
}

/// `locking.enhanced.health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Time between two probes.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Longest time that a probe may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Time between two comparisons of the local store with Redis, where others may change it.
    #[serde(with = "humantime_serde")]
    pub compare: Duration,
}

impl Default for Health {
    fn default() -> Health {
        Health { interval: Duration::from_millis(250), timeout: Duration::from_millis(250), compare: Duration::from_secs(30) }
    }
}

impl Default for Enhanced {
    fn default() -> Enhanced {
        Enhanced {
            enabled: false,
            backend: EnhancedBackend::Redis,
            compatibility_mode: Mode::Strict,
            legacy_fallback: true,
            allow_unseen_redis: false,
            allow_incomplete_rollback: false,
            instances: Instances::default(),
            durability: Durability::default(),
            replace_damaged_copy: false,
            breaker: Breaker::default(),
            health: Health::default(),
            redis: Redis::default(),
            priority_queue: PriorityQueue::default(),
            deadlock_detection: DeadlockDetection::default(),
            timeouts: LockTimeouts::default(),
            apply_guard: ApplyGuard::default(),
            stale_locks: StaleLocks::default(),
        }
    }
}

/// `locking.enhanced.backend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnhancedBackend {
    /// Redis 7.0 or newer.
    #[default]
    Redis,
}

/// `locking.enhanced.compatibility_mode`: which store answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One store alone: Atlantis's own, or the embedded one.
    #[default]
    Strict,
    /// Redis decides; the local store is kept up to date, and decides while Redis is away.
    Hybrid,
    /// Redis alone.
    Native,
}

impl Mode {
    /// Its name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Strict => "strict",
            Mode::Hybrid => "hybrid",
            Mode::Native => "native",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

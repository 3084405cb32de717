//! Which store answers: opens the stores that the mode needs and routes every operation to the one that decides.
//!
//! | file | what it does |
//! |---|---|
//! | `core` | what the parts of hybrid mode share: who decides now, what the local store is told |
//! | `operations` | every operation, asked of Redis or decided here |
//! | `resolve` | what to do where the two stores differ: a pure function |
//! | `recovery` | does it, for all keys |
//! | `follow` | keeps a host store as a copy |
//! | `breaker` | when Redis counts as failed: a pure state machine |
//! | `watch` | looks at both stores and starts recovery |
//! | `report` | what an operator sees |

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::core::Core;
use self::follow::Follower;
use self::operations::HybridStore;
use self::report::Report;
use self::watch::Watch;
use crate::clock::Clock;
use crate::config::{Backend, Config, Durability, Mode};
use crate::error::{Code, Error, Result};
use crate::store::Store;
use crate::store::host::HostStore;
use crate::store::mirror::{Change, Link, Mirror};
use crate::store::redis::RedisStore;
use crate::store::shared::Shared;
use crate::store::sled::SledStore;

pub mod breaker;
mod core;
mod follow;
mod operations;
mod recovery;
pub mod report;
pub mod resolve;
#[cfg(test)]
mod simulation;
mod turns;
mod watch;

/// The stores of one mode.
#[derive(Debug)]
pub struct Router {
    mode: Mode,
    store: Opened,
    timeout: Duration,
}

#[derive(Debug)]
enum Opened {
    One(Box<dyn Store>),
    Both(Hybrid),
}

/// Hybrid mode, running.
struct Hybrid {
    store: HybridStore,
    threads: Mutex<Vec<Watch>>,
}

impl Router {
    /// Opens what the mode needs; nothing stays open on an error.
    ///
    /// Errors: those of the store's own opening, and `InvalidConfig` for a legacy store that was not passed in. Hybrid mode opens
    /// also when Redis cannot be used, unless `legacy_fallback` is false.
    pub fn open(config: &Config, host: Option<HostStore>, instance: &str, clock: Arc<dyn Clock>) -> Result<Router> {
        let mode = config.mode();
        let redis = &config.locking.enhanced.redis;
        let (store, timeout) = match mode {
            Mode::Strict => (Opened::One(open_legacy(config, host, instance, clock)?), config.locking.timeout),
            Mode::Native => {
                if config.locking.data_dir.as_deref().is_some_and(|folder| host.is_some() || SledStore::is_in(folder)) {
                    hand_over(config, host, instance, clock)?;
                }
                (Opened::One(Box::new(RedisStore::open(redis, instance)?)), redis.timeouts.operation)
            }
            Mode::Hybrid => {
                let timeout = redis.timeouts.operation + config.locking.timeout;
                (Opened::Both(Hybrid::open(config, host, instance, clock)?), timeout)
            }
        };
        Ok(Router { mode, store, timeout })
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The store that decides.
    pub fn store(&self) -> &dyn Store {
        match &self.store {
            Opened::One(store) => &**store,
            Opened::Both(hybrid) => &hybrid.store,
        }
    }

    /// The stores' own metrics: whole families of OpenMetrics text, without the end line.
    pub fn metrics(&self) -> String {
        String::new()
    }

    /// How long an operation may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The state of hybrid mode; `None` in the others.
    pub fn report(&self) -> Option<Report> {
        match &self.store {
            Opened::One(_) => None,
            Opened::Both(hybrid) => Some(report::report(hybrid.store.core())),
        }
    }

    /// Stops everything.
    pub fn close(&self) -> Result<()> {
        if let Opened::Both(hybrid) = &self.store {
            hybrid.threads.lock().clear();
        }
        self.store().close()
    }
}

impl Hybrid {
    fn open(config: &Config, host: Option<HostStore>, instance: &str, clock: Arc<dyn Clock>) -> Result<Hybrid> {
        let core = both(config, host.map(Arc::new), instance, clock)?;
        let mut threads = vec![Watch::stores(Arc::clone(&core))?];
        if core.follower.is_some() {
            let for_thread = Arc::clone(&core);
            threads.push(Watch::start("atlock-follow", move || follow_on(&for_thread))?);
        }
        Ok(Hybrid { store: HybridStore::new(core), threads: Mutex::new(threads) })
    }
}

/// Copies to the host store what it lacks. A host store that does not work says so when it is asked for its health.
fn follow_on(core: &Core) {
    if let Some(follower) = &core.follower {
        while matches!(follower.copy(&core.local, core), Ok(true)) {}
    }
}

/// Opens the local store, with the host store behind it if there is one, and Redis if it can be used.
fn both(config: &Config, host: Option<Arc<HostStore>>, instance: &str, clock: Arc<dyn Clock>) -> Result<Arc<Core>> {
    let Some(folder) = &config.locking.data_dir else {
        return Err(Error::new(Code::InvalidConfig, "locking.data_dir is missing"));
    };
    let follower = match (config.locking.backend, host) {
        (Backend::Boltdb, Some(host)) => Some(Follower::new(host)),
        (Backend::Boltdb, None) => return Err(no_host()),
        (Backend::Sled, _) => None,
    };
    let local: Arc<dyn Mirror> = Arc::new(SledStore::open(folder, Arc::clone(&clock))?);
    let settings = config.locking.enhanced.redis.clone();
    let connect = move |name: &str| RedisStore::open(&settings, name).map(|redis| Arc::new(redis) as Arc<dyn Shared>);
    start(config.locking.enhanced.clone(), clock, local, follower, Box::new(connect), instance)
}

/// Brings the stores together, or begins without Redis.
fn start(
    settings: crate::config::Enhanced,
    clock: Arc<dyn Clock>,
    local: Arc<dyn Mirror>,
    follower: Option<Follower>,
    connect: core::Connect,
    instance: &str,
) -> Result<Arc<Core>> {
    let fallback = settings.legacy_fallback;
    let mut link = match local.link()? {
        Some(link) => link,
        // A new folder, or one of strict mode, lacks nothing.
        None => Link { instance: instance.to_owned(), armed: true, ..Link::default() },
    };
    let missing = if link.handed_over {
        Some("native mode was in use since, and Redis alone knows its locks")
    } else if link.trailing {
        Some("the server was not closed, and with durability async the local store may lack its last locks")
    } else {
        None
    };
    if let (Some(missing), true) = (missing, link.armed) {
        link.armed = false;
        link.unarmed_because = format!("{missing}; it is brought up to date when Redis can be asked");
    }
    link.trailing = settings.durability == Durability::Async;
    let conflicts = local.conflicts()?;
    let core = Arc::new(Core::new(settings, instance, clock, local, follower, connect, link.clone(), conflicts));
    // The first time, everything that is there is written down.
    let deadline = core.clock.now() + watch::LONG;
    core.submit(vec![Change::Link(link)], deadline)?.wait(deadline)?;
    if let Some(follower) = &core.follower {
        follower.import(&core)?;
    }
    match core.begin() {
        Ok(()) => Ok(core),
        Err(error) if fallback => {
            core.open(error);
            Ok(core)
        }
        Err(error) => {
            core.local.close()?;
            Err(error)
        }
    }
}

/// Native mode begins: what the local store has goes to Redis, which alone knows the locks from then on.
fn hand_over(config: &Config, host: Option<HostStore>, instance: &str, clock: Arc<dyn Clock>) -> Result<()> {
    let mut config = config.clone();
    config.locking.enhanced.legacy_fallback = false;
    if host.is_none() {
        config.locking.backend = Backend::Sled;
    }
    let core = both(&config, host.map(Arc::new), instance, clock)?;
    let link = {
        let mut condition = core.condition.lock();
        condition.link.handed_over = true;
        condition.link.clone()
    };
    let deadline = core.clock.now() + watch::LONG;
    let written = core.submit(vec![Change::Link(link)], deadline).and_then(|ticket| ticket.wait(deadline));
    written.and(HybridStore::new(core).close())
}

/// Strict mode begins where hybrid or native mode was in use before: the legacy store is given what it lacks.
///
/// After hybrid mode that needs no Redis. After native mode Redis alone knows the locks: without it, this is an error.
fn take_back(config: &Config, host: Option<Arc<HostStore>>, instance: &str, clock: Arc<dyn Clock>) -> Result<()> {
    let mut config = config.clone();
    config.locking.enhanced.legacy_fallback = false;
    let core = both(&config, host, instance, clock).map_err(|e| {
        e.context(
            "native mode was in use last, so that Redis has the locks, and strict mode needs it once to fetch them \
             (locking.enhanced.redis); if its locks may be lost, move locking.data_dir away",
        )
    })?;
    HybridStore::new(core).close()
}

impl std::fmt::Debug for Hybrid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

/// Opens strict mode's store, after hybrid or native mode with everything in it that was held there.
fn open_legacy(config: &Config, host: Option<HostStore>, instance: &str, clock: Arc<dyn Clock>) -> Result<Box<dyn Store>> {
    let folder = config.locking.data_dir.as_deref();
    match (config.locking.backend, host, folder) {
        (Backend::Boltdb, Some(host), Some(folder)) if SledStore::is_in(folder) => {
            let local = SledStore::open(folder, Arc::clone(&clock))?;
            let host = Arc::new(host);
            if local.link()?.is_some_and(|link| link.handed_over) {
                local.close()?;
                take_back(config, Some(Arc::clone(&host)), instance, clock)?;
            } else {
                Follower::new(Arc::clone(&host)).catch_up(&local)?;
                local.close()?;
            }
            let host = Arc::into_inner(host).ok_or_else(|| Error::new(Code::Internal, "the host store is still in use"))?;
            Ok(Box::new(host))
        }
        (Backend::Boltdb, Some(host), _) => Ok(Box::new(host)),
        (Backend::Boltdb, None, _) => Err(no_host()),
        (Backend::Sled, _, Some(folder)) => {
            let local = SledStore::open(folder, Arc::clone(&clock))?;
            if !local.link()?.is_some_and(|link| link.handed_over) {
                return Ok(Box::new(local));
            }
            local.close()?;
            take_back(config, None, instance, Arc::clone(&clock))?;
            Ok(Box::new(SledStore::open(folder, clock)?))
        }
        (Backend::Sled, _, None) => Err(Error::new(Code::InvalidConfig, "locking.data_dir is missing")),
    }
}

fn no_host() -> Error {
    Error::new(
        Code::InvalidConfig,
        "locking.backend: boltdb is Atlantis's own code, and none was passed in: pass a host store to atlock_open \
         (in Go: WithLegacy or WithBoltDB), or set locking.backend: sled and locking.data_dir for the embedded store",
    )
}

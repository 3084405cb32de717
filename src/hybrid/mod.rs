//! Which store answers: opens the stores that the mode needs and routes every operation to the one that decides.
//!
//! | file | what it does |
//! |---|---|
//! | `core` | what the parts of hybrid mode share: who decides now, what the local store is told |
//! | `operations` | every operation, asked of Redis or decided here |
//! | `resolve` | what to do where the two stores differ: a pure function |
//! | `recovery` | does it, for all keys |
//! | `breaker` | when Redis counts as failed: a pure state machine |
//! | `watch` | looks at both stores and starts recovery |
//! | `report` | what an operator sees |
//! | `counters` | the same for Prometheus |
//! | `events` | what the audit trail is told |

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::core::Core;
use self::events::Events;
use self::operations::HybridStore;
use self::report::Report;
use self::watch::Watch;
use crate::audit::AuditLog;
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
mod counters;
mod events;
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
    watch: Mutex<Option<Watch>>,
}

impl Router {
    /// Opens what the mode needs; nothing stays open on an error.
    ///
    /// Errors: those of the store's own opening, and `InvalidConfig` for a legacy store that was not passed in. Hybrid mode opens
    /// also when Redis cannot be used, unless `legacy_fallback` is false. Hybrid mode tells the audit trail who decides.
    pub fn open(
        config: &Config,
        host: Option<HostStore>,
        instance: &str,
        clock: Arc<dyn Clock>,
        audit: Option<Arc<AuditLog>>,
    ) -> Result<Router> {
        let mode = config.mode();
        let redis = &config.locking.enhanced.redis;
        let (store, timeout) = match mode {
            Mode::Strict => (Opened::One(open_legacy(config, host, clock)?), config.locking.timeout),
            Mode::Native => (Opened::One(Box::new(RedisStore::open(redis, instance)?)), redis.timeouts.operation),
            Mode::Hybrid => {
                let timeout = redis.timeouts.operation + config.locking.timeout;
                (Opened::Both(Hybrid::open(config, instance, clock, audit)?), timeout)
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
        match &self.store {
            Opened::One(_) => String::new(),
            Opened::Both(hybrid) => hybrid.metrics(),
        }
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
            hybrid.watch.lock().take();
        }
        self.store().close()
    }
}

impl Hybrid {
    fn open(config: &Config, instance: &str, clock: Arc<dyn Clock>, audit: Option<Arc<AuditLog>>) -> Result<Hybrid> {
        let Some(folder) = &config.locking.data_dir else {
            return Err(Error::new(Code::InvalidConfig, "locking.data_dir is missing"));
        };
        let local: Arc<dyn Mirror> = Arc::new(SledStore::open(folder, Arc::clone(&clock))?);
        let (settings, name) = (config.locking.enhanced.redis.clone(), instance.to_owned());
        let connect = move || RedisStore::open(&settings, &name).map(|redis| Arc::new(redis) as Arc<dyn Shared>);
        let core = start(config.locking.enhanced.clone(), clock, local, Box::new(connect), instance, audit)?;
        core.first_look();
        let watch = Watch::start(Arc::clone(&core))?;
        Ok(Hybrid { store: HybridStore::new(core), watch: Mutex::new(Some(watch)) })
    }

    fn metrics(&self) -> String {
        let core = self.store.core();
        let breaker = core.breaker.lock().clone();
        core.counters.text(&report::report(core), &breaker)
    }
}

/// Brings both stores together, or begins without Redis.
fn start(
    settings: crate::config::Enhanced,
    clock: Arc<dyn Clock>,
    local: Arc<dyn Mirror>,
    connect: core::Connect,
    instance: &str,
    audit: Option<Arc<AuditLog>>,
) -> Result<Arc<Core>> {
    let fallback = settings.legacy_fallback;
    let link = match local.link()? {
        Some(link) => link,
        // A new folder, or one of strict mode, lacks nothing.
        None => Link { instance: instance.to_owned(), armed: true, ..Link::default() },
    };
    let conflicts = local.conflicts()?;
    let mut link = link;
    if link.trailing && link.armed {
        link.armed = false;
        link.unarmed_because = "the server was not closed, and with durability async the local store may lack its last locks; \
             it is brought up to date when Redis can be asked"
            .to_owned();
    }
    link.trailing = settings.durability == Durability::Async;
    let mut core = Core::new(settings, instance, clock, local, connect, link.clone(), conflicts);
    core.events = Events::new(audit, instance);
    let core = Arc::new(core);
    // The first time, everything that is there is written down.
    let deadline = core.clock.now() + watch::LONG;
    core.submit(vec![Change::Link(link)], deadline)?.wait(deadline)?;
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

impl std::fmt::Debug for Hybrid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

fn open_legacy(config: &Config, host: Option<HostStore>, clock: Arc<dyn Clock>) -> Result<Box<dyn Store>> {
    match (config.locking.backend, host, &config.locking.data_dir) {
        (Backend::Boltdb, Some(host), _) => Ok(Box::new(host)),
        (Backend::Boltdb, None, _) => Err(Error::new(
            Code::InvalidConfig,
            "locking.backend: boltdb is Atlantis's own code, and none was passed in: pass a host store to atlock_open \
             (in Go: WithLegacy), or set locking.backend: sled and locking.data_dir for the embedded store",
        )),
        (Backend::Sled, _, Some(folder)) => Ok(Box::new(SledStore::open(folder, clock)?)),
        (Backend::Sled, _, None) => Err(Error::new(Code::InvalidConfig, "locking.data_dir is missing")),
    }
}

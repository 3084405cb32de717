//! Which store answers: opens the stores that the mode needs and routes every operation to the one that decides.
//!
//! | file | what it does |
//! |---|---|
//! | `core` | what the parts of hybrid mode share: who decides now, what the local store is told |
//! | `operations` | every operation, asked of Redis or decided here |
//! | `release_by_pull` | the one that touches many locks |
//! | `resolve` | what to do where the two stores differ: a pure function |
//! | `recovery` | does it, for all keys |
//! | `follow` | keeps a host store as a copy: the one thread that calls it |
//! | `belief` | what the start makes of a host store's content: pure functions |
//! | `copying` | writes to it what it lacks |
//! | `breaker` | when Redis counts as failed: a pure state machine |
//! | `watch` | looks at both stores and starts recovery |
//! | `report`, `counters`, `events` | what an operator sees: status, metrics, audit trail |
//! | `opening` | opens what a mode needs, after another mode was in use, too |

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::operations::HybridStore;
use self::report::Report;
use self::watch::Watch;
use crate::audit::AuditLog;
use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::error::Result;
use crate::look::Look;
use crate::store::Store;
use crate::store::host::HostStore;

mod belief;
pub mod breaker;
mod copying;
mod core;
mod counters;
mod events;
mod follow;
mod opening;
mod operations;
mod recovery;
mod release_by_pull;
pub mod report;
pub mod resolve;
#[cfg(test)]
mod simulation;
mod turns;
mod watch;

/// The process that opens stores.
#[derive(Clone, Debug)]
pub struct Process<'a> {
    /// Its name, which no other ever has.
    pub instance: &'a str,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its audit trail.
    pub audit: Option<Arc<AuditLog>>,
}

/// The stores of one mode.
#[derive(Debug)]
pub struct Router {
    mode: Mode,
    store: Opened,
    timeout: Duration,
    /// What strict mode may lack, though it was allowed to begin.
    warning: Option<String>,
}

#[derive(Debug)]
enum Opened {
    One(Box<dyn Store>),
    Both(Hybrid),
    Look(Box<Look>),
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
    /// also when Redis cannot be used, unless `legacy_fallback` is false. Hybrid mode tells the audit trail who decides.
    pub fn open(config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<Router> {
        let mode = config.mode();
        let redis = &config.locking.enhanced.redis;
        let mut warning = None;
        let (store, timeout) = match mode {
            Mode::Strict => {
                let (store, lacks) = opening::legacy(config, host, process)?;
                warning = lacks;
                (Opened::One(store), config.locking.timeout)
            }
            Mode::Native => (Opened::One(Box::new(opening::native(config, host, process)?)), redis.timeouts.operation),
            Mode::Hybrid => {
                let timeout = redis.timeouts.operation + config.locking.timeout;
                (Opened::Both(Hybrid::open(config, host, process)?), timeout)
            }
        };
        Ok(Router { mode, store, timeout, warning })
    }

    /// Opens the stores of the mode to look at them: nothing in them changes.
    ///
    /// Errors: those of [`Look::open`].
    pub fn open_read_only(config: &Config, clock: &Arc<dyn Clock>) -> Result<Router> {
        let redis = &config.locking.enhanced.redis;
        let timeout = redis.timeouts.operation + config.locking.timeout;
        let look = Look::open(config, clock)?;
        Ok(Router { mode: look.mode(), store: Opened::Look(Box::new(look)), timeout, warning: None })
    }

    /// What was opened to look at it.
    pub fn look(&self) -> Option<&Look> {
        match &self.store {
            Opened::Look(look) => Some(look),
            Opened::One(_) | Opened::Both(_) => None,
        }
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
            Opened::Look(look) => look.store(),
        }
    }

    /// Conditions that endanger a promise.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.look().map_or_else(|| self.store().warnings(), Look::warnings);
        warnings.into_iter().chain(self.warning.clone()).collect()
    }

    /// The stores' own metrics: whole families of OpenMetrics text, without the end line.
    pub fn metrics(&self) -> String {
        match &self.store {
            Opened::One(_) | Opened::Look(_) => String::new(),
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
            Opened::Look(look) => look.report(),
            Opened::Both(hybrid) => Some(report::report(hybrid.store.core())),
        }
    }

    /// Stops everything.
    pub fn close(&self) -> Result<()> {
        if let Opened::Both(hybrid) = &self.store {
            hybrid.store.core().stop();
            hybrid.threads.lock().clear();
        }
        self.store().close()
    }
}

impl Hybrid {
    fn open(config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<Hybrid> {
        let core = opening::both(config, host.map(Arc::new), process)?;
        core.first_look();
        let store = HybridStore::new(Arc::clone(&core));
        match Watch::stores(core) {
            Ok(watch) => Ok(Hybrid { store, threads: Mutex::new(vec![watch]) }),
            Err(error) => store.close().and(Err(error)),
        }
    }

    fn metrics(&self) -> String {
        let core = self.store.core();
        let breaker = core.breaker.lock().clone();
        core.counters.text(&report::report(core), &breaker)
    }
}

impl std::fmt::Debug for Hybrid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

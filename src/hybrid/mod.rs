//! Hybrid mode: Redis decides while it answers, the local store in its place while it does not, and both are brought together again.
//!
//! | file | what it does |
//! |---|---|
//! | `grant`, `release`, `release_by_pull`, `document`, `read` | the operations |
//! | `flow` | the course that every change takes: intend, ask Redis, decide here |
//! | `intent` | what the local store is handed before Redis is asked, and what becomes of that |
//! | `learn` | what goes into the local store of what Redis said |
//! | `data_loss` | whether Redis has lost a lock that it had confirmed |
//! | `core` | the parts: `authority`, `arming`, `presence`, `write_behind`, `redis_access`, `key_locks`, `unsynced`, `conflicts` |
//! | `breaker` | when Redis counts as failed: a pure state machine |
//! | `announce` | tells Redis that this server is there, and hears who else is |
//! | `open`, `probe`, `thread` | the start; looking at both stores now and then |
//! | `recovery`, `reconcile`, `resolve` | brings both together: all keys, one key, the rules as a pure function |
//! | `host_copy`, `copying`, `belief` | keeps Atlantis's own store as a copy, and what the start believes of it |
//! | `status`, `report`, `metrics`, `audit` | what an operator sees |

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::sync::{Mutex, RwLock, RwLockReadGuard};

use self::arming::PRESENCE;
use self::core::Core;
use self::host_copy::HostCopy;
use self::open::Opened;
use self::probe::Schedule;
use self::recovery::LONG;
use self::redis_access::Connect;
use self::status::Report;
use self::thread::Repeating;
use crate::call::Call;
use crate::config::Enhanced;
use crate::domain::lock::PullRef;
use crate::error::{Code, Error, Result};
use crate::process::Process;
use crate::queue::Gate;
use crate::sealing::MasterKeys;
use crate::store::contract::copy::CopyStore;
use crate::store::contract::local::{Held, LocalStore};
use crate::store::contract::shared::Presence;
use crate::store::{DocumentKey, Expected, Grant, Granted, Listing, LockInfo, LockKey, Release, Store, Swap};

mod announce;
mod arming;
mod audit;
mod authority;
mod belief;
pub mod breaker;
mod conflicts;
mod copying;
mod core;
mod data_loss;
mod document;
mod flow;
mod grant;
mod host_copy;
mod intent;
pub(crate) mod key_locks;
mod learn;
mod metrics;
mod open;
mod presence;
mod probe;
mod read;
mod reconcile;
mod recovery;
mod redis_access;
mod release;
mod release_by_pull;
mod report;
pub mod resolve;
#[cfg(test)]
pub(crate) mod simulation;
pub mod status;
mod thread;
mod unsynced;
mod write_behind;

pub(crate) use self::host_copy::catch_up;

/// Both stores as one. Safe from any thread.
pub struct HybridStore {
    core: Arc<Core>,
    host_copy: Option<Arc<HostCopy>>,
    probing: Mutex<Option<Repeating>>,
    closed: AtomicBool,
    /// Held for reading by each operation that may change the local store: all is handed over when that is closed.
    under_way: RwLock<()>,
}

/// What hybrid mode is made of.
pub(crate) struct Parts {
    pub settings: Enhanced,
    /// The local store's part of each call's time.
    pub reserve: Duration,
    pub local: Arc<dyn LocalStore>,
    /// Atlantis's own store, and whether it must work for the mode to begin.
    pub host: Option<(Arc<dyn CopyStore>, bool)>,
    /// Connects to Redis, under this server's name.
    pub connect: Connect,
}

impl HybridStore {
    /// Brings both stores together, or begins without Redis, unless `legacy_fallback` is false. Nothing stays open on an error.
    pub(crate) fn open(parts: Parts, process: &Process<'_>) -> Result<HybridStore> {
        let Parts { settings, reserve, local, host, connect } = parts;
        let host_copy = host.map(|(host, is_required)| HostCopy::new(host, is_required, Arc::clone(&process.clock)));
        open::open(settings, reserve, local, host_copy, connect, process).map(HybridStore::new)
    }

    fn new(opened: Opened) -> HybridStore {
        let Opened { core, host_copy } = opened;
        HybridStore { core, host_copy, probing: Mutex::default(), closed: AtomicBool::new(false), under_way: RwLock::default() }
    }

    /// Looks at both stores now and then, until the close.
    pub(crate) fn start_probing(&self) -> Result<()> {
        probe::first_look(&self.core);
        let core = Arc::clone(&self.core);
        let mut due = Schedule::from(core.clock.now());
        *self.probing.lock() = Some(Repeating::start("atlock-probe", move || probe::tick(&core, &mut due))?);
        Ok(())
    }

    /// Redis alone knows the locks from now on: that is remembered on disk.
    pub(crate) fn note_handed_over(&self) -> Result<()> {
        self.core.write_record(|record| record.handed_over = true, self.core.clock.now() + LONG)
    }

    /// The state of hybrid mode.
    pub(crate) fn report(&self) -> Report {
        report::report(&self.core, self.host_copy.as_deref())
    }

    /// Whole families of OpenMetrics text, without the end line.
    pub(crate) fn metrics(&self) -> String {
        self.core.metrics.text(&self.report(), &self.core.authority.breaker())
    }

    /// An operation begins: the store is not closed before it ends.
    fn begin(&self) -> Result<RwLockReadGuard<'_, ()>> {
        // Whoever closes it has said so before.
        let under_way = self.under_way.try_read_recursive().filter(|_| !self.closed.load(Ordering::SeqCst));
        under_way.ok_or_else(|| Error::new(Code::Closed, "the locking layer is closed"))
    }
}

impl Store for HybridStore {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        let _under_way = self.begin()?;
        grant::grant(&self.core, grant, call)
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let _under_way = self.begin()?;
        release::release(&self.core, release, call)
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let _under_way = self.begin()?;
        release::discard(&self.core, key, call)
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let _under_way = self.begin()?;
        read::get(&self.core, key, call)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        let _under_way = self.begin()?;
        read::list(&self.core, call)
    }

    fn lock_info(&self, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>> {
        // This one changes nothing, so the close does not wait for it.
        read::lock_info(&self.core, key, call)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let _under_way = self.begin()?;
        release_by_pull::release_by_pull(&self.core, pull, call)
    }

    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let _under_way = self.begin()?;
        let here = |local: &dyn LocalStore| local.document(key, call);
        read::read(&self.core, call, |redis, attempt| redis.document(key, attempt), here)
    }

    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        let _under_way = self.begin()?;
        document::swap(&self.core, key, expected, new, call)
    }

    fn queues(&self, call: &Call) -> Result<Vec<String>> {
        let _under_way = self.begin()?;
        read::read(&self.core, call, |redis, attempt| redis.queues(attempt), |local| local.queues(call))
    }

    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        let _under_way = self.begin()?;
        read::read(&self.core, call, |redis, attempt| redis.held(key, attempt), |local| local.held(key, call))
    }

    /// In a fallback a grant finds the gate in the local store's queue.
    fn set_gate(&self, key: &str, revision: u64, gate: &Gate, call: &Call) -> Result<bool> {
        let _under_way = self.begin()?;
        let here = |local: &dyn LocalStore| local.set_gate(key, revision, gate, call);
        read::read(&self.core, call, |redis, attempt| redis.set_gate(key, revision, gate, attempt), here)
    }

    fn ping(&self, call: &Call) -> Result<()> {
        let _under_way = self.begin()?;
        read::read(&self.core, call, |redis, attempt| redis.ping(attempt), |local| local.ping(call))
    }

    fn warnings(&self) -> Vec<String> {
        report::warnings(&self.core, self.host_copy.as_deref())
    }

    fn check_keys(&self, masters: Option<&MasterKeys>) -> Result<()> {
        self.core.local.store().check_keys(masters)
    }

    fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let core = &self.core;
        core.stop();
        drop(self.probing.lock().take());
        // Each call under way has a deadline; one that takes longer is as one that a crash cut short: then it is not said that all is
        // handed over.
        let none_under_way = self.under_way.try_write_for(2 * core.redis.timeout);
        // What is still queued goes with the close of the local store.
        let written = match none_under_way {
            Some(_) => {
                intent::settle(core);
                core.all_written()
            }
            None => core.local.flush(core.redis.soon()).and(Err(calls_under_way())),
        };
        let mut closed = Ok(());
        if let Some(redis) = core.redis.replace(None) {
            if !core.in_fallback() {
                // A courtesy: the presence ends by itself.
                let _ = redis.announce(
                    &core.arming.server_name(),
                    PRESENCE,
                    Presence::Leaves,
                    core.arming.record().announced,
                    &core.redis.step(),
                );
            }
            closed = redis.close();
        }
        let copied = self.host_copy.as_ref().map_or(Ok(()), |copy| copy.finish().and(err_if_lacking(core)));
        core.local.store().close().and(written).and(copied).and(closed)
    }
}

/// What a call that is still under way does from now on may not be in the host store.
fn calls_under_way() -> Error {
    let text = "calls were under way for longer than the close waits: what they still take or release is in the local store, and Atlantis's \
                own store may lack it until the next start of this server";
    Error::new(Code::Timeout, text)
}

/// What the host store was given may not be what callers were told.
fn err_if_lacking(core: &Core) -> Result<()> {
    /// How many keys are named.
    const MOST_NAMED: usize = 5;
    let doubts = core.unsynced.doubts();
    if !doubts.is_empty() {
        let named = doubts.iter().take(MOST_NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more =
            doubts.len().checked_sub(MOST_NAMED).filter(|more| *more > 0).map_or_else(String::new, |n| format!(" and {n} more"));
        let text = format!(
            "Redis could not be asked what became of the last change of the {named}{more}: Atlantis's own store may have a lock there that was \
             released, or lack one; the next start of this server finds out"
        );
        return Err(Error::new(Code::OutcomeUnknown, text));
    }
    core.arming.lacks().map_or(Ok(()), |why| {
        let text = format!(
            "Atlantis's own store may lack locks, as the local store does: {why}; the next start of this server finds out"
        );
        Err(Error::new(Code::Degraded, text))
    })
}

impl fmt::Debug for HybridStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridStore").field("fallback", &self.core.in_fallback()).finish_non_exhaustive()
    }
}

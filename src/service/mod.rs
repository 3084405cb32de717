//! The safe Rust API: one type, one method for each operation of Atlantis's database. The C ABI and the command line are
//! thin layers over it.
//!
//! Values go in and come out as JSON text, byte for byte; the service parses only what names a lock (`crate::domain::lock`). Their
//! credentials may be sealed below (`sealed.rs`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use self::at_rest::AtRest;
use self::queueing::memory::Queueing;
use self::queueing::ticker::Ticker;
use self::sealed::Sealed;
use self::state::State;
use crate::audit::{Actor, AuditLog, Event, Kind, Trail, Via};
use crate::call::{AnsweredBy, Call, Calls};
use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::domain::json::parse_json;
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};
use crate::look::Look;
use crate::metrics::Metrics;
use crate::mode::Router;
#[cfg(test)]
use crate::mode::Stores;
use crate::operation::{Ending, Operation};
use crate::process::Process;
use crate::queue::PullId;
use crate::shadow::Tapped;
use crate::store::host::HostStore;
use crate::store::{Granted, LockKey, Release, Store};
use crate::sync::Mutex;

pub mod at_rest;
pub mod change;
mod commands;
mod locks;
mod pull_status;
pub mod queueing;
mod sealed;
mod shadowed;
pub mod status;
mod target;

/// How long a list or a release by pull may take in Redis beside the usual timeout. What they do grows with the number of locks and
/// keys there; each of its steps has the usual timeout, so that a Redis that hangs costs no more than that.
const GROWING: Duration = Duration::from_secs(60);

/// Whom the trail names where the queue itself changes a lock.
const BY_QUEUE: Actor = Actor { via: Some(Via::Queue), by: None };

/// The locking layer: a handle on the stores that a configuration names. Safe from any thread at once; it may be closed while
/// others work.
#[derive(Debug)]
pub struct Service {
    /// The thread that looks at queues; it ends before the last handle lets go of the state, which that thread uses.
    ticker: Arc<Mutex<Option<Ticker>>>,
    state: Arc<State>,
    /// What runs beside the service on threads of its own; its handle has no `beside`, so there is no circle.
    beside: Option<Box<dyn Beside>>,
    /// Whom this handle is for: the audit trail names them.
    actor: Actor,
}

/// What runs beside a service and ends with it, such as a [socket](crate::socket::listening).
pub trait Beside: Send + Sync + std::fmt::Debug {
    /// What an operator should know of it.
    fn warning(&self) -> Option<String>;
    /// The service is about to close: begin nothing new, and leave the folder to others. Idempotent.
    fn stop(&self);
    /// The stores are closed: end the threads. Idempotent.
    fn finish(&self);
}

mod state {
    use super::*;

    /// What all handles on one service share. The last one to go closes the stores.
    #[derive(Debug)]
    pub struct State {
        pub(super) router: Arc<Router>,
        pub(super) shadow: Arc<OnceLock<Tapped>>,
        pub(super) sealed: Sealed,
        pub(super) calls: Calls,
        pub(super) metrics: Metrics,
        pub(super) instance: String,
        pub(super) audit: Option<Arc<AuditLog>>,
        pub(super) enhanced_enabled: bool,
        pub(super) settings_warnings: Vec<String>,
        pub(super) at_rest: AtRest,
        pub(super) closed: AtomicBool,
        pub(super) clock: Arc<dyn Clock>,
        pub(super) queueing: Queueing,
        /// The last change of the stores of this process, if there was one.
        pub(super) last_change: Mutex<Option<change::Change>>,
    }

    impl Drop for State {
        fn drop(&mut self) {
            // The store has nowhere to report to any more; every acknowledged change is durable already.
            if !*self.closed.get_mut() {
                let _ = self.router.close();
                if let Some(tapped) = self.shadow.get() {
                    tapped.shadow().stop();
                }
            }
        }
    }
}

impl std::ops::Deref for Service {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Service {
    /// Opens the stores that the configuration names.
    ///
    /// `host` is the host store for `locking.backend: boltdb`. Errors are those of the stores; nothing stays open then.
    pub fn open(config: &Config, host: Option<HostStore>, clock: Arc<dyn Clock>) -> Result<Service> {
        let calls = Calls::new(Arc::clone(&clock))?;
        Service::open_by(config, calls, clock, |process| Router::open(config, host, process))
    }

    /// The same over other stores, by a process of this number.
    #[cfg(test)]
    pub(crate) fn open_on(stores: &dyn Stores, config: &Config, process: u64, clock: Arc<dyn Clock>) -> Result<Service> {
        let calls = Calls::of_process(process, Arc::clone(&clock));
        Service::open_by(config, calls, clock, |process| Router::open_on(stores, config, None, process))
    }

    fn open_by(
        config: &Config,
        calls: Calls,
        clock: Arc<dyn Clock>,
        open: impl FnOnce(&Process<'_>) -> Result<Router>,
    ) -> Result<Service> {
        let instance = calls.instance();
        let audit = AuditLog::of(&config.locking.audit)?.map(Arc::new);
        let process = Process { instance: &instance, clock: Arc::clone(&clock), audit: audit.clone() };
        let router = open(&process)?;
        let service = Service::on(router, config, calls, audit, clock);
        if service.queueing.is_enabled() {
            // What is frozen is known before the first lock is given.
            service.refresh_freezes();
            let (state, nudge) = (Arc::downgrade(&service.state), Arc::clone(&service.queueing.nudge));
            *service.ticker.lock() =
                Some(Ticker::start(nudge, Arc::clone(&service.clock), move |what| Some(state.upgrade()?.look(what)))?);
        }
        Ok(service)
    }

    /// Opens the stores that the configuration names to look at them ([`crate::look`]): nothing in them changes, a change is refused with
    /// an error of code `ReadOnly`, and there is no audit trail.
    ///
    /// Errors: those of [`Look::open`](crate::look::Look::open).
    pub fn open_read_only(config: &Config, clock: Arc<dyn Clock>) -> Result<Service> {
        let router = Router::open_read_only(config, &clock)?;
        Ok(Service::on(router, config, Calls::new(Arc::clone(&clock))?, None, clock))
    }

    /// Which store answers where the stores were opened to look at them, for a person; `None` where that is clear.
    pub fn source(&self) -> Option<&str> {
        self.router.look().and_then(Look::source)
    }

    fn on(router: Router, config: &Config, calls: Calls, audit: Option<Arc<AuditLog>>, clock: Arc<dyn Clock>) -> Service {
        let mut metrics = Metrics::new(router.mode());
        if let Some(audit) = &audit {
            metrics.register("audit_events_lost", "Events that could not be written to the audit trail", audit.lost().clone());
        }
        let (instance, enhanced_enabled) = (calls.instance(), config.locking.enhanced.enabled);
        let settings_warnings = config.warnings().into_iter().chain(config.exposed()).collect();
        let closed = AtomicBool::new(false);
        let at_rest = AtRest::of(config);
        let queueing = Queueing::new(config);
        let last_change = Mutex::default();
        let (router, shadow) = (Arc::new(router), Arc::default());
        let sealed = Sealed::new(Arc::clone(&router), Arc::clone(&shadow), config);
        let state = State {
            router,
            shadow,
            sealed,
            calls,
            metrics,
            instance,
            audit,
            enhanced_enabled,
            settings_warnings,
            at_rest,
            closed,
            clock,
            queueing,
            last_change,
        };
        Service { ticker: Arc::default(), state: Arc::new(state), beside: None, actor: Actor::default() }
    }

    /// The same service, with what `make` makes of another handle on it running beside it until it is closed.
    #[must_use]
    pub fn beside(mut self, make: impl FnOnce(Service) -> Box<dyn Beside>) -> Service {
        let (ticker, state) = (Arc::clone(&self.ticker), Arc::clone(&self.state));
        self.beside = Some(make(Service { ticker, state, beside: None, actor: Actor::default() }));
        self
    }

    /// Another handle on the same state: the audit trail says of its changes who asked for them, and by which way.
    #[must_use]
    pub fn acting_as(&self, actor: Actor) -> Service {
        Service { ticker: Arc::clone(&self.ticker), state: Arc::clone(&self.state), beside: None, actor: actor.cut() }
    }

    /// Whether the store that decides answers and could be written.
    pub fn ping(&self) -> Result<()> {
        self.run(Operation::Ping, |store, call| store.ping(call))
    }

    /// Stops everything. Calls under way end; later ones answer with an error of code `Closed`. Closing twice is harmless.
    pub fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        // Who waits is answered, and has no place any more.
        self.queueing.close(self.clock.now() + 2 * self.router.timeout());
        drop(self.ticker.lock().take());
        // Before the folder is another's.
        self.beside.iter().for_each(|beside| beside.stop());
        if let Some(tapped) = self.shadow.get() {
            tapped.shadow().stop();
        }
        let closed = self.router.close();
        self.beside.iter().for_each(|beside| beside.finish());
        if let Some(tapped) = self.shadow.get() {
            tapped.shadow().close();
        }
        closed
    }

    fn release(&self, operation: Operation, release: &Release<'_>, store: &dyn Store, call: &Call) -> Result<Option<Vec<u8>>> {
        let begun = self.now();
        self.intend(operation, call, |event| event.about(release.key))?;
        let released = store.release(release, call);
        if let (Ok(Some(value)), LockKey::Project(key)) = (&released, release.key) {
            self.gave_up(value, key, begun);
        }
        self.audited(operation, call, released, |trail, released| trail.removal(Kind::Release, release.key, released))
    }

    /// A lock was released: whoever waits for it is next.
    fn gave_up(&self, value: &[u8], key: &str, begun: u64) {
        self.queueing.released(key, self.clock.now());
        if let Ok(lock) = ProjectLock::parse(value) {
            self.freed(lock.pull().repo, key, &PullId::of(&lock), begun);
        }
    }

    /// Errors: `Closed`.
    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Closed, "the locking layer is closed: open it again to use it"));
        }
        Ok(())
    }

    fn granting(&self, operation: Operation, body: impl FnOnce(&dyn Store, &Call) -> Result<Granted>) -> Result<Granted> {
        self.counted(operation, self.router.timeout(), |granted| matches!(granted, Granted::Held { .. }), body)
    }

    fn run<T>(&self, operation: Operation, body: impl FnOnce(&dyn Store, &Call) -> Result<T>) -> Result<T> {
        self.counted(operation, self.router.timeout(), |_| false, body)
    }

    /// The same for what grows with the number of locks. Strict mode's store needs no longer than for anything else.
    fn run_growing<T>(&self, operation: Operation, body: impl FnOnce(&dyn Store, &Call) -> Result<T>) -> Result<T> {
        let growing = if self.router.mode() == Mode::Strict { Duration::ZERO } else { GROWING };
        self.counted(operation, self.router.timeout() + growing, |_| false, body)
    }

    fn counted<T>(
        &self,
        operation: Operation,
        timeout: Duration,
        refused: impl FnOnce(&T) -> bool,
        body: impl FnOnce(&dyn Store, &Call) -> Result<T>,
    ) -> Result<T> {
        self.check_open()?;
        let start = Instant::now();
        let call = self.calls.within(timeout);
        let answer = body(self.store(), &call);
        let ending = match &answer {
            Ok(answer) if refused(answer) => Ending::Refused,
            Ok(_) => Ending::Ok,
            // What the settings switch off is no fault: whoever looks at everything asks for this, too.
            Err(e) if matches!(e.code(), Code::QueueDisabled | Code::Unsupported) => Ending::Refused,
            Err(e) => Ending::Error(e.code()),
        };
        self.metrics.count(operation, self.answered_by(&call), ending, start.elapsed());
        answer
    }

    /// Records how a change ended, if there is an audit trail.
    fn audited<T>(
        &self,
        operation: Operation,
        call: &Call,
        answer: Result<T>,
        record: impl FnOnce(&Trail<'_>, &Result<T>),
    ) -> Result<T> {
        self.audit(operation, call, |trail| record(trail, &answer));
        answer
    }

    fn audit(&self, operation: Operation, call: &Call, record: impl FnOnce(&Trail<'_>)) {
        self.state.audit(&self.actor, operation, call, record);
    }

    /// Records what is about to be asked of the store, if the settings demand that.
    ///
    /// Errors: `AuditFailed`: it must not be asked.
    fn intend<'a>(&'a self, operation: Operation, call: &'a Call, what: impl FnOnce(Event<'a>) -> Event<'a>) -> Result<()> {
        self.state.intend(&self.actor, operation, call, what)
    }
}

impl State {
    fn audit(&self, actor: &Actor, operation: Operation, call: &Call, record: impl FnOnce(&Trail<'_>)) {
        if let Some(log) = &self.audit {
            record(&self.trail(log, actor, operation, call));
        }
    }

    fn intend<'a>(
        &'a self,
        actor: &'a Actor,
        operation: Operation,
        call: &'a Call,
        what: impl FnOnce(Event<'a>) -> Event<'a>,
    ) -> Result<()> {
        self.audit.as_ref().map_or(Ok(()), |log| self.trail(log, actor, operation, call).intend(what))
    }

    fn trail<'a>(&'a self, log: &'a AuditLog, actor: &'a Actor, operation: Operation, call: &'a Call) -> Trail<'a> {
        let (store, request) = (self.answered_by(call), call.request.as_str());
        Trail { log, operation, store, instance: &self.instance, actor, request }
    }

    /// Releases what the queue takes back of a set.
    fn take_back_lock(&self, release: &Release<'_>) -> Result<()> {
        let call = self.calls.within(self.router.timeout());
        self.intend(&BY_QUEUE, Operation::Unlock, &call, |event| event.about(release.key))?;
        let released = self.store().release(release, &call);
        self.audit(&BY_QUEUE, Operation::Unlock, &call, |trail| trail.removal(Kind::Release, release.key, &released));
        released.map(drop)
    }

    /// Who answered a call: the store that decides, unless the call says otherwise.
    fn answered_by(&self, call: &Call) -> AnsweredBy {
        let decides = if self.router.mode() == Mode::Strict { AnsweredBy::Legacy } else { AnsweredBy::Enhanced };
        call.answered_by().unwrap_or(decides)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.beside.is_some() {
            // No caller is left to hear of an error. Closing also stops what runs beside, which keeps the state alive.
            let _ = self.close();
        }
    }
}

fn check_json(json: &[u8]) -> Result<()> {
    parse_json::<&RawValue>(json).map(drop)
}

fn unreadable(key: &LockKey<'_>, cause: &Error) -> Error {
    Error::new(
        Code::EntryUnreadable,
        format!(
            "{key} is taken by an entry that cannot be read, and stays taken: {cause}; see it with `atlock get`, remove it with `atlock discard`"
        ),
    )
}

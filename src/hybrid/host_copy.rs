//! A host store (Atlantis's own BoltDB file) kept as a copy of the local store, so that strict mode, or a stock Atlantis, finds
//! every lock there after a rollback.
//!
//! Invariants:
//! - The host store is a copy, never a source, while hybrid mode runs: what it lacks is marked in the same group as the change itself,
//!   so a crash loses no mark, and the marks bound what is still to be copied to one entry for each key. At the start it is the other
//!   way round: what somebody else changed there counts as decided here (`belief`).
//! - One thread calls the host store, and nobody waits for it without a bound: a host store that hangs keeps no caller, no probe, no
//!   recovery and no health from answering. Others read what the thread left.
//! - A host store that cannot be read at the start is not written to either: what was changed there is still to be found by the next
//!   start. Only the first start, when nothing but the host store knows the locks, does without no host store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, JoinHandle, Mutex, spawn};

use super::belief::{self, Belief, Findings, Known};
use super::copying::{Aside, Copier};
use super::core::Core;
use super::status::HostStoreReport;
use crate::audit::Kind;
use crate::clock::Clock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::contract::copy::{CopyStore, HostDump};
use crate::store::contract::local::{Change, LocalStore};

/// Longest time for the local store to take what the host store has, or what is being copied.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time that the start waits for the host store's content.
const START: Duration = Duration::from_secs(10);
/// Longest time that the end waits for the host store.
const END: Duration = Duration::from_secs(5);
/// A call that takes longer is not answered.
const SLOW: Duration = Duration::from_secs(3);
/// Time between two looks.
const TICK: Duration = Duration::from_millis(25);
/// Shortest and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Time between two rounds while entries are set aside: each reads them.
const ASIDE_TICK: Duration = Duration::from_millis(250);
/// Shortest and longest pause before entries that were refused are tried again.
const REFUSED_PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Changes that the start writes to the local store at once.
const GROUP: usize = 1000;

/// The host store, and the thread that calls it.
pub(super) struct HostCopy {
    host: Arc<dyn CopyStore>,
    /// Whether it must work for the mode to begin.
    is_required: bool,
    clock: Arc<dyn Clock>,
    orders: Mutex<Orders>,
    changed: Condvar,
    seen: Mutex<Seen>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    /// Nothing yet.
    #[default]
    Wait,
    /// Keep the host store up to date.
    Follow,
    /// Do so once more, and end.
    Finish,
    /// End.
    End,
}

#[derive(Default)]
struct Orders {
    order: Order,
    /// What the thread was to read.
    dump: Option<Result<HostDump>>,
    /// How the thread ended.
    ended: Option<Result<()>>,
}

/// What the thread leaves for others to read.
#[derive(Default)]
struct Seen {
    /// Since when it is in a call.
    calling: Option<Instant>,
    /// What the last call answered, if it failed.
    failure: Option<Error>,
    report: HostStoreReport,
    refused: Vec<String>,
}

/// When what is tried again.
struct Pace {
    next: Instant,
    pause: Duration,
    ping: Instant,
    retry: Instant,
    retry_pause: Duration,
    aside: Aside,
    /// Whether the host store bears a mark of this process.
    is_marked: bool,
}

impl HostCopy {
    pub(super) fn new(host: Arc<dyn CopyStore>, is_required: bool, clock: Arc<dyn Clock>) -> HostCopy {
        HostCopy {
            host,
            is_required,
            clock,
            orders: Mutex::default(),
            changed: Condvar::new(),
            seen: Mutex::default(),
            thread: Mutex::default(),
        }
    }

    /// The start: takes over what was changed in the host store, and begins to follow. `is_first`: the local store never followed Redis.
    pub(super) fn start(self: &Arc<HostCopy>, core: &Arc<Core>, is_first: bool) -> Result<()> {
        let (copy, for_thread) = (Arc::clone(self), Arc::clone(core));
        let thread = spawn("atlock-copy", move || copy.run(&for_thread));
        let thread = thread.map_err(|e| Error::new(Code::Internal, format!("the thread atlock-copy cannot be started: {e}")))?;
        *self.thread.lock() = Some(thread);
        let followed = self.import(core, is_first);
        self.give(if matches!(followed, Ok(true)) { Order::Follow } else { Order::End });
        followed.map(drop)
    }

    /// Returns whether the host store can be kept up to date.
    fn import(&self, core: &Core, is_first: bool) -> Result<bool> {
        let before = core.local.store().host_copy()?;
        let dump = match self.dump() {
            Ok(dump) => dump,
            // What is in it is known here, but for what strict mode changed since.
            Err(error) if before.is_some() && !self.is_required => {
                self.seen.lock().report.error = Some(format!(
                    "the host store is not followed, because it could not be read at the start; locks that strict mode took or released \
                     there since are not known. {error}"
                ));
                return Ok(false);
            }
            Err(error) => {
                let why = if before.is_none() { "it may have locks that are not known yet" } else { "its locks are needed" };
                return Err(error.context(format!("the host store cannot be read, and {why}")));
            }
        };
        let deadline = core.clock.now() + PATIENCE;
        core.local.write(vec![Change::CopyBegins], deadline)?;
        let instance = core.arming.server_name();
        let copy = core.local.store().host_copy()?.unwrap_or_default();
        let is_first = is_first && before.is_none();
        let belief = if is_first { Belief::First } else { belief::judge(dump.mark.as_ref(), copy, &instance) };
        let findings = belief::compare(&belief, &dump, &Known::of(core.local.store())?, || core.redis.next_token());
        let goes_on = belief::go_on(&belief, dump.mark.as_ref(), copy, &instance, core.clock.unix_micros());
        if belief.is_doubt() && !findings.taken.is_empty() && !core.arming.has_all() {
            // Redis may have a lock that is lacking here, and is held, at the same key: the token of what is taken over tells nothing of that.
            core.write_record(|record| record.granted_blindly = true, deadline)?;
        }
        for changes in findings.in_order(goes_on).chunks(GROUP) {
            core.local.write(changes.to_vec(), deadline)?;
        }
        self.tell_of(core, &belief, &findings);
        Ok(true)
    }

    fn tell_of(&self, core: &Core, belief: &Belief, findings: &Findings) {
        let mut seen = self.seen.lock();
        seen.report.followed = true;
        if let Belief::Doubted { why, .. } = belief {
            seen.report.not_believed = Some((*why).to_owned());
        }
        // At the first start all locks are from before.
        if *belief != Belief::First {
            seen.report.released_before = findings.released.len();
            seen.report.taken_before = findings.taken.len();
            findings.released.iter().for_each(|(key, held)| core.audit.before_start(Kind::Release, key, held));
            findings.taken.iter().for_each(|(key, held)| core.audit.before_start(Kind::Grant, key, held));
        }
    }

    /// What the host store has.
    fn dump(&self) -> Result<HostDump> {
        let give_up = self.clock.now() + START;
        let mut orders = self.orders.lock();
        while orders.dump.is_none() {
            if self.changed.wait_until(&mut orders, give_up).timed_out() {
                return Err(Error::new(Code::Timeout, format!("the host store did not answer within {START:?}")));
            }
        }
        orders.dump.take().unwrap_or_else(|| Err(Error::new(Code::Internal, "the host store was not read")))
    }

    fn give(&self, order: Order) {
        self.orders.lock().order = order;
        self.changed.notify_all();
    }

    /// The end: everything is copied, unless the host store cannot be followed, and the thread has ended.
    ///
    /// Errors: those of the host store; `Timeout` if it does not answer. The thread is left behind then.
    pub(super) fn finish(&self) -> Result<()> {
        let Some(thread) = self.thread.lock().take() else { return Ok(()) };
        let give_up = self.clock.now() + END;
        let mut orders = self.orders.lock();
        orders.order = if orders.order == Order::Follow { Order::Finish } else { Order::End };
        self.changed.notify_all();
        while orders.ended.is_none() {
            if self.changed.wait_until(&mut orders, give_up).timed_out() {
                let text = format!(
                    "the host store did not take what it lacks within {END:?}, and is left behind: it is in use until it answers or the \
                     process ends; the next start gives it the rest"
                );
                return Err(Error::new(Code::Timeout, text));
            }
        }
        let ended = orders.ended.take().unwrap_or(Ok(()));
        drop(orders);
        // It does nothing more; it catches its panics.
        let _ = thread.join();
        ended
    }

    /// The thread.
    fn run(&self, core: &Core) {
        let dump = self.call(core, |host| host.dump());
        self.orders.lock().dump = Some(dump);
        self.changed.notify_all();
        let now = core.clock.now();
        let mut pace = Pace {
            next: now,
            pause: Duration::ZERO,
            ping: now,
            retry: now,
            retry_pause: REFUSED_PAUSES.0,
            aside: Aside::default(),
            is_marked: false,
        };
        let ended = loop {
            let order = {
                let mut orders = self.orders.lock();
                match orders.order {
                    Order::Wait => self.changed.wait(&mut orders),
                    Order::Follow => drop(self.changed.wait_for(&mut orders, TICK)),
                    _ => {}
                }
                orders.order
            };
            match order {
                Order::Wait => {}
                Order::End => break Ok(()),
                // A panic must not end the thread: the next round may go well.
                Order::Follow | Order::Finish => {
                    let is_last = order == Order::Finish;
                    let round = || self.round(core, &mut pace, is_last);
                    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(round));
                    if is_last {
                        break ended.unwrap_or_else(|_| Err(Error::new(Code::Internal, "copying to the host store panicked")));
                    }
                }
            }
        };
        self.orders.lock().ended = Some(ended);
        self.changed.notify_all();
    }

    /// One round: copies what is lacking.
    fn round(&self, core: &Core, pace: &mut Pace, is_last: bool) -> Result<()> {
        let now = core.clock.now();
        if now < pace.next && !is_last {
            return Ok(());
        }
        let copied = self.copy(core, pace, now, is_last);
        // At the end nobody will look at warnings: a store that takes nothing is an error then.
        let copied = copied.and_then(|()| pace.aside.failure().filter(|_| is_last).map_or(Ok(()), Err));
        let of_host = copied.as_ref().err().filter(|error| error.code() == Code::HostStore).cloned();
        {
            let mut seen = self.seen.lock();
            // The local store's failure is told by its own health.
            if copied.is_ok() || of_host.is_some() {
                seen.failure = of_host.or_else(|| pace.aside.failure());
            }
            seen.report.refused = pace.aside.refused();
            seen.refused = pace.aside.texts();
        }
        pace.pause = match copied {
            Ok(()) => Duration::ZERO,
            Err(_) => (pace.pause * 2).clamp(PAUSES.0, PAUSES.1),
        };
        let least = if pace.aside.is_empty() { Duration::ZERO } else { ASIDE_TICK };
        pace.next = core.clock.now() + pace.pause.max(least);
        copied
    }

    /// Copies what is lacking; at the end all that was refused, too: the disk may have room again.
    fn copy(&self, core: &Core, pace: &mut Pace, now: Instant, is_last: bool) -> Result<()> {
        let instance = core.arming.server_name();
        let copier = Copier {
            local: core.local.store(),
            apply: &|writes, mark| self.call(core, |host| host.apply(writes, mark)),
            write_here: &|changes| core.local.write(changes, core.clock.now() + PATIENCE),
            instance: Some(&instance),
        };
        if !pace.is_marked {
            // What was found at the start is not found again.
            copier.write(&[])?;
            pace.is_marked = true;
        }
        if pace.aside.refused() > 0 && (is_last || now >= pace.retry) {
            let longest = if pace.aside.failure().is_some() { PAUSES.1 } else { REFUSED_PAUSES.1 };
            pace.retry_pause = (pace.retry_pause * 2).min(longest);
            pace.retry = now + pace.retry_pause;
            copier.copy_all(&mut pace.aside)?;
        }
        let before = pace.aside.refused();
        copier.copy(&mut pace.aside)?;
        if pace.aside.refused() > before {
            pace.retry_pause = REFUSED_PAUSES.0;
            pace.retry = now + pace.retry_pause;
        }
        if now >= pace.ping {
            pace.ping = now + core.settings.health.interval;
            self.call(core, |host| host.ping(&core.redis.step()))?;
        }
        Ok(())
    }

    /// Calls the host store.
    fn call<T>(&self, core: &Core, f: impl FnOnce(&dyn CopyStore) -> Result<T>) -> Result<T> {
        self.seen.lock().calling = Some(core.clock.now());
        let answer = f(&*self.host);
        self.seen.lock().calling = None;
        answer
    }

    /// What is known of the host store; asks nobody.
    pub(super) fn report(&self, now: Instant) -> HostStoreReport {
        let seen = self.seen.lock();
        let called = seen.calling.map(|since| now.saturating_duration_since(since)).filter(|time| *time > SLOW);
        let hangs = called.map(|time| format!("the host store has not answered for {} s", time.as_secs()));
        let fails = || seen.failure.as_ref().map(|error| format!("the host store does not take what it lacks: {error}"));
        HostStoreReport { error: seen.report.error.clone().or(hangs).or_else(fails), ..seen.report.clone() }
    }

    /// What an operator should know.
    pub(super) fn warnings(&self, now: Instant) -> Vec<String> {
        let report = self.report(now);
        let doubt = report.not_believed.as_deref().map(not_believed);
        let refused = self.seen.lock().refused.clone();
        report.error.into_iter().chain(doubt).chain(refused).collect()
    }
}

fn not_believed(why: &str) -> String {
    format!(
        "the content of the host store (Atlantis's BoltDB file) was not believed at the start, but replaced: {why}; no lock was released \
         because it was missing there, so a lock that strict mode released may have to be released again"
    )
}

/// Strict mode begins: the host store is given what it lacked when hybrid mode ended. What it refuses is a warning of it.
/// The answer is what is said of the locks among that. `None`, and nothing was copied, if the local store never followed a host store.
pub(crate) fn catch_up(host: &dyn CopyStore, local: &dyn LocalStore, clock: &dyn Clock) -> Result<Option<Vec<String>>> {
    let write_here = |changes| {
        let deadline = clock.now() + PATIENCE;
        local.submit(Vec::new(), changes, deadline)?.wait(deadline)
    };
    let (Some(copy), Some(record)) = (local.host_copy()?, local.redis_record()?) else { return Ok(None) };
    let dump = host.dump()?;
    let belief = belief::judge(dump.mark.as_ref(), copy, &record.server_name);
    let mut findings = Findings::default();
    if let Belief::Doubted { why, .. } = &belief {
        findings = belief::compare(&belief, &dump, &Known::of(local)?, || FencingToken::new(clock.unix_micros()));
        host.warn(not_believed(why));
    }
    let goes_on = belief::go_on(&belief, dump.mark.as_ref(), copy, &record.server_name, clock.unix_micros());
    findings.in_order(goes_on).chunks(GROUP).try_for_each(|changes| write_here(changes.to_vec()))?;
    let copier = Copier {
        local,
        apply: &|writes, mark| host.apply(writes, mark),
        write_here: &write_here,
        // What strict mode changed before, or stock, is found by the next start of hybrid mode.
        instance: belief.is_doubt().then_some(&*record.server_name),
    };
    if belief.is_doubt() {
        copier.write(&[])?;
    }
    let mut aside = Aside::default();
    if belief == Belief::Changed {
        // Strict mode was here before, while the host store refused this: what it decided since stays, and hybrid mode's next start learns it.
        belief::decided_there(&dump, local.host_lacks(usize::MAX)?).iter().for_each(|mark| aside.leave(mark));
    }
    copier.copy(&mut aside)?;
    if aside.refused_locks().is_empty() {
        // Written to since its mark: it is no copy any more, and a migration may take its locks. Who cannot write that finds that it is one.
        let _ = host.apply(&[], None);
    }
    aside.texts().into_iter().for_each(|text| host.warn(text));
    Ok(Some(aside.refused_locks().into_iter().map(str::to_owned).collect()))
}

//! Looking at both stores, now and then: opens the breaker before a caller meets the failure, and closes it when Redis works
//! again. One thread; [`Core::tick`] is one look, so that tests can do without the thread.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::core::Core;
use crate::call::Call;
use crate::config::Instances;
use crate::error::{Code, Error, Result};
use crate::health::StoreHealth;
use crate::store::contract::local::Change;
use crate::store::contract::shared::SharedStore;

/// How long another instance counts as there after it announced itself, or was noticed by its locks, unless it said that it
/// leaves: long, because one that was cut off from Redis may still be there. Only time in which Redis answers counts.
pub(super) const LEASE: Duration = Duration::from_secs(600);
/// Longest time for reading all of Redis.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// Time between two looks.
const TICK: Duration = Duration::from_millis(25);
/// Time between two rounds of forgetting what was released.
const FORGET: Duration = Duration::from_secs(3600);
/// How many times as long it is between two comparisons where nobody else changes what is in Redis.
const ALONE: u32 = 10;
/// How long a release is remembered, so that an old snapshot of Redis does not bring the lock back; microseconds.
const REMEMBERED_MICROS: u64 = 24 * 3600 * 1_000_000;

/// When what is due.
#[derive(Debug)]
pub(super) struct Due {
    probe: Instant,
    compare: Instant,
    forget: Instant,
}

impl Due {
    pub(super) fn from(now: Instant) -> Due {
        Due { probe: now, compare: now, forget: now }
    }
}

impl Core {
    /// One look: does what is due.
    pub(super) fn tick(&self, due: &mut Due) {
        let now = self.clock.now();
        // A local store that does not work says so in its health.
        let _ = self.settle(now + self.patience);
        self.note_armed();
        if now >= due.probe {
            due.probe = now + self.settings.health.interval;
            self.probe_local();
            if !self.in_fallback() {
                self.probe_redis();
            }
        }
        if now >= due.forget {
            due.forget = now + FORGET;
            self.later(Change::Forget(self.clock.unix_micros().saturating_sub(REMEMBERED_MICROS)));
        }
        if self.in_fallback() {
            return self.try_to_recover(now);
        }
        if now >= due.compare && !self.in_fallback() {
            due.compare = now + self.settings.health.compare;
            let others_change_it = self.settings.instances == Instances::Many || self.settings.redis.shared_with_stock;
            if !others_change_it && self.condition.lock().incomplete.is_none() {
                // Only Redis itself can lose something, of which a probe sees the most.
                due.compare += self.settings.health.compare * (ALONE - 1);
            }
            // What fails is asked for again: the breaker knows of it.
            let _ = self.compare();
        }
    }

    /// What the health says until the first probe is due.
    pub(super) fn first_look(&self) {
        self.note_armed();
        self.probe_local();
        let cause = self.condition.lock().cause.clone();
        match cause {
            Some(cause) => self.condition.lock().remote_health = StoreHealth::of(&Err::<(), _>(cause), Duration::ZERO),
            None => self.probe_redis(),
        }
    }

    fn probe_local(&self) {
        let (answer, took) = self.timed(|| self.local.ping(&self.step()));
        self.condition.lock().local_health = StoreHealth::of(&answer, took);
    }

    /// Two failures in a row are no accident.
    fn probe_redis(&self) {
        let Some(redis) = self.shared.read().clone() else { return };
        if let Err(error) = self.probe(&*redis).or_else(|_| self.probe(&*redis)) {
            // A Redis that is slow decides better than a local store that cannot. Whoever waits for one that hangs opens the breaker.
            let is_slow = matches!(error.code(), Code::Timeout | Code::OutcomeUnknown);
            if !is_slow || self.decides_when_away() {
                self.open(error);
            }
            return;
        }
        let mut condition = self.condition.lock();
        if condition.link.lost {
            drop(condition);
            self.went_back("it does not know this server any more");
        } else if !self.in_fallback() {
            condition.link.agreed_at = self.clock.unix_micros();
        }
    }

    /// Whether Redis answers and takes writes, in the time that a probe has; and whether it still knows this server, and others.
    fn probe(&self, redis: &dyn SharedStore) -> Result<()> {
        let step = self.step();
        let probe = Call::new(step.request, self.clock.now() + self.settings.health.timeout);
        let (answer, took) = self.timed(|| self.announce(redis, &probe));
        self.condition.lock().remote_health = StoreHealth::of(&answer, took);
        answer
    }

    fn timed<T>(&self, f: impl FnOnce() -> T) -> (T, Duration) {
        let started = self.clock.now();
        let answer = f();
        (answer, self.clock.now().saturating_duration_since(started))
    }

    /// The barrier, then probes, then recovery.
    fn try_to_recover(&self, now: Instant) {
        const MARGIN: Duration = Duration::from_millis(50);
        let barrier = self.condition.lock().opened_at + self.patience + MARGIN;
        if now < barrier || !self.breaker.lock().may_probe(now, self.clock.jitter()) {
            return;
        }
        let reached = self.reach();
        let ok = reached.is_ok();
        self.breaker.lock().probed(ok, self.clock.now());
        let outcome = match reached {
            Ok(redis) if self.breaker.lock().ready() => {
                self.recover(&redis).map(drop).inspect_err(|_| self.counters.not_recovered())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.breaker.lock().probed(false, self.clock.now());
            self.condition.lock().cause = Some(error);
        }
    }

    /// Redis, if it works. It reads the files with password and certificates at each new connection.
    fn reach(&self) -> Result<Arc<dyn SharedStore>> {
        let known = self.shared.read().clone();
        let redis = match known {
            Some(redis) => redis,
            None => {
                let redis = self.connect().inspect_err(|e| {
                    self.condition.lock().remote_health = StoreHealth::of(&Err::<(), _>(e.clone()), Duration::ZERO);
                })?;
                *self.shared.write() = Some(Arc::clone(&redis));
                redis
            }
        };
        self.probe(&*redis)?;
        Ok(redis)
    }
}

/// A thread that does something every now and then.
pub(super) struct Watch {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// The thread that looks at the stores.
    pub(super) fn stores(core: Arc<Core>) -> Result<Watch> {
        let mut due = Due::from(core.clock.now());
        Watch::start("atlock-watch", move || core.tick(&mut due))
    }

    /// Starts a thread that calls `look` again and again until it is stopped.
    pub(super) fn start(name: &str, mut look: impl FnMut() + Send + 'static) -> Result<Watch> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let for_thread = Arc::clone(&stop);
        let run = move || {
            let (stopped, changed) = &*for_thread;
            let mut stopped = stopped.lock();
            while !*stopped {
                parking_lot::MutexGuard::unlocked(&mut stopped, || {
                    // A panic must not end the watch: the next look may go well.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut look));
                });
                if !*stopped {
                    changed.wait_for(&mut stopped, TICK);
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|e| Error::new(Code::Internal, format!("the thread {name} cannot be started: {e}")))?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

/// Ends the thread, after the look under way.
impl Drop for Watch {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        // It catches its panics.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

//! Who decides: Redis while the breaker is closed, the local store otherwise (*fallback*).
//!
//! Invariants:
//! - Who decides here holds the gate for reading, and Redis decides again only once the gate was held for writing: nobody decides
//!   here and there at once.
//! - A question that began before Redis decided again says nothing of Redis now: it opens no breaker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::breaker::{Breaker, Outcome, State};
use super::status::{Fallbacks, Recovery};
use crate::clock::Clock;
use crate::config;
use crate::error::{Code, Error};

/// Who decides, and since when. Safe from any thread.
pub(super) struct Authority {
    clock: Arc<dyn Clock>,
    gate: RwLock<()>,
    /// Whether the local store decides.
    fallback: AtomicBool,
    breaker: Mutex<Breaker>,
    last_change: Mutex<LastChange>,
}

/// The last change of who decides.
struct LastChange {
    /// Why Redis is not asked, while it is not.
    cause: Option<Error>,
    /// When the last fallback began, or this process: nothing was sent to Redis for a caller after it.
    fallback_began: Instant,
    /// When Redis began to decide again.
    fallback_ended: Instant,
    /// The later of the two, microseconds since 1970.
    unix_micros: u64,
    fallbacks: Fallbacks,
}

/// Who decides and since when, for reports.
pub(super) struct Summary {
    pub cause: Option<Error>,
    pub since: u64,
    pub fallbacks: Fallbacks,
}

impl Authority {
    pub(super) fn new(settings: &config::Breaker, clock: Arc<dyn Clock>) -> Authority {
        let now = clock.now();
        let last_change = LastChange {
            cause: None,
            fallback_began: now,
            fallback_ended: now,
            unix_micros: clock.unix_micros(),
            fallbacks: Fallbacks::default(),
        };
        Authority {
            clock,
            gate: RwLock::new(()),
            fallback: AtomicBool::new(false),
            breaker: Mutex::new(Breaker::new(settings)),
            last_change: Mutex::new(last_change),
        }
    }

    /// Whether the local store decides.
    pub(super) fn in_fallback(&self) -> bool {
        self.fallback.load(Ordering::SeqCst)
    }

    /// The gate of those who decide here; `None` if it was closed until the deadline.
    pub(super) fn enter(&self, deadline: Instant) -> Option<RwLockReadGuard<'_, ()>> {
        self.gate.try_read_until(deadline)
    }

    /// Keeps everybody from deciding here.
    pub(super) fn close_gate(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write()
    }

    /// The breaker opens, and from now on the local store decides. `begins` runs if Redis decided until now, before anybody decides
    /// here. Returns whether it ran.
    pub(super) fn begin_fallback(&self, cause: Error, begins: impl FnOnce()) -> bool {
        let now = self.clock.now();
        self.breaker.lock().trip(now);
        self.began(cause, now, begins)
    }

    fn began(&self, cause: Error, now: Instant, begins: impl FnOnce()) -> bool {
        let mut last_change = self.last_change.lock();
        let is_new = !self.in_fallback();
        if is_new {
            begins();
            last_change.unix_micros = self.clock.unix_micros();
            last_change.fallback_began = now;
            let at = last_change.unix_micros;
            last_change.fallbacks.begin(at, &cause);
            self.fallback.store(true, Ordering::SeqCst);
        }
        last_change.cause = Some(cause);
        is_new
    }

    /// Redis decides again. The caller has closed the gate.
    pub(super) fn end_fallback(&self) {
        let now = self.clock.now();
        self.breaker.lock().close(now);
        let mut last_change = self.last_change.lock();
        last_change.cause = None;
        last_change.unix_micros = self.clock.unix_micros();
        last_change.fallback_ended = now;
        self.fallback.store(false, Ordering::SeqCst);
    }

    /// Writes down what the recovery did that ended the last fallback.
    pub(super) fn recovered(&self, done: &Recovery) {
        let mut last_change = self.last_change.lock();
        let until = last_change.unix_micros;
        last_change.fallbacks.end(until, done);
    }

    /// Tells the breaker how a question ended that took from `started` until now; `error` is what a fallback that begins now says.
    /// `begins` as in [`Authority::begin_fallback`].
    pub(super) fn record(&self, outcome: Outcome, started: Instant, error: Option<&Error>, begins: impl FnOnce()) -> bool {
        let now = self.clock.now();
        if started < self.last_change.lock().fallback_ended {
            return false;
        }
        if self.breaker.lock().record(outcome, now) != Some(State::Open) {
            return false;
        }
        let took = now.saturating_duration_since(started);
        let slow = || Error::new(Code::Timeout, format!("Redis answers too slowly: {} ms", took.as_millis()));
        self.began(error.cloned().unwrap_or_else(slow), now, begins)
    }

    /// Whether Redis may be probed: no change that was sent before the fallback can still be executed, and the breaker allows it.
    pub(super) fn may_probe(&self, now: Instant, longest_change: Duration) -> bool {
        let barrier = self.last_change.lock().fallback_began + longest_change;
        now >= barrier && self.breaker.lock().may_probe(now, self.clock.jitter())
    }

    /// A probe ended. Returns whether there were enough good ones for a recovery.
    pub(super) fn probed(&self, ok: bool) -> bool {
        let mut breaker = self.breaker.lock();
        breaker.probed(ok, self.clock.now());
        breaker.ready()
    }

    /// Why Redis is still not asked.
    pub(super) fn set_cause(&self, cause: Error) {
        self.last_change.lock().cause = Some(cause);
    }

    /// Why Redis is not asked.
    pub(super) fn cause(&self) -> Option<Error> {
        self.last_change.lock().cause.clone()
    }

    pub(super) fn summary(&self) -> Summary {
        let last_change = self.last_change.lock();
        Summary { cause: last_change.cause.clone(), since: last_change.unix_micros, fallbacks: last_change.fallbacks.clone() }
    }

    /// The breaker as it is now.
    pub(super) fn breaker(&self) -> Breaker {
        self.breaker.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::sync::explore::explore;
    use crate::sync::tasks::give_way;

    /// In every order: who decides here does so before Redis decides again, or hears that it does; and a recovery waits for no other.
    #[test]
    fn nobody_decides_here_once_redis_does() {
        let orders = explore(
            |tasks, clock| {
                let authority = Arc::new(Authority::new(&config::Breaker::default(), Arc::clone(clock) as Arc<dyn Clock>));
                authority.begin_fallback(Error::new(Code::Unreachable, "gone"), || {});
                let events = Rc::new(RefCell::new(Vec::new()));
                for _ in 0..2 {
                    let (authority, events, clock) = (Arc::clone(&authority), Rc::clone(&events), Arc::clone(clock));
                    tasks.start(0, "decides", move || {
                        let gate = authority.enter(clock.now() + Duration::from_secs(1)).expect("is opened in time");
                        if authority.in_fallback() {
                            give_way();
                            events.borrow_mut().push("here");
                        }
                        drop(gate);
                    });
                }
                let told = Rc::clone(&events);
                tasks.start(0, "recovers", move || {
                    let gate = authority.close_gate();
                    give_way();
                    authority.end_fallback();
                    told.borrow_mut().push("Redis");
                    drop(gate);
                });
                events
            },
            |events| assert_eq!(events.borrow().last(), Some(&"Redis"), "{events:?}"),
        );
        assert!(orders > 100, "{orders}");
    }

    /// Of two who see Redis fail, one begins the fallback.
    #[test]
    fn a_fallback_begins_once() {
        explore(
            |tasks, clock| {
                let authority = Arc::new(Authority::new(&config::Breaker::default(), Arc::clone(clock) as Arc<dyn Clock>));
                let begun = Rc::new(RefCell::new(0));
                for _ in 0..2 {
                    let (authority, begun) = (Arc::clone(&authority), Rc::clone(&begun));
                    tasks.start(0, "sees", move || {
                        let counts = || *begun.borrow_mut() += 1;
                        authority.begin_fallback(Error::new(Code::Unreachable, "gone"), counts);
                        assert!(authority.in_fallback());
                    });
                }
                begun
            },
            |begun| assert_eq!(*begun.borrow(), 1),
        );
    }
}

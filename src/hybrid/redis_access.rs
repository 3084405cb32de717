//! The way to Redis: the connection, the calls that this server makes by itself, and fencing tokens.
//!
//! Invariants:
//! - **Whose time it is.** A call's time is divided: Redis is asked until its part is over, and the local store has a part of its own
//!   (`reserve`). So neither is blamed, or left out, for the time that the other took.
//! - **Whose clock it is.** Fencing tokens are times by Redis's clock, which all servers of one Redis share, as far as this one knows
//!   it. Each token of this server is larger than those before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sync::RwLock;

use super::arming::Arming;
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::store::contract::local::KeyState;
use crate::store::contract::shared::SharedStore;

/// Connects to Redis, under this server's name.
pub(super) type Connect = Box<dyn Fn(&str) -> Result<Arc<dyn SharedStore>> + Send + Sync>;

/// Redis, if it was reached. Safe from any thread.
pub(super) struct RedisAccess {
    clock: Arc<dyn Clock>,
    arming: Arc<Arming>,
    connect: Connect,
    store: RwLock<Option<Arc<dyn SharedStore>>>,
    /// Longest time that one question takes (`redis.timeouts.operation`).
    pub timeout: Duration,
    /// The part of a call's time that is the local store's.
    reserve: Duration,
    /// This process, in the request ids of its own steps: they never come again, unlike the server's name.
    process: String,
    steps: AtomicU64,
    last_token: AtomicU64,
}

impl RedisAccess {
    pub(super) fn new(
        connect: Connect,
        arming: Arc<Arming>,
        clock: Arc<dyn Clock>,
        process: &str,
        timeout: Duration,
        reserve: Duration,
    ) -> RedisAccess {
        RedisAccess {
            clock,
            arming,
            connect,
            store: RwLock::new(None),
            timeout,
            reserve,
            process: process.to_owned(),
            steps: AtomicU64::new(0),
            last_token: AtomicU64::new(0),
        }
    }

    /// Redis as it was reached last; `None` if it never was, or after the close.
    pub(super) fn current(&self) -> Option<Arc<dyn SharedStore>> {
        self.store.read().clone()
    }

    /// A new connection.
    pub(super) fn connect(&self) -> Result<Arc<dyn SharedStore>> {
        (self.connect)(&self.arming.server_name())
    }

    /// This connection is the one from now on; `None` at the close. Returns the one before.
    pub(super) fn replace(&self, store: Option<Arc<dyn SharedStore>>) -> Option<Arc<dyn SharedStore>> {
        std::mem::replace(&mut *self.store.write(), store)
    }

    /// A call of a step that this server makes by itself.
    pub(super) fn step(&self) -> Call {
        self.step_until(self.soon())
    }

    /// The same with another deadline.
    pub(super) fn step_until(&self, deadline: Instant) -> Call {
        let number = self.steps.fetch_add(1, Ordering::Relaxed);
        Call::new(RequestId::from_text(format!("{}s{number:x}", self.process)), deadline)
    }

    /// The deadline of a step that begins now.
    pub(super) fn soon(&self) -> Instant {
        self.clock.now() + self.timeout
    }

    /// Until when Redis is asked in a call that asks it now. The rest is the local store's; but who waited for others' changes has
    /// time for Redis all the same.
    pub(super) fn until(&self, call: &Call) -> Instant {
        let now = self.clock.now();
        let until = call.deadline.checked_sub(self.reserve).filter(|until| *until > now);
        until.unwrap_or_else(|| call.deadline.min(now + self.timeout))
    }

    /// The same call, with the time that a change has.
    pub(super) fn within_change(&self, call: &Call) -> Call {
        let mut within = call.clone();
        within.deadline = call.deadline.min(self.clock.now() + self.timeout + self.reserve);
        within
    }

    /// What Redis's clock shows, as far as is known.
    pub(super) fn micros(&self) -> u64 {
        match self.current() {
            Some(redis) => redis.clock_micros(),
            None => self.clock.unix_micros().saturating_add_signed(self.arming.record().clock_ahead),
        }
    }

    /// A fencing token, larger than those before, and than the key's last.
    pub(super) fn next_token_of(&self, key: &KeyState) -> FencingToken {
        self.token_was_given(key.last_token());
        self.next_token()
    }

    /// The largest token that was given.
    pub(super) fn last_token(&self) -> FencingToken {
        FencingToken::new(self.last_token.load(Ordering::Relaxed))
    }

    /// Later tokens are larger than this one.
    pub(super) fn token_was_given(&self, token: FencingToken) {
        self.last_token.fetch_max(token.get(), Ordering::Relaxed);
    }

    /// A fencing token, larger than those before.
    pub(super) fn next_token(&self) -> FencingToken {
        let now = self.micros();
        let next = |last: u64| Some((last + 1).max(now));
        let last = self.last_token.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        FencingToken::new(last.map_or(now, |last| (last + 1).max(now)))
    }
}

/// In microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

//! Time and randomness, injected so that tests can decide both.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::error::{Code, Error, Result};

/// Where time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Monotonic time, for deadlines.
    fn now(&self) -> Instant;
    /// Wall clock, microseconds since 1970, for fencing tokens.
    fn unix_micros(&self) -> u64;
    /// Waits for so long.
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
    /// A number from 0 to 1, so that several servers do not do the same at the same moments.
    fn jitter(&self) -> f64 {
        getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_micros(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Names one change for good, so that a store recognises a retry: 16 hexadecimal digits of this instance, 16 of the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// A request id with this text; for tests and for replaying a journal.
    pub fn from_text(text: impl Into<String>) -> RequestId {
        RequestId(text.into())
    }

    /// The id of a further change that belongs to this one.
    pub fn derived(&self, suffix: &str) -> RequestId {
        RequestId(format!("{}-{suffix}", self.0))
    }

    /// Its text: ASCII, without spaces or commas.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One call of an operation: who it is, and how long it may take.
#[derive(Clone, Debug)]
pub struct Call {
    /// Names the change that this call makes, if it makes one.
    pub request: RequestId,
    /// When the caller must have an answer.
    pub deadline: Instant,
    /// When this change was first sent, if it was sent before and the answer was lost.
    pub lost_since: Option<Instant>,
    answered_by: Cell<Option<AnsweredBy>>,
}

/// Which store answered a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AnsweredBy {
    /// The legacy store, in strict mode.
    Legacy,
    /// Redis.
    Enhanced,
    /// The local store in Redis's place, in hybrid mode.
    Fallback,
}

impl AnsweredBy {
    /// `legacy`, `enhanced` or `fallback`.
    pub fn name(self) -> &'static str {
        match self {
            AnsweredBy::Legacy => "legacy",
            AnsweredBy::Enhanced => "enhanced",
            AnsweredBy::Fallback => "fallback",
        }
    }
}

/// Makes [`Call`]s: unique request ids, deadlines from the clock. Safe from any thread.
#[derive(Debug)]
pub struct Calls {
    clock: Arc<dyn Clock>,
    instance: u64,
    next: AtomicU64,
}

impl Calls {
    /// Calls of a new instance with a random identity.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Calls> {
        let instance =
            getrandom::u64().map_err(|e| Error::new(Code::Internal, format!("the system gives no random numbers: {e}")))?;
        Ok(Calls { clock, instance, next: AtomicU64::new(1) })
    }

    /// The instance's identity: 16 hexadecimal digits.
    pub fn instance(&self) -> String {
        format!("{:016x}", self.instance)
    }

    /// A call that must be answered within `timeout`.
    pub fn within(&self, timeout: Duration) -> Call {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Call::new(RequestId(format!("{:016x}{number:016x}", self.instance)), self.clock.now() + timeout)
    }
}

impl Call {
    /// A call with this request id, to be answered by `deadline`.
    pub fn new(request: RequestId, deadline: Instant) -> Call {
        Call { request, deadline, lost_since: None, answered_by: Cell::new(None) }
    }

    /// Which store answered it, where the mode has several; `None` for the mode's only one.
    pub fn answered_by(&self) -> Option<AnsweredBy> {
        self.answered_by.get()
    }

    /// Says which store answered it.
    pub fn answered(&self, by: AnsweredBy) {
        self.answered_by.set(Some(by));
    }

    /// Time left until the deadline; zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

//! One call of an operation: its request id, how long it may take, which store answered.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::error::{Code, Error, Result};

/// Names one change for good, so that a store recognises a retry: 16 hexadecimal digits of the process, then 16 of a caller's change,
/// or `s` and the number of a step that the library makes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// A request id with this text, which no other change of any process has: ASCII, without spaces or commas.
    pub fn from_text(text: impl Into<String>) -> RequestId {
        RequestId(text.into())
    }

    /// The id of a further change that belongs to this one.
    pub fn derived(&self, suffix: &str) -> RequestId {
        RequestId(format!("{}-{suffix}", self.0))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One call of an operation: its request id, and how long it may take.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnsweredBy {
    /// Strict mode's store; in hybrid mode the local store where Redis is not asked at all (lock info, the import of the copy).
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

    /// Calls of an instance whose identity is this number.
    #[cfg(test)]
    pub(crate) fn of_process(instance: u64, clock: Arc<dyn Clock>) -> Calls {
        Calls { clock, instance, next: AtomicU64::new(1) }
    }

    /// The instance's identity: 16 hexadecimal digits.
    pub fn instance(&self) -> String {
        format!("{:016x}", self.instance)
    }

    /// A call that must be answered within `timeout`.
    pub fn within(&self, timeout: Duration) -> Call {
        self.until(self.clock.now() + timeout)
    }

    /// A call that must be answered by then.
    pub fn until(&self, deadline: Instant) -> Call {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Call::new(RequestId(format!("{:016x}{number:016x}", self.instance)), deadline)
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

    /// Time left until the deadline from this moment on; zero when it has passed.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }
}

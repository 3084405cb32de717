//! What an operator sees of hybrid mode: the shapes of it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::domain::lock::ProjectLock;
use crate::error::Error;
use crate::health::StoreHealth;
use crate::store::contract::local::Conflict;

/// What a recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// When it began, microseconds since 1970.
    pub at: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// Keys that Redis took from the local store, because they were decided here.
    pub pushed: u64,
    /// Keys that Redis had lost and got back.
    pub restored: u64,
    /// Keys that the local store took from Redis.
    pub adopted: u64,
    /// Keys that both had granted.
    pub conflicts: u64,
    /// Locks among the adopted that another server took.
    #[serde(skip)]
    pub taken: u64,
}

impl std::fmt::Display for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Recovery { at: _, taken: _, duration_ms, pushed, restored, adopted, conflicts } = self;
        write!(
            f,
            "{pushed} pushed to Redis, {restored} restored there, {adopted} adopted from it, {conflicts} in conflict; {duration_ms} ms"
        )
    }
}

/// A time in which the local store decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fallback {
    /// When it began, microseconds since 1970.
    pub since: u64,
    /// When it ended; absent if it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Why it began.
    pub cause: String,
    /// What bringing the stores together did at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
}

/// How many of them are remembered: the newest.
const MOST_FALLBACKS: usize = 50;

/// The times in which the local store decided since the start, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fallbacks(VecDeque<Fallback>);

impl Fallbacks {
    /// One begins.
    pub(super) fn begin(&mut self, since: u64, cause: &Error) {
        if self.0.len() == MOST_FALLBACKS {
            self.0.pop_front();
        }
        self.0.push_back(Fallback { since, until: None, cause: cause.message().to_owned(), recovery: None });
    }

    /// It ended.
    pub(super) fn end(&mut self, until: u64, recovery: &Recovery) {
        if let Some(last) = self.0.back_mut().filter(|last| last.until.is_none()) {
            last.until = Some(until);
            last.recovery = Some(recovery.clone());
        }
    }
}

/// A conflict, without the values: they hold clone URLs with tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConflictReport {
    /// The lock's key.
    pub key: String,
    /// Number of the pull whose lock is overruled; absent for a command's lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pull: Option<i64>,
    /// Number of the pull that holds it in Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_pull: Option<i64>,
    /// When it was found, microseconds since 1970.
    pub at: u64,
}

impl ConflictReport {
    /// Of this conflict.
    pub(crate) fn of(conflict: &Conflict) -> ConflictReport {
        let pull = |value: &[u8]| ProjectLock::parse(value).ok().map(|lock| lock.pull().num);
        ConflictReport {
            key: conflict.key.name().to_owned(),
            local_pull: pull(&conflict.local.value),
            redis_pull: pull(&conflict.remote.value),
            at: conflict.at,
        }
    }

    /// The warning of it, for an operator. (The page finds a conflict's warning by its first words.)
    pub(crate) fn warning(&self) -> String {
        format!("the lock {:?} was granted twice; see conflicts in the status", self.key)
    }
}

/// The state of hybrid mode.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Whether the local store decides.
    #[serde(skip)]
    pub fallback_active: bool,
    /// The breaker, as the service's status tells.
    #[serde(skip)]
    pub circuit_state: String,
    /// Why Redis is not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Since when it is so, microseconds since 1970.
    pub since: u64,
    /// When Redis is probed next, microseconds since 1970; absent unless the breaker is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_probe: Option<u64>,
    /// Whether the local store may grant while Redis is away.
    pub armed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unarmed_because: Option<String>,
    /// Unsynced keys: they were decided here, and Redis does not know of that yet. The name is the original specification's.
    pub journal_length: usize,
    /// Locks that both stores granted.
    pub conflicts: Vec<ConflictReport>,
    /// The last time that both stores were brought together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_recovery: Option<Recovery>,
    /// When the local store decided, and why.
    pub fallbacks: Fallbacks,
    /// Whether a change waits for the local store's disk while Redis decides: without that disk, none is made.
    #[serde(skip)]
    pub needs_local: bool,
    /// Redis.
    #[serde(skip)]
    pub enhanced: StoreHealth,
    /// The local store.
    #[serde(skip)]
    pub legacy: StoreHealth,
    /// The host store; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_store: Option<HostStoreReport>,
}

/// What is known of the host store, which is kept as a copy of the local store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostStoreReport {
    /// Whether it is kept up to date. If not, it is as it was before this start.
    pub followed: bool,
    /// Why it is not followed, or what it answered last instead of taking what it lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why its content was not believed at the start, but replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_believed: Option<String>,
    /// Entries that it refuses: it lacks them.
    pub refused: usize,
    /// Locks that were released there before the start, in strict mode or by a stock server.
    pub released_before: usize,
    /// Locks that were taken there before the start.
    pub taken_before: usize,
}

/// What was seen last of the stores, and of bringing them together.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub redis: StoreHealth,
    pub local: StoreHealth,
    pub last_recovery: Option<Recovery>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn only_the_newest_fallbacks_are_remembered_and_each_ends_once() {
        let mut fallbacks = Fallbacks::default();
        let did = |pushed| Recovery { pushed, ..Recovery::default() };
        // The start: nothing to end.
        fallbacks.end(1, &did(1));
        assert_eq!(fallbacks, Fallbacks::default());
        for since in 0..MOST_FALLBACKS as u64 + 5 {
            fallbacks.begin(since * 10, &Error::new(Code::Unreachable, "gone"));
            fallbacks.end(since * 10 + 5, &did(since));
            fallbacks.end(since * 10 + 6, &did(99));
        }
        let all = Vec::from(fallbacks.0);
        assert_eq!(all.len(), MOST_FALLBACKS);
        assert_eq!(all[0], Fallback { since: 50, until: Some(55), cause: "gone".to_owned(), recovery: Some(did(5)) });
        assert_eq!(all[MOST_FALLBACKS - 1].until, Some((MOST_FALLBACKS as u64 + 4) * 10 + 5));
    }
}

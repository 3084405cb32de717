//! What whoever asks is told: whether it has the lock, and its place in the queue.

use std::ops::Deref;

use serde::{Serialize, Serializer};

use crate::domain::token::FencingToken;
use crate::queue::{PullId, Queue, Rules, Waiter};

/// The place of a pull in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// 1 is next; 0 where the queue is full, or cannot be used.
    pub position: usize,
    /// Who is before it, the next one first.
    pub ahead: Vec<PullId>,
    /// Since when it waits, microseconds since 1970.
    pub since: u64,
    /// Why it has to: `held`, `reserved` for the first of `ahead`, `set` where another lock of its set is not free, `full`.
    pub why: &'static str,
    /// What of its set is not free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocker: Option<Blocker>,
    /// Whether this may be out of date: the local store says so in Redis's place, or no store could be asked any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// A queue, and whether the local store had it in Redis's place.
#[derive(Debug)]
pub(super) struct ReadQueue {
    pub queue: Queue,
    pub stale: bool,
}

impl Deref for ReadQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

/// A lock of a set that is not free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// Its key.
    pub key: String,
    /// Who holds it, or for whom it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<PullId>,
}

impl Waiting {
    /// The place of a pull that waits for a key; `None` if it does not.
    pub(super) fn of(queue: &ReadQueue, pull: &PullId, key: &str, why: &'static str, rules: &Rules) -> Option<Waiting> {
        let ReadQueue { queue, stale } = queue;
        let position = queue.position(pull, key, rules)?;
        let ahead = queue.ahead(pull, key, rules).into_iter().map(|ticket| ticket.pull().clone()).collect();
        Some(Waiting { position, ahead, since: queue.ticket(pull)?.since, why, blocker: None, stale: *stale })
    }

    /// Nobody can join.
    pub(super) fn full() -> Waiting {
        Waiting { position: 0, ahead: Vec::new(), since: 0, why: "full", blocker: None, stale: false }
    }
}

/// A pull that waits for nothing any more, because three times it did not take what was kept for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Full name of the repository.
    pub repo: String,
    /// The pull.
    #[serde(flatten, serialize_with = "shown")]
    pub waiter: Waiter,
    /// The locks that it waited for.
    pub keys: Vec<String>,
}

/// A pull as it is told.
pub(super) fn shown<S: Serializer>(waiter: &Waiter, to: S) -> std::result::Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown<'a> {
        pull: &'a PullId,
        url: &'a str,
        user: &'a str,
        author: &'a str,
        host_type: i64,
        #[serde(skip_serializing_if = "str::is_empty")]
        recipe: &'a str,
    }
    let Waiter { pull, user, url, host_type, author, recipe } = waiter;
    Shown { pull, url, user, author, host_type: *host_type, recipe }.serialize(to)
}

/// How a try in a run ended.
#[derive(Debug)]
pub struct InRun {
    /// Whether the pull has the lock.
    pub acquired: bool,
    /// Its fencing token; 0 if it is not known, or another pull has the lock.
    pub token: FencingToken,
    /// The lock that is there, or that the pull would have for which it is kept.
    pub value: Vec<u8>,
    /// The pull's place, if it was refused and has one.
    pub waiting: Option<Waiting>,
}

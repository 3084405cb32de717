//! A ticket: one waiting pull, and the keys that it wants.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Error, Result};

/// A pull request of the queue's repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PullId {
    /// Its Git host; empty: unknown, which is the same as any.
    pub host: String,
    /// Its number.
    pub num: i64,
}

impl PullId {
    /// Whether both may be one pull.
    pub fn is(&self, other: &PullId) -> bool {
        let any_host = self.host.is_empty() || other.host.is_empty();
        self.num == other.num && (any_host || self.host.eq_ignore_ascii_case(&other.host))
    }
}

/// How much earlier than its arrival a ticket counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// One `aging` later.
    Low = 0,
    /// As it arrived.
    #[default]
    Normal = 1,
    /// One `aging` earlier.
    High = 2,
    /// Three `aging` earlier.
    Critical = 3,
}

impl Priority {
    /// How many times `aging` a ticket counts as earlier than it arrived.
    pub(super) fn head_start(self) -> i128 {
        match self {
            Priority::Low => -1,
            Priority::Normal => 0,
            Priority::High => 1,
            Priority::Critical => 3,
        }
    }
}

impl TryFrom<i64> for Priority {
    type Error = Error;

    fn try_from(number: i64) -> Result<Priority> {
        match number {
            0 => Ok(Priority::Low),
            1 => Ok(Priority::Normal),
            2 => Ok(Priority::High),
            3 => Ok(Priority::Critical),
            _ => Err(Error::new(
                Code::InvalidArgument,
                format!("the priority {number} is none: give 0 (low), 1 (normal), 2 (high) or 3 (critical)"),
            )),
        }
    }
}

/// Who waits: what of a pull is shown, and what a lock of its would be made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Waiter {
    /// The pull.
    pub pull: PullId,
    /// Who asked.
    pub user: String,
    /// The pull's page.
    pub url: String,
    /// The kind of its Git host, as Atlantis numbers them.
    pub host_type: i64,
    /// Who wrote the pull.
    pub author: String,
    /// What a server needs to plan the pull again, in words of that server's; empty: nobody plans the pull by itself.
    pub recipe: String,
}

/// How far a ticket is with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// Others are first, or another pull holds the key.
    Waiting,
    /// The key is kept free for this ticket.
    Reserved {
        /// Since then, in microseconds; 0 where a version wrote that which did not say so.
        since: u64,
        /// Until then, in microseconds; `u64::MAX`: until the whole set is there.
        until: u64,
    },
}

/// The end of a reservation that stands until its ticket's set is complete.
pub(crate) const COLLECTED: u64 = u64::MAX;

impl Want {
    pub(super) fn is_reserved(self) -> bool {
        matches!(self, Want::Reserved { .. })
    }

    pub(super) fn is_collected(self) -> bool {
        matches!(self, Want::Reserved { until: COLLECTED, .. })
    }

    /// A reservation that ends.
    pub(crate) fn is_turn(self) -> bool {
        self.is_reserved() && !self.is_collected()
    }
}

/// The SHA-256 of a lock's value, in JSON as hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of this value.
    pub fn of(value: &[u8]) -> Digest {
        Digest(Sha256::digest(value).into())
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        use std::fmt::Write as _;
        digest.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Digest, &'static str> {
        const WRONG: &str = "not 64 hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| WRONG)?;
        }
        Ok(Digest(bytes))
    }
}

/// A set on its way: written before the first of its locks is granted, so that whoever finds the rest of a crash can take back
/// exactly what this set was granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acquiring {
    /// The keys, with the value that each lock gets.
    pub keys: BTreeMap<String, Digest>,
    /// Until then the caller is at work; after that, it is gone.
    pub until: u64,
    /// The caller was taken for gone: whoever reads this takes back what was granted, and the caller does not have the set.
    pub given_up: bool,
}

/// One waiting pull.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Who waits.
    pub waiter: Waiter,
    /// Tells tickets apart, and those of one moment in order.
    pub seq: u64,
    /// When it joined, in microseconds: never before a ticket that was there.
    pub since: u64,
    /// Its class.
    pub priority: Priority,
    /// Whether it waits for all of its keys at once.
    pub whole: bool,
    /// What it wants.
    pub wants: BTreeMap<String, Want>,
    /// How many of its reservations ended unused.
    pub missed: u32,
    /// The set that is being granted to it.
    pub acquiring: Option<Acquiring>,
    /// When the last set that was on its way to it would have been over: a document that still has that one on its way is old.
    pub set_ended: u64,
    /// Whether only a blocked caller waits, and not the pull by Atlantis.
    pub calls: bool,
    /// Until then, microseconds, some server plans this pull or is about to: others leave it alone.
    pub claimed_until: u64,
    /// Keys that are not reserved to it for now: pulls would wait in a circle ([`super::cycle`]).
    pub yields: BTreeSet<String>,
    /// The circles of which people were told on its pull.
    pub told: BTreeSet<String>,
}

impl Ticket {
    /// Its pull.
    pub fn pull(&self) -> &PullId {
        &self.waiter.pull
    }

    /// How far it is with this key, if it wants the key.
    pub fn want(&self, key: &str) -> Option<Want> {
        self.wants.get(key).copied()
    }

    /// Whether it may take this key now, as far as the order goes.
    pub fn has_reserved(&self, key: &str) -> bool {
        self.want(key).is_some_and(Want::is_reserved)
    }

    /// Until when this key is kept for it, in microseconds; `u64::MAX`: until its whole set is free.
    pub fn reserved_until(&self, key: &str) -> Option<u64> {
        match self.want(key)? {
            Want::Reserved { until, .. } => Some(until),
            Want::Waiting => None,
        }
    }

    /// Gives back what is reserved to it, and says which keys that were.
    pub(super) fn withdraw(&mut self) -> Vec<String> {
        let reserved = self.wants.iter_mut().filter(|(_, want)| want.is_reserved());
        reserved
            .map(|(key, want)| {
                *want = Want::Waiting;
                key.clone()
            })
            .collect()
    }
}

//! What a lock store does, whatever it is made of.
//!
//! Invariants that every store keeps (the conformance tests in `tests/` run over each of them):
//! - [`Store::grant`] never replaces a lock that exists, whatever its value. One key has one holder (promise P1).
//! - A grant or release is durable, to the store's own measure, before the call returns (P2).
//! - An operation touches exactly the entries that it names (P3).
//! - A value comes back byte for byte as it was given (P4).
//! - Every call returns by its deadline (P5).
//! - A value that is not valid JSON is never embedded in a [`Listing`]; it is reported beside the others (P3).

use std::fmt;

use serde::Serialize;

use crate::call::Call;
use crate::domain::json::parse_json;
use crate::domain::key::{Fields, Target};
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::queue::{self, Gate, PullId};
use crate::sealing::MasterKeys;

pub mod contract;
pub mod host;
pub mod moved;
pub mod read_only;
pub mod redis;
pub mod reference;
pub mod sled;

mod listing;

pub use listing::{Listing, Span, Unreadable};

/// Names a lock: a project's, or the global one of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockKey<'a> {
    /// A project's lock, by its key (`crate::domain::key`).
    Project(&'a str),
    /// The global lock of a command, by the command's name, for example `apply`.
    Command(&'a str),
}

impl fmt::Display for LockKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockKey::Project(key) => write!(f, "lock {key:?}"),
            LockKey::Command(name) => write!(f, "command lock {name:?}"),
        }
    }
}

/// A lock to take.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Which lock.
    pub key: LockKey<'a>,
    /// What the value says, which the caller has parsed; `None` for a command lock.
    pub lock: Option<&'a ProjectLock<'a>>,
    /// The JSON to store: valid JSON, checked by the caller. A store keeps it, and reads nothing in it.
    pub value: &'a [u8],
    /// Whether a gate at the key counts ([`crate::queue`]): a free lock that is kept for another pull is then [`Granted::NotYet`].
    pub in_order: bool,
}

impl<'a> Grant<'a> {
    /// The pull that takes it; `None` for a command lock.
    pub fn pull(&self) -> Option<PullRef<'a>> {
        self.lock.map(ProjectLock::pull)
    }

    /// The queue whose gates it obeys; `None` if it obeys none.
    pub fn queue_key(&self) -> Option<DocumentKey<'a>> {
        self.pull().filter(|_| self.in_order).map(|pull| DocumentKey::Queue(pull.repo))
    }

    /// Whether the key has a gate, by this queue, that lets the caller in; `None` if it keeps the caller out. What cannot be read keeps
    /// nobody out: order only delays, and must not block.
    pub fn is_let_in(&self, queue: Option<&[u8]>) -> Option<bool> {
        match (queue, self.lock, self.key) {
            (Some(queue), Some(lock), LockKey::Project(key)) => queue::lets_in(queue, key, &PullId::of(lock)),
            _ => Some(false),
        }
    }
}

/// The answer to a [`Grant`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// The caller holds the lock.
    Yes {
        /// Fencing token: larger than that of every earlier holder of this key in this store.
        token: FencingToken,
        /// Whether the key had a gate, which let the caller in: somebody waits for it, or waited. Always false without [`Grant::in_order`].
        gated: bool,
    },
    /// Somebody holds it already.
    Held {
        /// The holder's value, byte for byte. Not checked: it may be anything that another program wrote.
        value: Vec<u8>,
    },
    /// Nobody holds it, and it is kept for a pull that waits. Only with [`Grant::in_order`].
    NotYet,
}

/// A lock to release.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// Which lock.
    pub key: LockKey<'a>,
    /// Release it only if its value has exactly these fields.
    pub fields: Option<Fields<'a>>,
    /// Release it only if this pull number holds it.
    pub pull_num: Option<i64>,
    /// Release it only if these are its bytes. A grant's time is in them, so that they name one grant.
    pub value: Option<&'a [u8]>,
}

impl<'a> Release<'a> {
    /// Releases the lock that `target` means.
    pub fn of(target: &'a Target<'a>) -> Release<'a> {
        Release { key: LockKey::Project(target.key()), fields: target.guard(), pull_num: None, value: None }
    }

    /// The same, but only if pull `num` holds it.
    pub fn only_if_held_by(self, num: i64) -> Release<'a> {
        Release { pull_num: Some(num), ..self }
    }

    /// The same, but only if these are the lock's bytes.
    pub fn only_if_it_is(self, value: &'a [u8]) -> Release<'a> {
        Release { value: Some(value), ..self }
    }

    /// Whether a lock with this value is the one to release.
    ///
    /// An error of code `EntryUnreadable` if the value is not what its key says; a command's lock may be any JSON.
    pub fn admits(&self, value: &[u8]) -> Result<bool> {
        if self.value.is_some_and(|meant| meant != value) {
            return Ok(false);
        }
        let unreadable = |e: Error| Error::new(Code::EntryUnreadable, format!("the entry at {} stays as it is: {e}", self.key));
        match self.key {
            LockKey::Command(_) => parse_json::<serde::de::IgnoredAny>(value).map(|_| true).map_err(unreadable),
            LockKey::Project(_) => {
                let lock = ProjectLock::parse(value).map_err(unreadable)?;
                let fields_match = self.fields.is_none_or(|fields| fields == lock.fields());
                let pull_matches = self.pull_num.is_none_or(|num| num == lock.pull().num);
                Ok(fields_match && pull_matches)
            }
        }
    }
}

/// Names a document: JSON that is compared and swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DocumentKey<'a> {
    /// A pull status, by Atlantis's key for it.
    PullStatus(&'a str),
    /// Who waits for the locks of a repository ([`crate::queue`]), by the repository's full name.
    Queue(&'a str),
    /// Which locks nobody is to take for now ([`crate::queue::freeze`]).
    Freezes,
}

impl fmt::Display for DocumentKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocumentKey::PullStatus(key) => write!(f, "pull status {key:?}"),
            DocumentKey::Queue(repo) => write!(f, "queue of {repo:?}"),
            DocumentKey::Freezes => f.write_str("freezes"),
        }
    }
}

/// What a document must be for [`Store::swap_document`] to replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// Anything, or nothing.
    Any,
    /// Nothing.
    Absent,
    /// Exactly these bytes.
    Bytes(&'a [u8]),
}

/// An [`Expected`] that owns its bytes.
#[derive(Clone, Debug)]
pub enum OwnedExpected {
    /// Anything, or nothing.
    Any,
    /// Nothing.
    Absent,
    /// Exactly these bytes.
    Bytes(Vec<u8>),
}

impl From<Expected<'_>> for OwnedExpected {
    fn from(expected: Expected<'_>) -> OwnedExpected {
        match expected {
            Expected::Any => OwnedExpected::Any,
            Expected::Absent => OwnedExpected::Absent,
            Expected::Bytes(bytes) => OwnedExpected::Bytes(bytes.to_vec()),
        }
    }
}

impl OwnedExpected {
    /// The expectation as it was given.
    pub fn borrowed(&self) -> Expected<'_> {
        match self {
            OwnedExpected::Any => Expected::Any,
            OwnedExpected::Absent => Expected::Absent,
            OwnedExpected::Bytes(bytes) => Expected::Bytes(bytes),
        }
    }

    /// How many bytes it holds.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            OwnedExpected::Any | OwnedExpected::Absent => 0,
            OwnedExpected::Bytes(bytes) => bytes.len(),
        }
    }
}

impl Expected<'_> {
    /// Whether `current` is as expected.
    pub fn admits(&self, current: Option<&[u8]>) -> bool {
        match self {
            Expected::Any => true,
            Expected::Absent => current.is_none(),
            Expected::Bytes(bytes) => current == Some(bytes),
        }
    }
}

/// The answer to [`Store::swap_document`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It was replaced.
    Done,
    /// It was not as expected, and was left alone. This is what is there.
    Conflict(Option<Vec<u8>>),
}

/// A value, and the fencing token of who holds it; 0 for a document, and for a lock that a stock server took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The bytes.
    pub value: Vec<u8>,
    /// The token.
    pub token: FencingToken,
}

/// What an operator sees of a lock beside its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockInfo {
    /// The holder's fencing token; `None` for a lock that a stock server took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<FencingToken>,
    /// Which store has the lock.
    pub store: Location,
}

/// Which store has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// The local store alone; in hybrid mode, Redis does not know of it yet.
    Legacy,
    /// Redis alone.
    Enhanced,
    /// Redis, and the local store follows.
    Both,
    /// The local store knows that it was asked of Redis, and waits to hear what became of that.
    Pending,
}

impl LockInfo {
    /// Of this token, if one is known.
    pub fn new(token: FencingToken, store: Location) -> LockInfo {
        LockInfo { token: token.known(), store }
    }
}

/// A store of locks, command locks and pull statuses. Safe from any thread.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Takes a lock if it is free. Never waits for the holder.
    ///
    /// Errors: an error of code `OutcomeUnknown` means that the lock may have been taken; every other one that it was not.
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted>;

    /// Releases a lock and returns its value; `None` if there is none, or if its holder or fields are not those named.
    ///
    /// Errors: `EntryUnreadable` if the value is not a lock's JSON (the lock stays); `OutcomeUnknown` as in [`Store::grant`].
    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>>;

    /// Removes whatever is stored at this key and returns it: an operator's way out for an entry that cannot be read.
    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>>;

    /// The value stored at this key. Not checked, as in [`Granted::Held`].
    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>>;

    /// All project locks, in the order of their keys where the store knows it.
    fn list(&self, call: &Call) -> Result<Listing>;

    /// What is known of a lock; `None` if nothing is known here: there is no such lock, or the store keeps none of this.
    fn lock_info(&self, _key: LockKey<'_>, _call: &Call) -> Result<Option<LockInfo>> {
        Ok(None)
    }

    /// Releases every project lock of exactly this pull and returns them.
    ///
    /// On an error some may have been released already; calling again releases the rest.
    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing>;

    /// The document stored at this key.
    ///
    /// Errors: `HostStore` for a queue or freezes in a host store, which keeps neither.
    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>>;

    /// Replaces (or with `None` deletes) a document if it is as expected: compare-and-swap, atomically. Errors as in [`Store::document`].
    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap>;

    /// The repositories that have a queue, and perhaps some that have none any more.
    fn queues(&self, call: &Call) -> Result<Vec<String>>;

    /// The lock at this key and its fencing token, from the store that decides; the token is 0 if it is not known.
    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>>;

    /// Says what grants in order obey at a key from now on, unless that was said by a later `revision` of the queue; returns whether
    /// somebody holds the lock.
    ///
    /// A store that finds the gate in the queue itself, in the step that grants, has nothing to note.
    fn set_gate(&self, key: &str, revision: u64, gate: &Gate, call: &Call) -> Result<bool>;

    /// The pull status stored at this key.
    fn pull_status(&self, key: &str, call: &Call) -> Result<Option<Vec<u8>>> {
        self.document(DocumentKey::PullStatus(key), call)
    }

    /// [`Store::swap_document`] of a pull status.
    fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        self.swap_document(DocumentKey::PullStatus(key), expected, new, call)
    }

    /// Whether the store answers and could be written.
    fn ping(&self, call: &Call) -> Result<()>;

    /// What an operator should know beside the counters: conditions that endanger a promise. Empty when all is well.
    fn warnings(&self) -> Vec<String>;

    /// Whether these keys open what the store has sealed; without keys, whether nothing is.
    ///
    /// Errors: `EncryptionKey`.
    fn check_keys(&self, _masters: Option<&MasterKeys>) -> Result<()> {
        Ok(())
    }

    /// Stops the store's threads and connections. Later calls answer with an error of code `Closed`.
    fn close(&self) -> Result<()>;
}

//! What a local store does beside answering, so that it can follow Redis and stand in for it: the contract between hybrid mode
//! (`crate::hybrid`) and the store.
//!
//! The store keeps, for each key, what this server believes to hold there now ([`KeyState::value`]), and how that came about
//! ([`SyncState`]). It also remembers which values were there before and must not come back ([`Tombstone`]): a Redis that is
//! restored from an old snapshot has locks that were released since. From both follows what to do when the two differ
//! (`hybrid::resolve`): no log of operations is needed, and what is kept is bounded by the number of keys.
//!
//! Invariants:
//! - What the store changes alone, as strict mode and as hybrid mode's fallback, is [`SyncState::Decided`] in the same group as the
//!   change, once the store follows Redis. So every difference to Redis that this server caused is written down.
//! - Changes are applied in the order in which they were submitted, each list all or nothing.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::token::FencingToken;
use crate::error::Result;
pub use crate::store::Held;
pub use crate::store::contract::redis_record::RedisRecord;
use crate::store::{DocumentKey, LockKey, Store};

/// Names an entry of a store: a lock, a command's lock, a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKey {
    /// A project's lock.
    Project(String),
    /// The global lock of a command.
    Command(String),
    /// A pull status.
    Status(String),
    /// The queue of a repository, by its full name.
    Queue(String),
    /// The freezes; the name is empty.
    Freezes,
}

impl EntryKey {
    /// What it names.
    pub fn named(&self) -> Named<'_> {
        match self {
            EntryKey::Project(key) => Named::Lock(LockKey::Project(key)),
            EntryKey::Command(name) => Named::Lock(LockKey::Command(name)),
            EntryKey::Status(key) => Named::Document(DocumentKey::PullStatus(key)),
            EntryKey::Queue(repo) => Named::Document(DocumentKey::Queue(repo)),
            EntryKey::Freezes => Named::Document(DocumentKey::Freezes),
        }
    }

    /// The lock that it names; `None` for a document.
    pub fn lock(&self) -> Option<LockKey<'_>> {
        match self.named() {
            Named::Lock(lock) => Some(lock),
            Named::Document(_) => None,
        }
    }

    /// Whether a host store keeps such entries: stock has no queue and no freezes.
    pub fn is_stocks(&self) -> bool {
        !matches!(self, EntryKey::Queue(_) | EntryKey::Freezes)
    }

    /// Its text, without its kind.
    pub fn name(&self) -> &str {
        match self {
            EntryKey::Project(name) | EntryKey::Command(name) | EntryKey::Status(name) | EntryKey::Queue(name) => name,
            EntryKey::Freezes => "",
        }
    }
}

/// What an [`EntryKey`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// A lock.
    Lock(LockKey<'a>),
    /// A document.
    Document(DocumentKey<'a>),
}

impl From<LockKey<'_>> for EntryKey {
    fn from(key: LockKey<'_>) -> EntryKey {
        match key {
            LockKey::Project(key) => EntryKey::Project(key.to_owned()),
            LockKey::Command(name) => EntryKey::Command(name.to_owned()),
        }
    }
}

impl From<DocumentKey<'_>> for EntryKey {
    fn from(key: DocumentKey<'_>) -> EntryKey {
        match key {
            DocumentKey::PullStatus(key) => EntryKey::Status(key.to_owned()),
            DocumentKey::Queue(repo) => EntryKey::Queue(repo.to_owned()),
            DocumentKey::Freezes => EntryKey::Freezes,
        }
    }
}

impl std::fmt::Display for EntryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.named() {
            Named::Lock(lock) => lock.fmt(f),
            Named::Document(document) => document.fmt(f),
        }
    }
}

/// How the local store came to believe what it does of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncState {
    /// Redis said so.
    #[default]
    Synced,
    /// It was asked of Redis, whose answer is not known (yet).
    Pending,
    /// The local store decided, in Redis's place.
    Decided,
}

/// A value that was at a key and is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// SHA-256 of the bytes.
    pub digest: [u8; 32],
    /// Its fencing token.
    pub token: FencingToken,
    /// The key's state when it was superseded. Decided: it was granted and given up while Redis was away, so that Redis hardly has it.
    /// Pending: it was asked for, and its token only wished for.
    pub state: SyncState,
}

impl Tombstone {
    /// Of this value.
    pub fn of(held: &Held, state: SyncState) -> Tombstone {
        Tombstone { digest: digest(&held.value), token: held.token, state }
    }

    /// Whether it is this value, held by the same.
    pub fn is(&self, value: &[u8], token: FencingToken) -> bool {
        self.token == token && self.digest == digest(value)
    }
}

/// SHA-256 of a value.
pub fn digest(value: &[u8]) -> [u8; 32] {
    Sha256::digest(value).into()
}

/// What the local store knows of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyState {
    /// What is there now.
    pub value: Option<Held>,
    /// Why it believes so.
    pub state: SyncState,
    /// What must not come back; the newest last, at most `MAX_TOMBSTONES` of each kind.
    pub tombstones: Vec<Tombstone>,
    /// When the state was written, microseconds since 1970 by this machine's clock.
    pub at: u64,
}

impl KeyState {
    /// The largest fencing token that a holder of the key is known to have had; 0 for none. What is only asked for has no holder
    /// yet. What is forgotten of [`KeyState::tombstones`] is always older than what is kept.
    pub fn last_token(&self) -> FencingToken {
        let held = self.value.as_ref().filter(|_| self.state != SyncState::Pending);
        self.tombstones.iter().map(|old| old.token).chain(held.map(|held| held.token)).max().unwrap_or_default()
    }

    /// The same of holders that Redis has had.
    pub fn last_token_in_redis(&self) -> FencingToken {
        let held = self.value.as_ref().filter(|_| self.state == SyncState::Synced);
        let tombstones = self.tombstones.iter().filter(|old| old.state == SyncState::Synced).map(|old| old.token);
        tombstones.chain(held.map(|held| held.token)).max().unwrap_or_default()
    }
}

/// The largest value that a local store keeps, bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 16 << 20;

/// How many values of a key are remembered, of those that Redis had and of those that were only here: the oldest are forgotten.
/// A lock that an older snapshot of Redis brings back is then one more that an operator has to release.
pub(crate) const MAX_TOMBSTONES: usize = 32;

/// Two locks of one key: Redis's, which holds, and one that was granted here while Redis was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The key.
    pub key: EntryKey,
    /// What the local store had.
    pub local: Held,
    /// What Redis had.
    pub remote: Held,
    /// When it was found, microseconds since 1970 by this machine's clock.
    pub at: u64,
}

/// What is remembered of the host store's content: which mark it should bear ([`crate::store::contract::copy::CopyStore::apply`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCopy {
    /// The number in the mark that it was last known to bear; 0 for none.
    pub seq: u64,
    /// Whether it may bear the next one: a change with that mark was begun.
    pub applying: bool,
}

/// A key of which the host store does not have the value yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLacks {
    /// The key.
    pub key: EntryKey,
    /// The value that it should have.
    pub value: Option<Vec<u8>>,
    /// What the host store may have: the [`digest`] of the value that was last copied there, and of the one that is being
    /// copied; `None` for none.
    pub there: Vec<Option<[u8; 32]>>,
}

/// A release by pull that Redis has to learn of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRelease {
    /// Full name of the repository.
    pub repo: String,
    /// Number of the pull.
    pub num: i64,
    /// A fencing token larger than that of any lock which is meant.
    pub up_to: FencingToken,
}

/// A change of what the local store believes.
#[derive(Clone, Debug)]
pub enum Change {
    /// Redis is being asked to make this the value; what is there gets a tombstone.
    Intend(EntryKey, Option<Held>),
    /// What was intended is so, decided here.
    Decide(EntryKey),
    /// This is the value, decided here; what is there gets a tombstone.
    SetHere(EntryKey, Option<Held>),
    /// What was intended is so, by Redis; it gave this token.
    Confirm(EntryKey, FencingToken),
    /// This is the value.
    Set(EntryKey, Option<Held>),
    /// This is the value, by Redis, where the last fencing token given for the key is this. What was here with a token up to
    /// that was released: it gets a tombstone. Of anything else it is not known: Redis may have lost it.
    Adopt(EntryKey, Option<Held>, FencingToken),
    /// Redis holds another lock, and that stays; the local one becomes a [`Conflict`].
    Conflict(EntryKey, Held),
    /// A conflict is over.
    EndConflict(EntryKey),
    /// All locks that this pull took before its release are to be released in Redis, also those that the local store does not know.
    ReleaseLater(PullRelease),
    /// That is done.
    ReleasedPull(PullRelease),
    /// The host store is there, and from now on it is written down where it is behind. The first time, it is behind with nothing.
    CopyBegins,
    /// The host store is about to get the value with this digest; `None` for none.
    Copying(EntryKey, Option<[u8; 32]>),
    /// The host store has the value with this digest now.
    Copied(EntryKey, Option<[u8; 32]>),
    /// What is remembered of the mark that the host store bears. It was made known by [`Change::CopyBegins`] before.
    HostCopy(HostCopy),
    /// What is remembered of Redis. The first makes the store follow it: all that is there is then [`SyncState::Decided`].
    Redis(RedisRecord),
    /// What was released before this time, microseconds since 1970, is forgotten, and so is what is more than the newest
    /// `MOST_RELEASED`; but nothing of these keys, of which changes are under way, however late.
    Forget(u64, BTreeSet<EntryKey>),
}

/// How many released keys are remembered when the store is asked to forget.
pub(crate) const MOST_RELEASED: usize = 20_000;

/// Waits until what was submitted is durable, or until the deadline.
pub struct Ticket(Box<dyn FnOnce(Instant) -> Result<()> + Send>);

impl Ticket {
    /// A ticket that waits by this function.
    pub fn new(wait: impl FnOnce(Instant) -> Result<()> + Send + 'static) -> Ticket {
        Ticket(Box::new(wait))
    }

    /// Waits. Errors: `OutcomeUnknown` if the deadline came first; those of the store.
    pub fn wait(self, deadline: Instant) -> Result<()> {
        (self.0)(deadline)
    }
}

/// A local store that can follow Redis. Safe from any thread.
pub trait LocalStore: Store {
    /// What is known of a key.
    fn local(&self, key: &EntryKey) -> Result<KeyState>;

    /// The keys of the project locks that this pull holds, in order.
    fn held_by(&self, repo: &str, num: i64) -> Result<Vec<EntryKey>>;

    /// Hands changes over, in order; they are durable once the ticket has been waited for, and made if it is dropped. Those of
    /// `first` are made, too, if the ticket is given up at its deadline before the others were begun.
    fn submit(&self, first: Vec<Change>, changes: Vec<Change>, deadline: Instant) -> Result<Ticket>;

    /// Everything that is known: all entries, and all keys whose state is not synced or of which a value is remembered.
    fn everything(&self) -> Result<Vec<(EntryKey, KeyState)>>;

    /// What is remembered of Redis; `None` if the store never followed one.
    fn redis_record(&self) -> Result<Option<RedisRecord>>;

    /// The conflicts that are not over.
    fn conflicts(&self) -> Result<Vec<Conflict>>;

    /// The releases by pull that Redis has to learn of.
    fn pull_releases(&self) -> Result<Vec<PullRelease>>;

    /// Keys of which the host store does not have the value yet, at most so many, in no order.
    fn host_lacks(&self, most: usize) -> Result<Vec<HostLacks>>;

    /// What is remembered of the host store's content; `None` if there never was a host store.
    fn host_copy(&self) -> Result<Option<HostCopy>>;
}

//! What the shared store does beside answering, so that a local store can follow it and, after standing in for it, hand back
//! what it decided: the contract between hybrid mode (`crate::hybrid`) and Redis.

use std::time::Duration;

use super::local::{EntryKey, Held, KeyState, SyncState, Tombstone};
use crate::call::Call;
use crate::domain::lock::PullRef;
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::store::{Grant, Granted, LockKey, Release, Store};

/// What the shared store has at a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// The bytes.
    pub value: Option<Vec<u8>>,
    /// The last fencing token given for the key, also if nobody holds it; 0 if none is remembered: none was given within the
    /// hour, or what the store knew is lost. Always 0 for a document.
    pub token: FencingToken,
    /// The instance to which that token was given; empty if that is not remembered.
    pub holder: String,
    /// The token that it had wished for, if it was given another one; 0 if not, or if that is not remembered.
    pub wished: FencingToken,
}

impl Remote {
    /// The value with its token.
    pub fn held(&self) -> Option<Held> {
        self.value.clone().map(|value| Held { value, token: self.token })
    }

    /// Whether this is the lock that its taker knows by the token that it had wished for: an instance wishes once for each token.
    /// `is_mine`: the one who sees it took it.
    pub fn was_wished_as(&self, known: &Tombstone, is_mine: bool) -> bool {
        is_mine && !self.wished.is_none() && self.value.as_ref().is_some_and(|value| known.is(value, self.wished))
    }

    /// The same, seen by who knows this of the key: a token that belonged to another value says nothing of the value that is
    /// there. A stock server took it, which leaves the token as it was. `is_mine`: the token was given to the one who sees it.
    pub fn seen_by(self, local: &KeyState, is_mine: bool) -> Remote {
        let Some(value) = &self.value else { return self };
        // A token that Redis did not confirm was only wished for: another server may have wished for the same in the same microsecond, and the
        // holder tells who was given it.
        let was_given = |token: FencingToken, state: SyncState| token == self.token && (is_mine || state == SyncState::Synced);
        let is_known = local.value.as_ref().is_some_and(|held| held.token == self.token && held.value == *value)
            || local.tombstones.iter().any(|old| old.is(value, self.token) || self.was_wished_as(old, is_mine));
        let is_anothers = local.value.as_ref().is_some_and(|held| was_given(held.token, local.state))
            || local.tombstones.iter().any(|old| was_given(old.token, old.state));
        if is_known || !is_anothers {
            return self;
        }
        Remote { value: self.value, ..Remote::default() }
    }
}

/// The answer to [`SharedStore::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is so; a lock has this fencing token, which is larger than the one wished for if another holder had one as large.
    Done {
        /// The token.
        token: FencingToken,
    },
    /// There was something else than what had been seen; nothing was changed.
    Changed,
}

/// A shared store that can be followed. Safe from any thread.
pub trait SharedStore: Store {
    /// As [`Store::grant`], with this fencing token, if it is larger than the key's last and within a minute of the server's clock.
    fn grant_with(&self, grant: &Grant<'_>, token: FencingToken, call: &Call) -> Result<Granted>;

    /// Every lock, command lock and pull status; and `with_queues`, every queue and the freezes. Not at one moment: what changes meanwhile
    /// may be old or new.
    fn snapshot(&self, with_queues: bool, call: &Call) -> Result<Vec<(EntryKey, Vec<u8>)>>;

    /// Keys that the last [`SharedStore::snapshot`] found and left out, because no local store can keep what is there: the value or the key
    /// is too long. They say nothing of what was released.
    fn set_aside(&self) -> Vec<EntryKey> {
        Vec::new()
    }

    /// What is at this key.
    fn remote(&self, key: &EntryKey, call: &Call) -> Result<Remote>;

    /// What is at this key, and what the store remembers of this instance: where the store is one server, both of one moment. Of several
    /// servers one has the key and one the announcements, and is asked last.
    fn remote_and_presence(&self, key: &EntryKey, instance: &str, last: u64, call: &Call) -> Result<(Remote, Remembered)>;

    /// Puts or removes the entry at this key if its value is `seen`: compare and set, atomically. Errors as in [`Store::grant`].
    fn put(&self, key: &EntryKey, seen: Option<&[u8]>, new: Option<&Held>, call: &Call) -> Result<Put>;

    /// The keys of the project locks that this pull may hold, as far as `reach` goes: at least those that it does hold.
    fn held_by(&self, pull: PullRef<'_>, reach: Reach, call: &Call) -> Result<Vec<EntryKey>>;

    /// As [`Store::release`], and with which fencing token the lock was held; 0 if that is not known.
    fn release_as(&self, release: &Release<'_>, call: &Call) -> Result<Option<Held>>;

    /// As [`Store::discard`], and with the token.
    fn discard_as(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>>;

    /// Releases those of these project locks that this pull holds, and no other: what was released, in any order, and whether all
    /// of the keys were gone through. Errors as in [`Store::release`].
    fn release_held(&self, pull: PullRef<'_>, keys: &[EntryKey], call: &Call) -> (Vec<(EntryKey, Held)>, Result<()>);

    /// Says that this instance uses the store, or how. `last`: when it announced itself before, by the store's clock, as far as it had an
    /// answer; 0 if it never had one.
    fn announce(&self, instance: &str, lease: Duration, presence: Presence, last: u64, call: &Call) -> Result<Announced>;

    /// What the store's clock shows now, microseconds since 1970, as far as is known without asking; rather early than late.
    fn clock_micros(&self) -> u64;
}

/// How far a search for a pull's locks goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Locks that an instance of this library took: an index names them.
    Index,
    /// All others: the store is looked through, if anybody else may use it.
    Scan,
}

/// What an instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Here,
    /// It is there, and the store had everything that it acknowledged until a moment.
    Agreed(HighWater),
    /// It leaves.
    Leaves,
}

/// That a store had everything that an instance acknowledged until a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HighWater {
    /// The moment, microseconds by the store's clock. The instance announced itself then; a store that does not remember that has lost data, and
    /// does not believe the rest.
    pub at: u64,
    /// As [`Announced::replication_id`] was before the instance looked. A store that has another one by now may have gone back, and does not
    /// believe it either.
    pub replication_id: String,
}

/// What the store remembers of an instance; times are microseconds by the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// As [`Announced::before`].
    pub before: u64,
    /// As [`Announced::agreed`].
    pub agreed: u64,
}

/// The answer to [`SharedStore::announce`]. Times are microseconds by the store's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// When this instance announced itself before; 0 if the store knows nothing of it: never, or what it knew is lost. Earlier than `last`
    /// also if the store said so in an answer that never came.
    pub before: u64,
    /// The last moment of which it said that everything was in the store; 0 as above. What the store knew until then it has not
    /// lost: it would have lost this, too.
    pub agreed: u64,
    /// Now.
    pub now: u64,
    /// Redis's replication ID: as long as it is the same one, the store has not gone back to an earlier moment. `-` if it is not known.
    pub replication_id: String,
    /// Whether an attempt before may have announced this instance as well.
    pub repeated: bool,
    /// The other instances that announced themselves within the lease.
    pub others: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two servers may wish for one token in the same microsecond: the one that was refused knows nothing of it, also after it gave its
    /// wish up.
    #[test]
    fn a_token_that_was_only_wished_for_says_nothing_of_another_lock() {
        let token = FencingToken::new(17);
        let ours = Held { value: b"ours".to_vec(), token };
        let remote = Remote { value: Some(b"theirs".to_vec()), token, holder: "other".to_owned(), ..Remote::default() };
        for state in [SyncState::Pending, SyncState::Decided, SyncState::Synced] {
            let there = KeyState { value: Some(ours.clone()), state, ..KeyState::default() };
            let was_there = KeyState { tombstones: vec![Tombstone::of(&ours, state)], ..KeyState::default() };
            for local in [there, was_there] {
                let stocks = Remote { value: remote.value.clone(), ..Remote::default() };
                let seen = if state == SyncState::Synced { &stocks } else { &remote };
                assert_eq!(remote.clone().seen_by(&local, false), *seen, "{local:?}");
                assert_eq!(remote.clone().seen_by(&local, true), stocks, "a stock server took it after this one: {local:?}");
            }
        }
    }
}

//! The shared store: Redis, a single server, one that Sentinels watch, or a cluster, in stock Atlantis's layout.
//!
//! Invariants:
//! - A key has at most one holder (P1): every change is one Lua script, which looks and acts in one step.
//! - A change happens at most once, and never after its caller's deadline (`retry.rs`, `lua/prologue.lua`).
//! - Fencing tokens of a key strictly increase: max(the one before + 1, the server's clock in microseconds). The one before is in
//!   the key's side hash, which outlives the lock by an hour, so this holds unless a server's clock is set back by more than that,
//!   or a fail-over loses the side hash and moves to a server whose clock is behind by more than the time between two grants.
//! - A value is stored and returned byte for byte; what stock wrote is read, and stock reads what is written here (P4).
//! - What the side hash tells of a holder belongs to the value that is there: it has that value's digest (`lua/read.lua`).
//! - The index of all locks holds at least every lock that was taken here (`lua/index_trim.lua`); it is checked against the locks
//!   on reading. On a single server the pulls' indexes do as well, and both change in the lock's own script.
//!
//! Assumptions: Redis does not lose what it acknowledged (`wait_replicas` narrows a fail-over), evicts nothing
//! ([`Store::warnings`]), and the clocks of servers that take each other's place differ by less than 30 s.
//!
//! Faults survived: a lost reply, a server that hangs, drips or restarts, a fail-over, a name server or a disk that hangs, a password
//! or certificates that change, a stock Atlantis on the same server. What they cost is one operation's timeout, or an error that
//! says what is and is not known.

use self::release::Released;
use self::reply::{Reply, unexpected};
use super::contract::local::{EntryKey, Held};
use super::contract::shared::SharedStore as _;
use super::{DocumentKey, Expected, Grant, Granted, Listing, Location, LockInfo, LockKey, Release, Store, Swap};
use crate::call::Call;
use crate::domain::lock::PullRef;
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::queue::Gate;

mod errors;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod grant;
mod handshakes;
mod indexes;
mod inform;
mod inspect;
mod inventory;
mod keys;
mod legacy_keys;
mod listing;
mod mend;
mod moved;
mod open;
mod pad;
mod pages;
mod read_only;
mod release;
mod reply;
mod retry;
mod scripts;
mod shared;
#[cfg(test)]
pub(crate) mod simulated;
mod store;
mod transport;
mod warnings;

pub use self::inspect::{Entries, Instance, RedisFacts, inspect};
pub use self::inventory::Inventory;
pub use self::mend::{mend_index, mend_leftovers};
pub use self::moved::Others;
pub use self::read_only::RedisReader;
#[cfg(test)]
pub(crate) use self::scripts::script_name;
pub use self::store::RedisStore;
#[cfg(test)]
pub(crate) use self::transport::{Link, Undelivered};

impl Store for RedisStore {
    fn lock_info(&self, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>> {
        let remote = self.remote(&EntryKey::from(key), call)?;
        Ok(remote.value.map(|_| LockInfo::new(remote.token, Location::Enhanced)))
    }

    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        self.grant_proposed(grant, FencingToken::NONE, call)
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.release_as(release, call)?.map(|held| held.value))
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.discard_as(key, call)?.map(|held| held.value))
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.get_key(&keys::lock_key(key), call)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        self.list_all(call)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let Released { locks, failed } = self.release_pull(pull, call);
        let mut listing = Listing::default();
        locks.iter().for_each(|(_, held)| listing.push(&held.value));
        listing.or_incomplete(failed.map_or(Ok(()), Err))
    }

    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.get_key(&keys::document_key(key), call)
    }

    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        let (expectation, bytes): (&[u8], &[u8]) = match expected {
            Expected::Any => (b"any", b""),
            Expected::Absent => (b"absent", b""),
            Expected::Bytes(bytes) => (b"bytes", bytes),
        };
        let action: &[u8] = if new.is_some() { b"set" } else { b"delete" };
        if let (DocumentKey::Queue(repo), Expected::Absent | Expected::Any, Some(_)) = (key, expected, new) {
            self.note_queue(repo, call)?;
        }
        match self.redis.change(
            &scripts::SWAP_DOCUMENT,
            &[&keys::document_key(key)],
            &[expectation, bytes, action, new.unwrap_or_default()],
            call,
        )? {
            Reply::Done(_) => Ok(Swap::Done),
            Reply::Conflict(current) => Ok(Swap::Conflict(current)),
            other => Err(unexpected(&other)),
        }
    }

    fn queues(&self, call: &Call) -> Result<Vec<String>> {
        self.queues_index(call)
    }

    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        Ok(self.remote(&EntryKey::from(key), call)?.held())
    }

    fn set_gate(&self, key: &str, revision: u64, gate: &Gate, call: &Call) -> Result<bool> {
        let lock = keys::lock_key(LockKey::Project(key));
        let side = keys::side_key(&lock);
        let (revision, gate) = (revision.to_string(), grant::gate_text(gate));
        // Said twice, it is said once: a lost answer needs no memory.
        let reply = self.redis.read(call.deadline, |_| {
            self.redis.eval(&scripts::GATE, &[&lock, &side], &[revision.as_bytes(), gate.as_bytes()], call.deadline)
        })?;
        match Reply::read(reply)? {
            Reply::Done(is_held) => Ok(is_held == b"1"),
            other => Err(unexpected(&other)),
        }
    }

    fn ping(&self, call: &Call) -> Result<()> {
        open::check_writable(&self.redis, call.deadline)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.now(self.redis.clock.now());
        warnings.extend(self.set_aside_warnings());
        warnings
    }

    fn close(&self) -> Result<()> {
        self.leave_servers_with_old_keys();
        self.redis.transport.close();
        Ok(())
    }
}

//! A store that the program which links the library brings along, behind one callback: Atlantis's own BoltDB code, or
//! anything a C program likes.
//!
//! Every operation is one call with JSON in and JSON out: `docs/host-store.md` has both, and what a host store promises. What it
//! promises cannot be checked from here. Values cross as they are stored; [`HostStore::dump`] and [`HostStore::apply`], by which a host
//! store is kept as a copy, pass them as texts, since they may be no JSON.
//!
//! A mark is a text that the host store keeps with the writes beside which it came, all or none, and gives back: by it the library
//! knows the content again that it wrote. Nothing that a host store without marks lacks ever counts as released.

use std::fmt;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;

use self::wire::{
    ApplyIn, EntryOut, ExpectedJson, FieldsJson, GrantIn, GrantOut, KeyIn, PullIn, ReleaseIn, StatusIn, SwapIn, SwapOut,
    WriteJson, raw_bytes, read,
};
use super::contract::copy::{CopyStore, HostDump, HostEntry, HostMark, HostWrite};
use super::contract::local::{EntryKey, Held};
use super::{DocumentKey, Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};
use crate::call::Call;
use crate::domain::json::parse_json;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::queue::Gate;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod moved;
#[cfg(test)]
mod tests;
mod wire;

/// Take a lock if it is free.
pub const OP_GRANT: u32 = 1;
/// Release a lock if it is the one meant.
pub const OP_RELEASE: u32 = 2;
/// Remove whatever is at a key.
pub const OP_DISCARD: u32 = 3;
/// Read what is at a key.
pub const OP_GET: u32 = 4;
/// Read every project lock.
pub const OP_LIST: u32 = 5;
/// Release every project lock of a pull.
pub const OP_RELEASE_BY_PULL: u32 = 6;
/// Read a pull status.
pub const OP_PULL_STATUS: u32 = 7;
/// Replace a pull status if it is as expected.
pub const OP_SWAP_PULL_STATUS: u32 = 8;
/// Tell whether the store works.
pub const OP_PING: u32 = 9;
/// Read every entry, as it is.
pub const OP_DUMP: u32 = 10;
/// Set and delete entries, whatever was there, all or none.
pub const OP_APPLY: u32 = 11;
/// Read the mark of a migration, or replace it.
pub const OP_MIGRATION: u32 = 12;

/// The program's side of a host store. Dropped after the last call.
pub trait HostCalls: fmt::Debug + Send + Sync {
    /// Does the operation `op`, one of `OP_…`, whose JSON is in `docs/host-store.md`. Called from any thread, from several at once.
    ///
    /// Errors: `HostStore` if the operation failed, or is not there.
    fn call(&self, op: u32, input: &[u8]) -> Result<Vec<u8>>;
}

/// A store behind [`HostCalls`].
#[derive(Debug)]
pub struct HostStore {
    calls: Box<dyn HostCalls>,
    closed: Mutex<bool>,
    warnings: Mutex<Vec<String>>,
}

impl HostStore {
    /// A store behind these calls.
    pub fn new(calls: Box<dyn HostCalls>) -> HostStore {
        HostStore { calls, closed: Mutex::new(false), warnings: Mutex::default() }
    }

    fn call(&self, op: u32, input: &impl Serialize) -> Result<Vec<u8>> {
        if *self.closed.lock() {
            return Err(Error::new(Code::Closed, "the host store is closed"));
        }
        let input = serde_json::to_vec(input).map_err(|e| Error::new(Code::Internal, format!("host store, op {op}: {e}")))?;
        self.calls.call(op, &input)
    }

    fn value(&self, op: u32, input: &impl Serialize) -> Result<Option<Vec<u8>>> {
        let output = self.call(op, input)?;
        Ok(read::<Option<&RawValue>>(op, &output)?.map(raw_bytes))
    }

    /// The keys of the project locks that cannot be read, and why; the list has no keys.
    fn push_unreadable(&self, listing: &mut Listing) -> Result<()> {
        for HostEntry { key, value } in self.dump()?.entries {
            let EntryKey::Project(name) = &key else { continue };
            match value.as_deref().map(ProjectLock::parse) {
                Some(Ok(_)) => {}
                Some(Err(e)) => listing.push_unreadable(name, e.message()),
                None => listing.push_unreadable(name, "it is not UTF-8"),
            }
        }
        Ok(())
    }
}

impl CopyStore for HostStore {
    fn dump(&self) -> Result<HostDump> {
        let output = self.call(OP_DUMP, &serde_json::json!({}))?;
        let mut dump = HostDump::default();
        for found in read::<Vec<EntryOut>>(OP_DUMP, &output)? {
            let mark = found.mark.zip(found.written_since);
            match (found.key, found.value, found.unreadable, mark) {
                (Some(key), Some(value), false, None) => dump.entries.push(HostEntry { key, value: Some(value.into_bytes()) }),
                (Some(key), None, true, None) => dump.entries.push(HostEntry { key, value: None }),
                (None, None, false, Some((text, written_since))) if dump.mark.is_none() => {
                    dump.mark = Some(HostMark { text, written_since });
                }
                (key, ..) => {
                    let text = format!(
                        "the host store's answer to op {OP_DUMP}: an element ({key:?}) is neither a key with exactly one of value and \
                         unreadable, nor the one mark"
                    );
                    return Err(Error::new(Code::Protocol, text));
                }
            }
        }
        Ok(dump)
    }

    fn apply(&self, writes: &[HostWrite<'_>], mark: Option<&str>) -> Result<()> {
        let writes = writes.iter().map(WriteJson::new).collect::<Result<_>>()?;
        self.call(OP_APPLY, &ApplyIn { writes, mark }).map(drop)
    }

    fn warn(&self, text: String) {
        self.warnings.lock().push(text);
    }
}

impl Store for HostStore {
    /// It keeps no queue: no key has a gate.
    fn grant(&self, grant: &Grant<'_>, _call: &Call) -> Result<Granted> {
        let output = self.call(OP_GRANT, &GrantIn { key: grant.key.into(), value: parse_json(grant.value)? })?;
        let GrantOut { granted, token, value } = read(OP_GRANT, &output)?;
        match (granted, value) {
            (true, _) => Ok(Granted::Yes { token, gated: false }),
            (false, Some(value)) => Ok(Granted::Held { value: raw_bytes(value) }),
            (false, None) => Err(Error::new(Code::Protocol, "the host store refused a lock without telling the holder")),
        }
    }

    fn release(&self, release: &Release<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        let fields =
            release.fields.map(|f| FieldsJson { repo: f.repo, path: f.path, workspace: f.workspace, project: f.project });
        self.value(OP_RELEASE, &ReleaseIn { key: release.key.into(), fields, pull_num: release.pull_num })
    }

    fn discard(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(OP_DISCARD, &KeyIn { key: key.into() })
    }

    fn get(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(OP_GET, &KeyIn { key: key.into() })
    }

    fn list(&self, _call: &Call) -> Result<Listing> {
        let output = self.call(OP_LIST, &serde_json::json!({}))?;
        let mut listing = Listing::default();
        let mut faults = Vec::new();
        for value in read::<Vec<&RawValue>>(OP_LIST, &output)? {
            match ProjectLock::parse(value.get().as_bytes()) {
                Ok(_) => listing.push(value.get().as_bytes()),
                Err(e) => faults.push(e),
            }
        }
        // A host store that cannot name its entries has said, all the same, how many are no locks.
        if !faults.is_empty() && self.push_unreadable(&mut listing).is_err() {
            faults.iter().for_each(|e| listing.push_unreadable("(of the host store)", e.message()));
        }
        Ok(listing)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, _call: &Call) -> Result<Listing> {
        let output = self.call(OP_RELEASE_BY_PULL, &PullIn { repo: pull.repo, num: pull.num })?;
        let mut released = Listing::default();
        // Whatever they are, they were released, and the caller has to hear that.
        read::<Vec<&RawValue>>(OP_RELEASE_BY_PULL, &output)?.iter().for_each(|value| released.push(value.get().as_bytes()));
        Ok(released)
    }

    fn document(&self, key: DocumentKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(OP_PULL_STATUS, &StatusIn { key: status_key(key)? })
    }

    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, _call: &Call) -> Result<Swap> {
        let key = status_key(key)?;
        let expected = match expected {
            Expected::Any => ExpectedJson::Any(true),
            Expected::Absent => ExpectedJson::Value(None),
            Expected::Bytes(bytes) => ExpectedJson::Value(Some(parse_json(bytes)?)),
        };
        let new = new.map(parse_json).transpose()?;
        let output = self.call(OP_SWAP_PULL_STATUS, &SwapIn { key, expected, new })?;
        let SwapOut { swapped, value } = read(OP_SWAP_PULL_STATUS, &output)?;
        Ok(if swapped { Swap::Done } else { Swap::Conflict(value.map(raw_bytes)) })
    }

    fn queues(&self, _call: &Call) -> Result<Vec<String>> {
        Err(no_queue())
    }

    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        Ok(self.get(key, call)?.map(|value| Held { value, token: FencingToken::NONE }))
    }

    fn set_gate(&self, _key: &str, _revision: u64, _gate: &Gate, _call: &Call) -> Result<bool> {
        Err(no_queue())
    }

    fn ping(&self, _call: &Call) -> Result<()> {
        self.call(OP_PING, &serde_json::json!({})).map(drop)
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    fn close(&self) -> Result<()> {
        *self.closed.lock() = true;
        Ok(())
    }
}

fn status_key(key: DocumentKey<'_>) -> Result<&str> {
    match key {
        DocumentKey::PullStatus(key) => Ok(key),
        DocumentKey::Queue(_) | DocumentKey::Freezes => Err(no_queue()),
    }
}

fn no_queue() -> Error {
    let text = "a host store keeps no queue and no freezes: set locking.backend to sled, or use hybrid or native mode";
    Error::new(Code::HostStore, text)
}

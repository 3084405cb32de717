//! The reference store: the whole behaviour of a store in one screen, over two maps. Tests compare the others with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::contract::local::{EntryKey, Held};
use super::{DocumentKey, Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};
use crate::call::Call;
use crate::clock::Clock;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::queue::Gate;

/// A store that lives as long as the process. Safe from any thread.
#[derive(Debug)]
pub struct ReferenceStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    last_token: u64,
    locks: BTreeMap<OwnedKey, Held>,
    documents: BTreeMap<EntryKey, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum OwnedKey {
    Project(String),
    Command(String),
}

impl From<LockKey<'_>> for OwnedKey {
    fn from(key: LockKey<'_>) -> OwnedKey {
        match key {
            LockKey::Project(key) => OwnedKey::Project(key.to_owned()),
            LockKey::Command(name) => OwnedKey::Command(name.to_owned()),
        }
    }
}

impl ReferenceStore {
    /// An empty store; fencing tokens follow `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> ReferenceStore {
        ReferenceStore { clock, state: Mutex::default() }
    }

    fn open(&self) -> Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.closed {
            return Err(Error::new(Code::Closed, "the store is closed"));
        }
        Ok(state)
    }
}

impl Store for ReferenceStore {
    fn grant(&self, grant: &Grant<'_>, _call: &Call) -> Result<Granted> {
        let mut state = self.open()?;
        let key = OwnedKey::from(grant.key);
        if let Some(held) = state.locks.get(&key) {
            return Ok(Granted::Held { value: held.value.clone() });
        }
        let queue = grant.queue_key().and_then(|key| state.documents.get(&EntryKey::from(key)));
        let Some(gated) = grant.is_let_in(queue.map(Vec::as_slice)) else { return Ok(Granted::NotYet) };
        state.last_token = (state.last_token + 1).max(self.clock.unix_micros());
        let token = FencingToken::new(state.last_token);
        state.locks.insert(key, Held { value: grant.value.to_vec(), token });
        Ok(Granted::Yes { token, gated })
    }

    fn release(&self, release: &Release<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        let mut state = self.open()?;
        let key = OwnedKey::from(release.key);
        match state.locks.get(&key) {
            Some(held) if release.admits(&held.value)? => Ok(state.locks.remove(&key).map(|held| held.value)),
            _ => Ok(None),
        }
    }

    fn discard(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.open()?.locks.remove(&OwnedKey::from(key)).map(|held| held.value))
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.held(key, call)?.map(|held| held.value))
    }

    fn list(&self, _call: &Call) -> Result<Listing> {
        let mut listing = Listing::default();
        for (key, Held { value, .. }) in &self.open()?.locks {
            if let OwnedKey::Project(key) = key {
                match ProjectLock::parse(value) {
                    Ok(_) => listing.push(value),
                    Err(e) => listing.push_unreadable(key, e.message()),
                }
            }
        }
        Ok(listing)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, _call: &Call) -> Result<Listing> {
        let mut listing = Listing::default();
        self.open()?.locks.retain(|key, Held { value, .. }| {
            let released = matches!(key, OwnedKey::Project(_)) && ProjectLock::parse(value).is_ok_and(|lock| lock.pull() == pull);
            if released {
                listing.push(value);
            }
            !released
        });
        Ok(listing)
    }

    fn document(&self, key: DocumentKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.open()?.documents.get(&EntryKey::from(key)).cloned())
    }

    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, _call: &Call) -> Result<Swap> {
        let mut state = self.open()?;
        let key = EntryKey::from(key);
        let current = state.documents.get(&key);
        if !expected.admits(current.map(Vec::as_slice)) {
            return Ok(Swap::Conflict(current.cloned()));
        }
        match new {
            Some(new) => state.documents.insert(key, new.to_vec()),
            None => state.documents.remove(&key),
        };
        Ok(Swap::Done)
    }

    fn queues(&self, _call: &Call) -> Result<Vec<String>> {
        let name = |key: &EntryKey| matches!(key, EntryKey::Queue(_)).then(|| key.name().to_owned());
        Ok(self.open()?.documents.keys().filter_map(name).collect())
    }

    fn held(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Held>> {
        Ok(self.open()?.locks.get(&OwnedKey::from(key)).cloned())
    }

    fn set_gate(&self, key: &str, _revision: u64, _gate: &Gate, _call: &Call) -> Result<bool> {
        Ok(self.open()?.locks.contains_key(&OwnedKey::Project(key.to_owned())))
    }

    fn ping(&self, _call: &Call) -> Result<()> {
        self.open().map(drop)
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn close(&self) -> Result<()> {
        self.state.lock().closed = true;
        Ok(())
    }
}

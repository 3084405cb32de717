//! The reference store: the whole behaviour of a store in one screen, over two maps. Tests compare the others with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};
use crate::call::Call;
use crate::clock::Clock;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};

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
    locks: BTreeMap<OwnedKey, Vec<u8>>,
    pulls: BTreeMap<String, Vec<u8>>,
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
            return Ok(Granted::Held { value: held.clone() });
        }
        state.locks.insert(key, grant.value.to_vec());
        state.last_token = (state.last_token + 1).max(self.clock.unix_micros());
        Ok(Granted::Yes { token: FencingToken::new(state.last_token) })
    }

    fn release(&self, release: &Release<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        let mut state = self.open()?;
        let key = OwnedKey::from(release.key);
        match state.locks.get(&key) {
            Some(value) if release.admits(value)? => Ok(state.locks.remove(&key)),
            _ => Ok(None),
        }
    }

    fn discard(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.open()?.locks.remove(&OwnedKey::from(key)))
    }

    fn get(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.open()?.locks.get(&OwnedKey::from(key)).cloned())
    }

    fn list(&self, _call: &Call) -> Result<Listing> {
        let mut listing = Listing::default();
        for (key, value) in &self.open()?.locks {
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
        self.open()?.locks.retain(|key, value| {
            let released = matches!(key, OwnedKey::Project(_)) && ProjectLock::parse(value).is_ok_and(|lock| lock.pull() == pull);
            if released {
                listing.push(value);
            }
            !released
        });
        Ok(listing)
    }

    fn pull_status(&self, key: &str, _call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.open()?.pulls.get(key).cloned())
    }

    fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>, _call: &Call) -> Result<Swap> {
        let mut state = self.open()?;
        let current = state.pulls.get(key);
        if !expected.admits(current.map(Vec::as_slice)) {
            return Ok(Swap::Conflict(current.cloned()));
        }
        match new {
            Some(new) => state.pulls.insert(key.to_owned(), new.to_vec()),
            None => state.pulls.remove(key),
        };
        Ok(Swap::Done)
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

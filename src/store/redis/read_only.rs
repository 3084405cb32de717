//! Looking at what Redis holds, without a server of ours.
//!
//! Invariant: no command that writes is sent, and no key, index or side hash changes. Connecting tries no rights by writing
//! (`open.rs`), no script is loaded before it is needed, locks under the keys of Atlantis before v0.40 stay there (`legacy_keys.rs`), and
//! the indexes are neither filled nor trimmed.
//!
//! So a list looks at the names of all keys, also with `shared_with_stock: false`: the indexes are complete only since the last start of
//! a server. A lock under an old key is shown as the lock that it will be once a server has moved it.

use super::keys::{self, ALL_LOCKS};
use super::listing::{CheckedLocks, Found};
use super::open;
use super::scripts;
use super::store::RedisStore;
use crate::call::Call;
use crate::config;
use crate::domain::key::KeyFormat;
use crate::domain::lock::ProjectLock;
use crate::error::Result;
use crate::store::contract::local::{EntryKey, Held};
use crate::store::read_only::{ReadOnly, Reads};
use crate::store::{DocumentKey, Listing, Location, LockInfo, LockKey, Store as _};

/// A Redis of which nothing is changed.
#[derive(Debug)]
pub struct RedisReader(RedisStore);

impl RedisStore {
    /// Connects, and checks that the server is the one that the settings mean; nothing in it changes.
    ///
    /// Errors, each within the connect timeout: those of [`RedisStore::open`], but for `Permission`, which is not tried.
    pub fn open_read_only(settings: &config::Redis) -> Result<ReadOnly<RedisReader>> {
        // No instance takes locks by it.
        let store = RedisStore::of(open::connect(settings)?, settings, "");
        match store.refuse_marked(settings) {
            Ok(()) => Ok(ReadOnly(RedisReader(store))),
            Err(refused) => store.close().and(Err(refused)),
        }
    }
}

impl RedisReader {
    /// The lock that stands at the key which Atlantis before v0.40 gave it.
    fn get_old(&self, key: &str, call: &Call) -> Result<Option<Vec<u8>>> {
        let Some((old, _project)) = key.rsplit_once('/') else { return Ok(None) };
        let found = self.0.get_key(&keys::lock_key(LockKey::Project(old)), call)?;
        Ok(found.filter(|value| old_lock(old.as_bytes(), value).is_some_and(|current| current == key)))
    }
}

/// Today's key of a lock at an old one; `None` if it is none.
pub(super) fn old_lock(key: &[u8], value: &[u8]) -> Option<String> {
    if KeyFormat::of_process() == KeyFormat::Old {
        return None; // old keys are this process's own
    }
    let lock = ProjectLock::parse(value).ok()?;
    (lock.fields().old_key().as_bytes() == key).then(|| lock.fields().key())
}

impl Reads for RedisReader {
    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        match (self.0.get(key, call)?, key) {
            (None, LockKey::Project(key)) => self.get_old(key, call),
            (found, _) => Ok(found),
        }
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        let (mut checked, mut old) = (CheckedLocks::new(self.0.most_listed), Vec::new());
        self.0.scan_locks(ALL_LOCKS, call, |page| {
            let mut rest = Vec::with_capacity(page.len());
            for (key, found) in page {
                let current = if let Found::Value(value) = &found { old_lock(&key, value) } else { None };
                match current {
                    Some(current) => old.push((current, key, found)),
                    None => rest.push((key, found)),
                }
            }
            checked.add(rest)
        })?;
        for (current, key, found) in old {
            // Where today's key is held, the old one stays, and is reported.
            let key = if checked.holds(current.as_bytes()) { key } else { current.into_bytes() };
            checked.add(vec![(key, found)])?;
        }
        Ok(checked.listing())
    }

    fn lock_info(&self, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>> {
        let (remote, _) = self.0.remote_by(&scripts::LOOK, &EntryKey::from(key), None, call)?;
        Ok(remote.value.map(|_| LockInfo::new(remote.token, Location::Enhanced)))
    }

    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.0.document(key, call)
    }

    fn queues(&self, call: &Call) -> Result<Vec<String>> {
        self.0.queues(call)
    }

    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        Ok(self.0.remote_by(&scripts::LOOK, &EntryKey::from(key), None, call)?.0.held())
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.0.redis.read(call.deadline, |link| link.query(&redis::cmd("PING"), call.deadline)).map(drop)
    }

    fn warnings(&self) -> Vec<String> {
        self.0.warnings.now(self.0.redis.clock.now())
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }
}

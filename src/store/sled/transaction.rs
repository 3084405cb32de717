//! One group of changes, before it is written: each operation sees the tree as the ones before it in the group left it, and
//! all of them are written together (`group.rs`).

use std::collections::BTreeMap;

use sled::IVec;

use super::group::Group;
use super::meta::Meta;
use super::read::{View, failed};
use super::record::{self, Header, Stored, Verdict};
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::sealing::Sealing;
use crate::store::contract::local::{EntryKey, Held};

/// What a group changes: an overlay over the tree.
pub(super) struct Transaction<'a> {
    db: &'a dyn Entries,
    now_micros: u64,
    staged: BTreeMap<Vec<u8>, Option<IVec>>,
    meta: Meta,
    changes: u64,
    follows_redis: Option<bool>,
    has_host: Option<bool>,
}

/// Where a group finds what is stored: the tree, or in tests a map.
pub(super) trait Entries {
    /// One tree entry.
    fn get(&self, key: &[u8]) -> Result<Option<IVec>>;
    /// All tree entries whose keys begin with `prefix`.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<(IVec, IVec)>>;
    /// How values are written and read.
    fn sealing(&self) -> &Sealing;
}

impl Entries for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<IVec>> {
        View::get(*self, key)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(IVec, IVec)>> {
        self.scan_prefix(prefix).map(|entry| entry.map_err(failed)).collect()
    }

    fn sealing(&self) -> &Sealing {
        self.sealing
    }
}

#[cfg(test)]
impl Entries for BTreeMap<Vec<u8>, IVec> {
    fn get(&self, key: &[u8]) -> Result<Option<IVec>> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(IVec, IVec)>> {
        let found = self.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (key.as_slice().into(), value.clone())).collect())
    }

    fn sealing(&self) -> &Sealing {
        &crate::sealing::PLAIN
    }
}

impl<'a> Transaction<'a> {
    /// What the store has at this key.
    pub(super) fn held(&self, key: &EntryKey) -> Result<Option<Held>> {
        Ok(self.entry(&record::key_of(key))?.map(|(header, value)| Held { value, token: header.token }))
    }

    /// An empty group over the tree that `meta` describes.
    pub(super) fn new(db: &'a dyn Entries, meta: Meta, now_micros: u64) -> Transaction<'a> {
        Transaction { db, now_micros, staged: BTreeMap::new(), meta, changes: 0, follows_redis: None, has_host: None }
    }

    /// How many tree entries were put or removed so far.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// A header with a new fencing token.
    pub(super) fn new_lock(&mut self, verdict: Verdict) -> Header {
        Header { verdict, token: self.meta.next_token(self.now_micros), stored_at: self.now_micros }
    }

    /// A header with a fencing token that was given before, by this store or by Redis; later ones are larger.
    pub(super) fn lock_of(&mut self, verdict: Verdict, token: FencingToken) -> Header {
        self.meta.last_token = self.meta.last_token.max(token.get());
        Header { verdict, token, stored_at: self.now_micros }
    }

    /// The time of this group, microseconds since 1970.
    pub(super) fn now_micros(&self) -> u64 {
        self.now_micros
    }

    /// Whether this store follows Redis, in hybrid mode now or before: what it changes alone is then written down for Redis.
    pub(super) fn follows_redis(&mut self) -> Result<bool> {
        if self.follows_redis.is_none() {
            self.follows_redis = Some(self.raw(record::REDIS_KEY)?.is_some());
        }
        Ok(self.follows_redis.unwrap_or_default())
    }

    /// Whether a host store follows this one: where it is behind is then written down for it.
    pub(super) fn has_host(&mut self) -> Result<bool> {
        if self.has_host.is_none() {
            self.has_host = Some(self.raw(record::HOST_KEY)?.is_some());
        }
        Ok(self.has_host.unwrap_or_default())
    }

    /// The store has begun to follow Redis, or to be followed.
    pub(super) fn forget_link(&mut self) {
        self.follows_redis = None;
        self.has_host = None;
    }

    /// A header without a token.
    pub(super) fn new_status(&self) -> Header {
        Header { verdict: Verdict::NoLock, token: FencingToken::NONE, stored_at: self.now_micros }
    }

    /// The entry at this key and its value.
    pub(super) fn entry(&self, key: &[u8]) -> Result<Option<(Header, Vec<u8>)>> {
        match self.stored(key)? {
            Some(stored) => stored.open(key, self.db.sealing(), |key| self.raw(key)).map(Some),
            None => Ok(None),
        }
    }

    /// Replaces the entry at this key. What of a long value stays as it was is not written again: a queue is long, and a join adds to its end.
    pub(super) fn put_entry(&mut self, key: &[u8], header: Header, value: &[u8]) -> Result<()> {
        let encoded = record::encode(key, header, value, self.db.sealing())?;
        if let Some(old) = self.stored(key)? {
            old.chunk_keys(key).skip(encoded.len() - 1).try_for_each(|chunk| self.remove(chunk))?;
        }
        for (key, bytes) in encoded {
            if self.raw(&key)?.is_none_or(|old| *old != *bytes) {
                self.put(key, bytes)?;
            }
        }
        Ok(())
    }

    /// Removes the entry at this key, if there is one.
    pub(super) fn remove_entry(&mut self, key: &[u8]) -> Result<()> {
        if let Some(stored) = self.stored(key)? {
            self.remove(key.to_vec())?;
            stored.chunk_keys(key).try_for_each(|chunk| self.remove(chunk))?;
        }
        Ok(())
    }

    /// Puts one tree entry.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        self.remove(key.clone())?;
        self.meta.add(&key, &value);
        self.staged.insert(key, Some(value.into()));
        self.changes += 1;
        Ok(())
    }

    /// Removes one tree entry, if there is one.
    pub(super) fn remove(&mut self, key: Vec<u8>) -> Result<()> {
        if let Some(old) = self.raw(&key)? {
            self.meta.subtract(&key, &old);
            self.staged.insert(key, None);
            self.changes += 1;
        }
        Ok(())
    }

    /// All tree entries whose keys begin with `prefix`, in the order of their keys.
    pub(super) fn scan(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, IVec>> {
        let mut found: BTreeMap<Vec<u8>, IVec> =
            self.db.scan(prefix)?.into_iter().map(|(key, value)| (key.to_vec(), value)).collect();
        for (key, value) in self.staged.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found)
    }

    /// What to write; `None` if nothing changed.
    pub(super) fn into_group(self) -> Option<Group> {
        (self.changes > 0).then(|| Group { meta: self.meta.next(), writes: self.staged.into_iter().collect() })
    }

    /// What is stored at this key.
    pub(super) fn stored(&self, key: &[u8]) -> Result<Option<Stored>> {
        self.raw(key)?.map(|bytes| Stored::decode(key, bytes)).transpose()
    }

    /// One tree entry.
    pub(super) fn raw(&self, key: &[u8]) -> Result<Option<IVec>> {
        match self.staged.get(key) {
            Some(staged) => Ok(staged.clone()),
            None => self.db.get(key),
        }
    }
}

//! One group of changes, before it is written: each operation sees the tree as the ones before it in the group left it, and
//! all of them become one sled batch.

use std::collections::BTreeMap;

use sled::{Batch, IVec};

use super::meta::Meta;
use super::record::{self, Header, META_KEY, Stored};
use super::tree::read_entry;
use crate::error::Result;

/// What a group changes: an overlay over the tree.
pub(super) struct Transaction<'a> {
    db: &'a sled::Db,
    now_micros: u64,
    staged: BTreeMap<Vec<u8>, Option<IVec>>,
    meta: Meta,
    changes: u64,
}

impl<'a> Transaction<'a> {
    /// An empty group over the tree that `meta` describes.
    pub(super) fn new(db: &'a sled::Db, meta: Meta, now_micros: u64) -> Transaction<'a> {
        Transaction { db, now_micros, staged: BTreeMap::new(), meta, changes: 0 }
    }

    /// How many tree entries were put or removed so far.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// A header with a new fencing token.
    pub(super) fn new_lock(&mut self, indexed: bool) -> Header {
        Header { indexed, token: self.meta.next_token(self.now_micros), stored_at: self.now_micros }
    }

    /// A header without a token.
    pub(super) fn new_status(&self) -> Header {
        Header { indexed: false, token: 0, stored_at: self.now_micros }
    }

    /// The entry at this key and its value.
    pub(super) fn entry(&self, key: &[u8]) -> Result<Option<(Header, Vec<u8>)>> {
        match self.stored(key)? {
            Some(stored) => Ok(Some((stored.header, stored.value(key, |key| self.raw(key))?))),
            None => Ok(None),
        }
    }

    /// Replaces the entry at this key.
    pub(super) fn put_entry(&mut self, key: &[u8], header: Header, value: &[u8]) -> Result<()> {
        let encoded = record::encode(key, header, value)?;
        self.remove_entry(key)?;
        encoded.into_iter().try_for_each(|(key, bytes)| self.put(key, bytes))
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

    /// The values of all tree entries whose keys begin with `prefix`, in the order of their keys.
    pub(super) fn scan(&self, prefix: &[u8]) -> Result<Vec<IVec>> {
        let mut found = BTreeMap::new();
        for entry in self.db.scan_prefix(prefix) {
            let (key, value) = entry.map_err(super::tree::failed)?;
            found.insert(key.to_vec(), value);
        }
        for (key, value) in self.staged.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found.into_values().collect())
    }

    /// The batch to apply and the meta record in it; `None` if nothing changed.
    pub(super) fn into_batch(self) -> Option<(Batch, Meta)> {
        if self.changes == 0 {
            return None;
        }
        let meta = self.meta.next();
        let mut batch = Batch::default();
        for (key, value) in self.staged {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch.insert(META_KEY, meta.encode());
        Some((batch, meta))
    }

    fn stored(&self, key: &[u8]) -> Result<Option<Stored>> {
        self.raw(key)?.map(|bytes| Stored::decode(key, bytes)).transpose()
    }

    fn raw(&self, key: &[u8]) -> Result<Option<IVec>> {
        match self.staged.get(key) {
            Some(staged) => Ok(staged.clone()),
            None => read_entry(self.db, key),
        }
    }
}

//! What each change does, inside a group.
//!
//! Each first decides and then changes: an error means that it changed nothing, or that the whole group is abandoned
//! (`StoreFailed`, `StoreDamaged`).

use sled::IVec;

use super::history;
use super::record::{self, Header};
use super::transaction::Transaction;
use crate::error::Result;
use crate::model::ProjectLock;
use crate::store::mirror::EntryKey;
use crate::store::{Expected, Granted, Listing, Release, Swap};

/// Takes the lock if it is free. `pull_prefix` is that of the pull that the value names, if it is a project lock's.
pub(super) fn grant(tx: &mut Transaction<'_>, name: &EntryKey, value: &[u8], pull_prefix: Option<&[u8]>) -> Result<Granted> {
    let key = &record::key_of(name);
    if let Some((_, value)) = tx.entry(key)? {
        return Ok(Granted::Held { value });
    }
    let header = tx.new_lock(pull_prefix.is_some());
    tx.put_entry(key, header, value)?;
    if let Some(prefix) = pull_prefix {
        tx.put(record::index_key(prefix, header.token), key.clone())?;
    }
    history::decided(tx, name, None)?;
    Ok(Granted::Yes { token: header.token })
}

/// Releases the lock if it is the one meant.
pub(super) fn release(tx: &mut Transaction<'_>, release: &Release<'_>) -> Result<Option<Vec<u8>>> {
    let name = EntryKey::from(release.key);
    let key = &record::key_of(&name);
    let Some((header, value)) = tx.entry(key)? else { return Ok(None) };
    if !release.admits(&value)? {
        return Ok(None);
    }
    remove_lock(tx, key, header, &value)?;
    history::decided(tx, &name, Some((header, &value)))?;
    Ok(Some(value))
}

/// Removes whatever is at the key.
pub(super) fn discard(tx: &mut Transaction<'_>, name: &EntryKey) -> Result<Option<Vec<u8>>> {
    let key = &record::key_of(name);
    let Some((header, value)) = tx.entry(key)? else { return Ok(None) };
    remove_lock(tx, key, header, &value)?;
    history::decided(tx, name, Some((header, &value)))?;
    Ok(Some(value))
}

/// Releases every lock in the by-pull index under this prefix.
pub(super) fn release_by_pull(tx: &mut Transaction<'_>, pull_prefix: &[u8]) -> Result<Listing> {
    let mut keys: Vec<IVec> = tx.scan(pull_prefix)?.into_values().collect();
    keys.sort_unstable();
    let mut released = Listing::default();
    for key in keys {
        if let Some((header, value)) = tx.entry(&key)? {
            remove_lock(tx, &key, header, &value)?;
            if let Some(name) = history::name(&key, &value) {
                history::decided(tx, &name, Some((header, &value)))?;
            }
            released.push(&value);
        }
    }
    Ok(released)
}

/// Replaces or removes a pull status if it is as expected.
pub(super) fn swap_status(tx: &mut Transaction<'_>, name: &EntryKey, expected: Expected<'_>, new: Option<&[u8]>) -> Result<Swap> {
    let key = &record::key_of(name);
    let (header, current) = tx.entry(key)?.unzip();
    if !expected.admits(current.as_deref()) {
        return Ok(Swap::Conflict(current));
    }
    if current.as_deref() == new {
        return Ok(Swap::Done);
    }
    match new {
        Some(new) => tx.put_entry(key, tx.new_status(), new)?,
        None => tx.remove_entry(key)?,
    }
    history::decided(tx, name, header.zip(current.as_deref()))?;
    Ok(Swap::Done)
}

/// Removes an entry, and its by-pull index entry if it has one.
pub(super) fn remove_lock(tx: &mut Transaction<'_>, key: &[u8], header: Header, value: &[u8]) -> Result<()> {
    tx.remove_entry(key)?;
    match index_prefix(value) {
        Some(prefix) if header.indexed => tx.remove(record::index_key(&prefix, header.token)),
        _ => Ok(()),
    }
}

/// The by-pull index prefix of the pull that this value names; `None` if it is not a project lock's JSON.
pub(super) fn index_prefix(value: &[u8]) -> Option<Vec<u8>> {
    ProjectLock::parse(value).ok().map(|lock| record::pull_prefix(lock.pull()))
}

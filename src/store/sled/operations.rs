//! What each change does, inside a group.
//!
//! Each first decides and then changes: an error means that it changed nothing, or that the whole group is abandoned
//! (`StoreFailed`, `StoreDamaged`).

use super::record::{self, Header};
use super::transaction::Transaction;
use crate::error::Result;
use crate::model::{ProjectLock, PullRef};
use crate::store::{Expected, Granted, Listing, Release, Swap};

/// Takes the lock if it is free. `pull_prefix` is that of the pull that the value names, if it is a project lock's.
pub(super) fn grant(tx: &mut Transaction<'_>, key: &[u8], value: &[u8], pull_prefix: Option<&[u8]>) -> Result<Granted> {
    if let Some((_, value)) = tx.entry(key)? {
        return Ok(Granted::Held { value });
    }
    let header = tx.new_lock(pull_prefix.is_some());
    tx.put_entry(key, header, value)?;
    if let Some(prefix) = pull_prefix {
        tx.put(record::index_key(prefix, header.token), key.to_vec())?;
    }
    Ok(Granted::Yes { token: header.token })
}

/// Releases the lock if it is the one meant.
pub(super) fn release(tx: &mut Transaction<'_>, key: &[u8], release: &Release<'_>) -> Result<Option<Vec<u8>>> {
    let Some((header, value)) = tx.entry(key)? else { return Ok(None) };
    if !release.admits(&value)? {
        return Ok(None);
    }
    remove_lock(tx, key, header, &value)?;
    Ok(Some(value))
}

/// Removes whatever is at the key.
pub(super) fn discard(tx: &mut Transaction<'_>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some((header, value)) = tx.entry(key)? else { return Ok(None) };
    remove_lock(tx, key, header, &value)?;
    Ok(Some(value))
}

/// Releases every lock in the by-pull index under this prefix.
pub(super) fn release_by_pull(tx: &mut Transaction<'_>, pull_prefix: &[u8]) -> Result<Listing> {
    let mut keys = tx.scan(pull_prefix)?;
    keys.sort_unstable();
    let mut released = Listing::default();
    for key in keys {
        if let Some((header, value)) = tx.entry(&key)? {
            remove_lock(tx, &key, header, &value)?;
            released.push(&value);
        }
    }
    Ok(released)
}

/// Replaces or removes a pull status if it is as expected.
pub(super) fn swap_status(tx: &mut Transaction<'_>, key: &[u8], expected: Expected<'_>, new: Option<&[u8]>) -> Result<Swap> {
    let current = tx.entry(key)?.map(|(_, value)| value);
    if !expected.admits(current.as_deref()) {
        return Ok(Swap::Conflict(current));
    }
    match new {
        Some(new) if current.as_deref() == Some(new) => {}
        Some(new) => tx.put_entry(key, tx.new_status(), new)?,
        None => tx.remove_entry(key)?,
    }
    Ok(Swap::Done)
}

fn remove_lock(tx: &mut Transaction<'_>, key: &[u8], header: Header, value: &[u8]) -> Result<()> {
    tx.remove_entry(key)?;
    match index_prefix(value)? {
        Some(prefix) if header.indexed => tx.remove(record::index_key(&prefix, header.token)),
        _ => Ok(()),
    }
}

/// The by-pull index prefix of the pull that this value names; `None` if it is not a project lock's JSON.
pub(super) fn index_prefix(value: &[u8]) -> Result<Option<Vec<u8>>> {
    match ProjectLock::parse(value) {
        Ok(lock) => {
            let PullRef { repo, num } = lock.pull();
            record::pull_prefix(PullRef { repo, num }).map(Some)
        }
        Err(_) => Ok(None),
    }
}

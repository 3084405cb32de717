//! The index of locks by pull: one entry for each lock, by the pull that its value names.
//!
//! Invariant: each lock whose pull is known has an entry of its own, also if another of the pull's locks has the same token.

use sled::IVec;

use super::record::{self, Header, INDEX_PREFIX, Verdict};
use super::transaction::Transaction;
use crate::domain::lock::{ProjectLock, is_stand_in};
use crate::domain::token::FencingToken;
use crate::error::Result;

/// Adds the entry of the lock at this key.
pub(super) fn add_lock(tx: &mut Transaction<'_>, pull_prefix: &[u8], token: FencingToken, key: &[u8]) -> Result<()> {
    let [first, second] = record::index_keys(pull_prefix, token, key);
    let is_anothers = tx.raw(&first)?.is_some_and(|of| of != key);
    tx.put(if is_anothers { second } else { first }, key.to_vec())
}

/// Removes an entry, and its by-pull index entry if it has one.
pub(super) fn remove_lock(tx: &mut Transaction<'_>, key: &[u8], header: Header, value: &[u8]) -> Result<()> {
    tx.remove_entry(key)?;
    match index_key(tx, key, header, value)? {
        Some(index_key) => tx.remove(index_key),
        None => Ok(()),
    }
}

/// The key of an entry's by-pull index entry, if it has one.
fn index_key(tx: &Transaction<'_>, key: &[u8], header: Header, value: &[u8]) -> Result<Option<Vec<u8>>> {
    // Of a sealed value that does not open, what stands beside it may be changed, too.
    if header.verdict == Verdict::NoLock && !is_stand_in(value) {
        return Ok(None);
    }
    if let Some(prefix) = index_prefix(value) {
        for index_key in record::index_keys(&prefix, header.token, key) {
            if tx.raw(&index_key)?.is_some_and(|of| of == key) {
                return Ok(Some(index_key));
            }
        }
        return Ok(None);
    }
    // The pull of a value that was a lock once is told by the index alone. It must not stay there: the key's next holder would be
    // released with that pull.
    let is_meant = |(_, of): &(Vec<u8>, IVec)| *of == key;
    Ok(tx.scan(INDEX_PREFIX)?.into_iter().find(is_meant).map(|(index_key, _)| index_key))
}

/// The by-pull index prefix of the pull that this value names; `None` if it is not a project lock's JSON.
pub(super) fn index_prefix(value: &[u8]) -> Option<Vec<u8>> {
    ProjectLock::parse(value).ok().map(|lock| record::pull_prefix(lock.pull()))
}

//! The index of locks by pull: one entry for each lock, by the pull that its value names.

use super::record::{self, Header, INDEX_PREFIX, Verdict};
use super::transaction::Transaction;
use crate::domain::lock::ProjectLock;
use crate::error::Result;

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
    if header.verdict == Verdict::NoLock {
        return Ok(None);
    }
    if let Some(prefix) = index_prefix(value) {
        return Ok(Some(record::index_key(&prefix, header.token)));
    }
    // The pull of a value that was a lock once is told by the index alone. It must not stay there: the key's next holder would be
    // released with that pull.
    let token = header.token.get().to_be_bytes();
    let indexed = tx.scan(INDEX_PREFIX)?.into_iter().find(|(index_key, of)| index_key.ends_with(&token) && *of == key);
    Ok(indexed.map(|(index_key, _)| index_key))
}

/// The by-pull index prefix of the pull that this value names; `None` if it is not a project lock's JSON.
pub(super) fn index_prefix(value: &[u8]) -> Option<Vec<u8>> {
    ProjectLock::parse(value).ok().map(|lock| record::pull_prefix(lock.pull()))
}

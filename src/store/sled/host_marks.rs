//! Which entries the host store does not have yet, and what it may have in their place.

use super::record::{ENTRY_PREFIXES, HOST_KEY, HOST_LACKS_PREFIX, Reader, beside, is_named, key_of, length_bytes, name_of};
use super::remembered::{encode_key, entry_name, not_in_format};
use super::transaction::Transaction;
use crate::error::Result;
use crate::store::contract::local::{EntryKey, HostCopy, HostLacks, digest};

/// Where it is written that the host store does not have a key's value.
pub(super) fn host_key(key: &EntryKey) -> Vec<u8> {
    beside(HOST_LACKS_PREFIX, &key_of(key))
}

/// Writes down that the host store does not have the entry's value yet, but the one that was here before: `base`.
pub(super) fn host_lacks(tx: &mut Transaction<'_>, key: &EntryKey, base: Option<&[u8]>) -> Result<()> {
    if !key.is_stocks() || !tx.has_host()? || tx.raw(&host_key(key))?.is_some() {
        return Ok(());
    }
    write_mark(tx, key, &[base.map(digest)])
}

/// A mark says what the host store may have: how many, then each.
pub(super) fn write_mark(tx: &mut Transaction<'_>, key: &EntryKey, there: &[Option<[u8; 32]>]) -> Result<()> {
    let mut mark = length_bytes(there.len()).to_vec();
    for value in there {
        mark.push(u8::from(value.is_some()));
        mark.extend_from_slice(value.as_ref().map_or(&[], |digest| &digest[..]));
    }
    if !is_named(key) {
        mark.extend_from_slice(&encode_key(key)?);
    }
    tx.put_entry(&host_key(key), tx.new_status(), &mark)
}

pub(super) fn decode_mark(tree_key: &[u8], bytes: &[u8]) -> Result<(EntryKey, Vec<Option<[u8; 32]>>)> {
    let mark = (|| {
        let mut reader = Reader(bytes);
        let mut there = Vec::new();
        for _ in 0..u32::from_be_bytes(reader.take()?) {
            there.push(if reader.take()? == [0] { None } else { Some(reader.take()?) });
        }
        let key = name_of(tree_key).or_else(|| serde_json::from_slice(reader.0).ok())?;
        Some((key, there))
    })();
    mark.ok_or_else(|| not_in_format("a mark for the host store"))
}

/// What the host store may have instead; `None` if it has the value.
pub(super) fn read_mark(tx: &Transaction<'_>, key: &EntryKey) -> Result<Option<Vec<Option<[u8; 32]>>>> {
    let tree_key = key_of(key);
    match tx.entry(&host_key(key))? {
        Some((_, bytes)) => decode_mark(&tree_key, &bytes).map(|(_, there)| Some(there)),
        None => Ok(None),
    }
}

/// The first time, the host store has nothing of what is here.
pub(super) fn begin_copy(tx: &mut Transaction<'_>) -> Result<()> {
    if tx.has_host()? {
        return Ok(());
    }
    tx.put(HOST_KEY.to_vec(), Vec::new())?;
    tx.forget_link();
    for prefix in ENTRY_PREFIXES {
        for tree_key in tx.scan(prefix)?.into_keys() {
            let Some((_, value)) = tx.entry(&tree_key)? else { continue };
            if let Some(key) = entry_name(&tree_key, &value) {
                host_lacks(tx, &key, None)?;
            }
        }
    }
    Ok(())
}

/// What is remembered of the host store's content: nothing, where the store is from before there were marks.
pub(super) fn host_copy(tx: &Transaction<'_>) -> Result<Option<HostCopy>> {
    match tx.raw(HOST_KEY)? {
        None => Ok(None),
        Some(bytes) if bytes.is_empty() => Ok(Some(HostCopy::default())),
        Some(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|_| not_in_format("what is remembered of the host store"))
        }
    }
}

/// Keys of which the host store does not have the value yet.
pub(super) fn all_host_lacks(tx: &Transaction<'_>, most: usize) -> Result<Vec<HostLacks>> {
    let mut lacking = Vec::new();
    for tree_key in tx.scan(HOST_LACKS_PREFIX)?.into_keys().take(most) {
        let Some((_, bytes)) = tx.entry(&tree_key)? else { continue };
        let (key, there) = decode_mark(&tree_key[HOST_LACKS_PREFIX.len()..], &bytes)?;
        let value = tx.held(&key)?.map(|held| held.value);
        lacking.push(HostLacks { key, value, there });
    }
    Ok(lacking)
}

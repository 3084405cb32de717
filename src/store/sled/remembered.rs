//! What the store remembers beside its entries: of Redis, releases by pull that Redis has to learn of, conflicts.

use sled::IVec;

use super::record::{self, CONFLICT_PREFIX, PROJECT_PREFIX, PULL_RELEASE_PREFIX, Reader, beside, length_bytes, name_of};
use super::transaction::Transaction;
use crate::domain::lock::{ProjectLock, PullRef, is_stand_in};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Conflict, EntryKey, Held, PullRelease, RedisRecord};

const FORMAT: u8 = 1;

/// What is remembered of Redis.
pub(super) fn redis_record(bytes: Option<IVec>) -> Result<Option<RedisRecord>> {
    bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|_| not_in_format("what is remembered of Redis"))).transpose()
}

/// Where a release by pull is.
pub(super) fn release_key(release: &PullRelease) -> Vec<u8> {
    beside(PULL_RELEASE_PREFIX, &record::pull_prefix(PullRef { repo: &release.repo, num: release.num }))
}

/// One of them.
pub(super) fn read_release(bytes: &[u8]) -> Result<PullRelease> {
    serde_json::from_slice(bytes).map_err(|_| not_in_format("a release by pull"))
}

/// All releases by pull that Redis has to learn of.
pub(super) fn pull_releases(tx: &Transaction<'_>) -> Result<Vec<PullRelease>> {
    let mut releases = Vec::new();
    for tree_key in tx.scan(PULL_RELEASE_PREFIX)?.into_keys() {
        if let Some((_, bytes)) = tx.entry(&tree_key)? {
            releases.push(read_release(&bytes)?);
        }
    }
    Ok(releases)
}

/// All conflicts.
pub(super) fn conflicts(tx: &Transaction<'_>) -> Result<Vec<Conflict>> {
    let mut conflicts = Vec::new();
    for tree_key in tx.scan(CONFLICT_PREFIX)?.into_keys() {
        if let Some((header, bytes)) = tx.entry(&tree_key)? {
            let conflict = if is_stand_in(&bytes) {
                unreadable_conflict(&tree_key[CONFLICT_PREFIX.len()..], bytes, header.stored_at)
            } else {
                decode_conflict(&bytes)
            };
            conflicts.push(conflict.ok_or_else(|| not_in_format("a conflict"))?);
        }
    }
    Ok(conflicts)
}

/// A conflict's bytes.
pub(super) fn encode_conflict(conflict: &Conflict) -> Result<Vec<u8>> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&conflict.at.to_be_bytes());
    for held in [&conflict.local, &conflict.remote] {
        bytes.extend_from_slice(&held.token.get().to_be_bytes());
        bytes.extend_from_slice(&length_bytes(held.value.len()));
        bytes.extend_from_slice(&held.value);
    }
    bytes.extend_from_slice(&encode_key(&conflict.key)?);
    Ok(bytes)
}

/// A conflict of which only the name can be read: that there is one is not forgotten.
fn unreadable_conflict(tree_key: &[u8], stand_in: Vec<u8>, at: u64) -> Option<Conflict> {
    let held = Held { value: stand_in, token: FencingToken::NONE };
    Some(Conflict { key: name_of(tree_key)?, local: held.clone(), remote: held, at })
}

pub(super) fn decode_conflict(bytes: &[u8]) -> Option<Conflict> {
    let mut reader = Reader(bytes);
    if reader.take::<1>()? != [FORMAT] {
        return None;
    }
    let at = u64::from_be_bytes(reader.take()?);
    let mut held = || {
        let token = FencingToken::new(u64::from_be_bytes(reader.take()?));
        let length = u32::from_be_bytes(reader.take()?);
        Some(Held { value: reader.take_slice(length)?.to_vec(), token })
    };
    let (local, remote) = (held()?, held()?);
    Some(Conflict { key: serde_json::from_slice(reader.0).ok()?, local, remote, at })
}

/// A key's name where it does not stand in the tree key.
pub(super) fn encode_key(key: &EntryKey) -> Result<Vec<u8>> {
    serde_json::to_vec(key).map_err(|e| Error::new(Code::Internal, format!("{key} cannot be written: {e}")))
}

/// The error of what another program, or damage, put there.
pub(super) fn not_in_format(what: &str) -> Error {
    Error::new(Code::StoreDamaged, format!("{what} in the embedded store is not in its format"))
}

/// An entry's name: where it is too long for the tree key, a lock's stands in its value. (Of a command or a pull status that
/// was stored under such a name before the store followed Redis, it is nowhere: it stays here alone.)
pub(super) fn entry_name(tree_key: &[u8], value: &[u8]) -> Option<EntryKey> {
    name_of(tree_key).or_else(|| {
        let lock = ProjectLock::parse(value).ok()?;
        tree_key.starts_with(PROJECT_PREFIX).then(|| EntryKey::Project(lock.fields().key()))
    })
}

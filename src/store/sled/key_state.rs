//! What is known of each key while the store follows Redis (`store::contract::local`), and the changes of that.

use std::collections::BTreeSet;

use super::history::{self, History};
use super::host_marks::{begin_copy, host_key, host_lacks, read_mark, write_mark};
use super::pull_index::{add_lock, index_prefix, remove_lock};
use super::record::{
    self, CONFLICT_PREFIX, ENTRY_PREFIXES, HISTORY_PREFIX, HOST_KEY, Header, REDIS_KEY, Verdict, beside, key_of,
};
use super::remembered::{encode_conflict, entry_name, read_release, release_key};
use super::transaction::Transaction;
use crate::domain::lock::PullRef;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Change, Conflict, EntryKey, Held, KeyState, MOST_RELEASED, RedisRecord, SyncState, digest};

/// Writes down that this store, following Redis, changed the entry alone; `old` is what was there.
pub(super) fn decided(tx: &mut Transaction<'_>, key: &EntryKey, old: Option<(Header, &[u8])>) -> Result<()> {
    if !tx.follows_redis()? {
        return Ok(());
    }
    host_lacks(tx, key, old.map(|(_, value)| value))?;
    let mut history = history::read(tx, key)?;
    if let Some((header, value)) = old {
        history.supersede(&Held { value: value.to_vec(), token: header.token });
    }
    history.state = SyncState::Decided;
    let now = tx.held(key)?;
    history.admit(now.as_ref());
    history::write(tx, key, history)
}

/// Makes one change.
pub(super) fn apply(tx: &mut Transaction<'_>, change: &Change) -> Result<()> {
    match change {
        Change::Intend(key, new) => supersede(tx, key, new.as_ref(), SyncState::Pending),
        Change::SetHere(key, new) => supersede(tx, key, new.as_ref(), SyncState::Decided),
        Change::Decide(key) => {
            let history = history::read(tx, key)?;
            history::write(tx, key, History { state: SyncState::Decided, ..history })
        }
        Change::Confirm(key, token) => {
            if let Some(held) = tx.held(key)?
                && held.token != *token
            {
                replace(tx, key, Some(&Held { token: *token, ..held }))?;
            }
            let history = history::read(tx, key)?;
            history::write(tx, key, History { state: SyncState::Synced, ..history })
        }
        Change::Set(key, to) => set(tx, key, to.as_ref(), FencingToken::NONE),
        Change::Adopt(key, to, last_token) => set(tx, key, to.as_ref(), *last_token),
        Change::Conflict(key, remote) => {
            if let Some(local) = tx.held(key)? {
                let conflict = Conflict { key: key.clone(), local, remote: remote.clone(), at: tx.now_micros() };
                tx.put_entry(&beside(CONFLICT_PREFIX, &key_of(key)), tx.new_status(), &encode_conflict(&conflict)?)?;
            }
            set(tx, key, Some(remote), FencingToken::NONE)
        }
        Change::EndConflict(key) => tx.remove_entry(&beside(CONFLICT_PREFIX, &key_of(key))),
        Change::ReleaseLater(release) => {
            let bytes = serde_json::to_vec(release).map_err(|e| Error::new(Code::Internal, format!("a release: {e}")))?;
            tx.put_entry(&release_key(release), tx.new_status(), &bytes)
        }
        Change::ReleasedPull(release) => {
            // A later one stays.
            match tx.entry(&release_key(release))? {
                Some((_, bytes)) if read_release(&bytes)? == *release => tx.remove_entry(&release_key(release)),
                _ => Ok(()),
            }
        }
        Change::CopyBegins => begin_copy(tx),
        Change::Copying(key, value) => match read_mark(tx, key)? {
            Some(mut there) => {
                // It may be tried again and again.
                there.retain(|known| known != value);
                there.push(*value);
                write_mark(tx, key, &there)
            }
            None => Ok(()),
        },
        Change::Copied(key, value) => {
            if tx.held(key)?.map(|held| digest(&held.value)) == *value {
                tx.remove_entry(&host_key(key))
            } else {
                // It has changed since.
                write_mark(tx, key, &[*value])
            }
        }
        Change::HostCopy(copy) => {
            let bytes =
                serde_json::to_vec(copy).map_err(|e| Error::new(Code::Internal, format!("the host store's mark: {e}")))?;
            tx.put(HOST_KEY.to_vec(), bytes)
        }
        Change::Redis(link) => follow(tx, link),
        Change::Forget(before, under_way) => forget(tx, *before, under_way),
    }
}

/// The value of a key; what was there must not come back.
fn supersede(tx: &mut Transaction<'_>, key: &EntryKey, to: Option<&Held>, state: SyncState) -> Result<()> {
    let mut history = history::read(tx, key)?;
    if let Some(old) = replace(tx, key, to)? {
        history.supersede(&old);
    }
    history.admit(to);
    history::write(tx, key, History { state, ..history })
}

/// The value of a key; of what was there, what has a token up to `released` gets a tombstone.
fn set(tx: &mut Transaction<'_>, key: &EntryKey, to: Option<&Held>, released: FencingToken) -> Result<()> {
    let old = replace(tx, key, to)?;
    let mut history = history::read(tx, key)?;
    // A token of 0 tells nothing: a stock server took the lock, or it is a pull status.
    if let Some(old) = old.filter(|old| !old.token.is_none() && old.token <= released) {
        history.supersede(&old);
    }
    history.admit(to);
    history::write(tx, key, History { state: SyncState::Synced, ..history })
}

/// Puts or removes an entry with its index, and returns what was there.
fn replace(tx: &mut Transaction<'_>, key: &EntryKey, new: Option<&Held>) -> Result<Option<Held>> {
    let tree_key = key_of(key);
    let old = tx.entry(&tree_key)?;
    if let Some((header, value)) = &old {
        remove_lock(tx, &tree_key, *header, value)?;
    }
    if let Some(held) = new {
        let prefix = match key {
            EntryKey::Project(_) => index_prefix(&held.value),
            _ => None,
        };
        let header = tx.lock_of(Verdict::of(prefix.is_some()), held.token);
        tx.put_entry(&tree_key, header, &held.value)?;
        if let Some(prefix) = prefix {
            add_lock(tx, &prefix, header.token, &tree_key)?;
        }
    }
    let before = old.as_ref().map(|(_, value)| value);
    if before != new.map(|held| &held.value) {
        host_lacks(tx, key, before.map(Vec::as_slice))?;
    }
    Ok(old.map(|(header, value)| Held { value, token: header.token }))
}

/// The first time, everything that is there was decided here.
fn follow(tx: &mut Transaction<'_>, link: &RedisRecord) -> Result<()> {
    if !tx.follows_redis()? {
        for prefix in ENTRY_PREFIXES {
            for tree_key in tx.scan(prefix)?.into_keys() {
                let Some((_, value)) = tx.entry(&tree_key)? else { continue };
                let Some(key) = entry_name(&tree_key, &value) else { continue };
                history::write(tx, &key, History { state: SyncState::Decided, ..History::default() })?;
            }
        }
    }
    let bytes = serde_json::to_vec(link).map_err(|e| Error::new(Code::Internal, format!("the link cannot be written: {e}")))?;
    tx.put(REDIS_KEY.to_vec(), bytes)?;
    tx.forget_link();
    Ok(())
}

fn forget(tx: &mut Transaction<'_>, before: u64, under_way: &BTreeSet<EntryKey>) -> Result<()> {
    let mut released = Vec::new();
    for tree_key in tx.scan(HISTORY_PREFIX)?.into_keys() {
        let Some((_, bytes)) = tx.entry(&tree_key)? else { continue };
        let (key, history) = History::decode(&tree_key[HISTORY_PREFIX.len()..], &bytes)?;
        // What a call that is under way decides rests on what is remembered here.
        if under_way.contains(&key) {
            continue;
        }
        let is_held = tx.raw(&key_of(&key))?.is_some();
        // An asked-for release is as good as made: it only keeps the lock from coming back.
        if history.state == SyncState::Synced || (history.state == SyncState::Pending && !is_held) {
            released.push((history.at, tree_key));
        }
    }
    released.sort_unstable();
    let surplus = released.len().saturating_sub(MOST_RELEASED);
    for (_, tree_key) in released.iter().enumerate().filter(|(nth, (at, _))| *nth < surplus || *at < before).map(|(_, r)| r) {
        tx.remove_entry(tree_key)?;
    }
    Ok(())
}

/// What is known of one key.
pub(super) fn local(tx: &Transaction<'_>, key: &EntryKey) -> Result<KeyState> {
    let History { state, at, tombstones } = history::read(tx, key)?;
    Ok(KeyState { value: tx.held(key)?, state, tombstones, at })
}

/// What is known of all keys.
pub(super) fn everything(tx: &Transaction<'_>) -> Result<Vec<(EntryKey, KeyState)>> {
    let mut all = std::collections::BTreeMap::new();
    for prefix in ENTRY_PREFIXES {
        for tree_key in tx.scan(prefix)?.into_keys() {
            let Some((header, value)) = tx.entry(&tree_key)? else { continue };
            if let Some(key) = entry_name(&tree_key, &value) {
                all.insert(key, KeyState { value: Some(Held { value, token: header.token }), ..KeyState::default() });
            }
        }
    }
    for tree_key in tx.scan(HISTORY_PREFIX)?.into_keys() {
        let Some((_, bytes)) = tx.entry(&tree_key)? else { continue };
        let (key, History { state, at, tombstones }) = History::decode(&tree_key[HISTORY_PREFIX.len()..], &bytes)?;
        let value = match all.remove(&key) {
            Some(known) => known.value,
            None => tx.held(&key)?,
        };
        all.insert(key, KeyState { value, state, tombstones, at });
    }
    Ok(all.into_iter().collect())
}

/// The project locks in the by-pull index of this pull.
pub(super) fn held_by(tx: &Transaction<'_>, pull: PullRef<'_>) -> Result<Vec<EntryKey>> {
    let mut keys = Vec::new();
    for tree_key in tx.scan(&record::pull_prefix(pull))?.into_values() {
        if let Some((_, value)) = tx.entry(&tree_key)? {
            keys.extend(entry_name(&tree_key, &value));
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use sled::IVec;

    use crate::hybrid::resolve::{Action, Evidence, resolve};
    use crate::store::contract::shared::Remote;
    use crate::store::sled::meta::Meta;

    /// Two locks that a stock server took, which gives no token: each is found by its pull, whichever is released before.
    #[test]
    fn locks_of_one_pull_and_one_token_are_all_found() {
        let keys = ["x", "y", "z"].map(|path| EntryKey::Project(format!("a/b/{path}/default/")));
        let held = |key: &EntryKey| {
            let path = key.name().split('/').nth(2).unwrap();
            let project = format!(r#"{{"RepoFullName":"a/b","Path":"{path}","ProjectName":""}}"#);
            let value = format!(r#"{{"Project":{project},"Pull":{{"Num":1}},"Workspace":"default"}}"#).into_bytes();
            Some(Held { value, token: FencingToken::NONE })
        };
        let pull = PullRef { repo: "a/b", num: 1 };
        for first in &keys {
            let tree = BTreeMap::<Vec<u8>, IVec>::new();
            let mut tx = Transaction::new(&tree, Meta::default(), 0);
            keys.iter().for_each(|key| set(&mut tx, key, held(key).as_ref(), FencingToken::NONE).unwrap());
            assert_eq!(held_by(&tx, pull).unwrap(), keys);
            set(&mut tx, first, None, FencingToken::NONE).unwrap();
            let rest: Vec<_> = keys.iter().filter(|key| *key != first).cloned().collect();
            assert_eq!(held_by(&tx, pull).unwrap(), rest);
            rest.iter().for_each(|key| set(&mut tx, key, None, FencingToken::NONE).unwrap());
            assert_eq!(tx.scan(record::INDEX_PREFIX).unwrap(), BTreeMap::new());
        }
    }

    /// A machine may stand still for hours in the middle of a release. What happened before that is forgotten in the same group as the
    /// release is decided, and Redis still has the lock.
    #[test]
    fn a_release_under_way_is_not_forgotten() {
        let key = EntryKey::Command("apply".to_owned());
        let held = Held { value: b"A".to_vec(), token: FencingToken::new(10) };
        let there = Remote { value: Some(held.value.clone()), token: held.token, ..Remote::default() };
        // Once its call is over, a release is forgotten: Redis has made it, or the start sees to it.
        for (under_way, then) in [(BTreeSet::from([key.clone()]), Action::Push), (BTreeSet::new(), Action::Adopt)] {
            let store = BTreeMap::new();
            let mut tx = Transaction::new(&store, Meta::default(), 1_000_000);
            let changes = [
                Change::Set(key.clone(), Some(held.clone())),
                Change::Intend(key.clone(), None),
                Change::Forget(u64::MAX, under_way),
                Change::Decide(key.clone()),
            ];
            changes.iter().for_each(|change| apply(&mut tx, change).unwrap());
            assert_eq!(resolve(&key, &local(&tx, &key).unwrap(), &there, Evidence::default()), then);
        }
    }

    /// A release that a crash kept from being written down: what Redis says later tells that it was one.
    #[test]
    fn what_redis_has_released_gets_a_tombstone_by_what_is_adopted() {
        let key = EntryKey::Project("a/b/c/default/".to_owned());
        let held = |value: &str, token| Held { value: value.as_bytes().to_vec(), token: FencingToken::new(token) };
        for (token, last_token, then) in [
            (10, 10, Action::Push),
            (10, 20, Action::Push),
            // Redis may have lost it.
            (10, 9, Action::Adopt),
            (10, 0, Action::Adopt),
            // A stock server took it, of which Redis remembers nothing.
            (0, 20, Action::Adopt),
        ] {
            for now in [None, Some(held("B", 20))] {
                let store = BTreeMap::new();
                let mut tx = Transaction::new(&store, Meta::default(), 1_000_000);
                let changes = [
                    Change::Set(key.clone(), Some(held("A", token))),
                    Change::Adopt(key.clone(), now.clone(), FencingToken::new(last_token)),
                ];
                changes.iter().for_each(|change| apply(&mut tx, change).unwrap());
                let known = local(&tx, &key).unwrap();
                assert_eq!(known.value, now);
                let came_back = Remote { value: Some(b"A".to_vec()), token: FencingToken::new(token), ..Remote::default() };
                let evidence = Evidence { recently: true, ..Evidence::default() };
                // It is from before the lock that Redis had confirmed then.
                let is_before = then == Action::Adopt && token != 0 && now.is_some();
                let then = if is_before { Action::Conflict } else { then };
                assert_eq!(resolve(&key, &known, &came_back, evidence), then, "{token} {last_token} {now:?}");
            }
        }
    }
}

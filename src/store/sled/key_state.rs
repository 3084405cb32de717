//! What is remembered beside an entry while the store follows Redis (`store::contract::local`), and the changes to it.
//!
//! A history is there only for a key whose state is not settled, or of which a value is remembered; of a settled key that was
//! never released there is none.

use sled::IVec;

use super::pull_index::{index_prefix, remove_lock};
use super::record::{
    self, CONFLICT_PREFIX, ENTRY_PREFIXES, HISTORY_PREFIX, HOST_KEY, HOST_LACKS_PREFIX, Header, PROJECT_PREFIX,
    PULL_RELEASE_PREFIX, REDIS_KEY, Reader, Verdict, beside, is_named, key_of, length_bytes, name_of,
};
use super::transaction::Transaction;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{
    Change, Conflict, EntryKey, Held, HostCopy, HostLacks, KeyState, MAX_TOMBSTONES, MOST_RELEASED, PullRelease, RedisRecord,
    SyncState, Tombstone, digest,
};

const FORMAT: u8 = 1;

/// What is remembered of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct History {
    state: SyncState,
    at: u64,
    tombstones: Vec<Tombstone>,
}

impl History {
    fn supersede(&mut self, held: &Held) {
        let old = Tombstone::of(held, self.state == SyncState::Decided);
        self.admit(Some(held));
        let is_like = |known: &&Tombstone| known.only_here == old.only_here;
        if self.tombstones.iter().filter(is_like).count() >= MAX_TOMBSTONES
            && let Some(oldest) = self.tombstones.iter().position(|known| is_like(&known))
        {
            self.tombstones.remove(oldest);
        }
        self.tombstones.push(old);
    }

    fn admit(&mut self, held: Option<&Held>) {
        if let Some(held) = held {
            self.tombstones.retain(|known| !known.is(&held.value, held.token));
        }
    }

    fn is_empty(&self) -> bool {
        self.state == SyncState::Synced && self.tombstones.is_empty()
    }

    /// The name stands in it where it does not stand in the tree key.
    fn encode(&self, key: &EntryKey) -> Result<Vec<u8>> {
        let state = match self.state {
            SyncState::Synced => 0,
            SyncState::Pending => 1,
            SyncState::Decided => 2,
        };
        let mut bytes = vec![FORMAT, state];
        bytes.extend_from_slice(&self.at.to_be_bytes());
        bytes.extend_from_slice(&length_bytes(self.tombstones.len()));
        for old in &self.tombstones {
            bytes.extend_from_slice(&old.digest);
            bytes.extend_from_slice(&old.token.to_be_bytes());
            bytes.push(u8::from(old.only_here));
        }
        if !is_named(key) {
            bytes.extend_from_slice(&encode_key(key)?);
        }
        Ok(bytes)
    }

    fn decode(tree_key: &[u8], bytes: &[u8]) -> Result<(EntryKey, History)> {
        let mut reader = Reader(bytes);
        let history = (|| {
            if reader.take::<1>()? != [FORMAT] {
                return None;
            }
            let state = match reader.take()? {
                [0] => SyncState::Synced,
                [1] => SyncState::Pending,
                [2] => SyncState::Decided,
                _ => return None,
            };
            let at = u64::from_be_bytes(reader.take()?);
            let count = u32::from_be_bytes(reader.take()?);
            let tombstones = (0..count)
                .map(|_| {
                    let (digest, token) = (reader.take()?, u64::from_be_bytes(reader.take()?));
                    Some(Tombstone { digest, token, only_here: reader.take()? != [0] })
                })
                .collect::<Option<Vec<_>>>()?;
            Some(History { state, at, tombstones })
        })();
        let name = name_of(tree_key).or_else(|| serde_json::from_slice(reader.0).ok());
        name.zip(history).ok_or_else(|| not_in_format("a history"))
    }
}

fn encode_key(key: &EntryKey) -> Result<Vec<u8>> {
    serde_json::to_vec(key).map_err(|e| Error::new(Code::Internal, format!("{key} cannot be written: {e}")))
}

fn not_in_format(what: &str) -> Error {
    Error::new(Code::StoreDamaged, format!("{what} in the embedded store is not in its format"))
}

/// Writes down that this store, following Redis, changed the entry alone; `old` is what was there.
pub(super) fn decided(tx: &mut Transaction<'_>, key: &EntryKey, old: Option<(Header, &[u8])>) -> Result<()> {
    if !tx.follows_redis()? {
        return Ok(());
    }
    host_lacks(tx, key, old.map(|(_, value)| value))?;
    let mut history = read(tx, key)?;
    if let Some((header, value)) = old {
        history.supersede(&Held { value: value.to_vec(), token: header.token });
    }
    history.state = SyncState::Decided;
    let now = current(tx, key)?;
    history.admit(now.as_ref());
    write(tx, key, history)
}

/// Makes one change.
pub(super) fn apply(tx: &mut Transaction<'_>, change: &Change) -> Result<()> {
    match change {
        Change::Intend(key, new) => supersede(tx, key, new.as_ref(), SyncState::Pending),
        Change::SetHere(key, new) => supersede(tx, key, new.as_ref(), SyncState::Decided),
        Change::Decide(key) => {
            let history = read(tx, key)?;
            write(tx, key, History { state: SyncState::Decided, ..history })
        }
        Change::Confirm(key, token) => {
            if let Some(held) = current(tx, key)?
                && held.token != *token
            {
                replace(tx, key, Some(&Held { token: *token, ..held }))?;
            }
            let history = read(tx, key)?;
            write(tx, key, History { state: SyncState::Synced, ..history })
        }
        Change::Set(key, to) => set(tx, key, to.as_ref(), 0),
        Change::Adopt(key, to, last_token) => set(tx, key, to.as_ref(), *last_token),
        Change::Conflict(key, remote) => {
            if let Some(local) = current(tx, key)? {
                let conflict = Conflict { key: key.clone(), local, remote: remote.clone(), at: tx.now_micros() };
                tx.put_entry(&beside(CONFLICT_PREFIX, &key_of(key)), tx.new_status(), &encode_conflict(&conflict)?)?;
            }
            set(tx, key, Some(remote), 0)
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
        Change::FollowHost => follow_host(tx),
        Change::Following(key, value) => match read_mark(tx, key)? {
            Some(mut there) => {
                // It may be tried again and again.
                there.retain(|known| known != value);
                there.push(*value);
                write_mark(tx, key, &there)
            }
            None => Ok(()),
        },
        Change::Followed(key, value) => {
            if current(tx, key)?.map(|held| digest(&held.value)) == *value {
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
        Change::Forget(before) => forget(tx, *before),
    }
}

/// The value of a key; what was there must not come back.
fn supersede(tx: &mut Transaction<'_>, key: &EntryKey, to: Option<&Held>, state: SyncState) -> Result<()> {
    let mut history = read(tx, key)?;
    if let Some(old) = replace(tx, key, to)? {
        history.supersede(&old);
    }
    history.admit(to);
    write(tx, key, History { state, ..history })
}

/// The value of a key; of what was there, what has a token up to `released` gets a tombstone.
fn set(tx: &mut Transaction<'_>, key: &EntryKey, to: Option<&Held>, released: u64) -> Result<()> {
    let old = replace(tx, key, to)?;
    let mut history = read(tx, key)?;
    // A token of 0 tells nothing: a stock server took the lock, or it is a pull status.
    if let Some(old) = old.filter(|old| old.token != 0 && old.token <= released) {
        history.supersede(&old);
    }
    history.admit(to);
    write(tx, key, History { state: SyncState::Synced, ..history })
}

/// What the store has at this key.
fn current(tx: &Transaction<'_>, key: &EntryKey) -> Result<Option<Held>> {
    Ok(tx.entry(&key_of(key))?.map(|(header, value)| Held { value, token: header.token }))
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
            tx.put(record::index_key(&prefix, header.token), tree_key)?;
        }
    }
    let before = old.as_ref().map(|(_, value)| value);
    if before != new.map(|held| &held.value) {
        host_lacks(tx, key, before.map(Vec::as_slice))?;
    }
    Ok(old.map(|(header, value)| Held { value, token: header.token }))
}

fn host_key(key: &EntryKey) -> Vec<u8> {
    beside(HOST_LACKS_PREFIX, &key_of(key))
}

/// Writes down that the host store does not have the entry's value yet, but the one that was here before: `base`.
fn host_lacks(tx: &mut Transaction<'_>, key: &EntryKey, base: Option<&[u8]>) -> Result<()> {
    if !tx.has_host()? || tx.raw(&host_key(key))?.is_some() {
        return Ok(());
    }
    write_mark(tx, key, &[base.map(digest)])
}

/// A mark says what the host store may have: how many, then each.
fn write_mark(tx: &mut Transaction<'_>, key: &EntryKey, there: &[Option<[u8; 32]>]) -> Result<()> {
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

fn decode_mark(tree_key: &[u8], bytes: &[u8]) -> Result<(EntryKey, Vec<Option<[u8; 32]>>)> {
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

fn read_mark(tx: &Transaction<'_>, key: &EntryKey) -> Result<Option<Vec<Option<[u8; 32]>>>> {
    let tree_key = key_of(key);
    match tx.entry(&host_key(key))? {
        Some((_, bytes)) => decode_mark(&tree_key, &bytes).map(|(_, there)| Some(there)),
        None => Ok(None),
    }
}

/// The first time, the host store has nothing of what is here.
fn follow_host(tx: &mut Transaction<'_>) -> Result<()> {
    if tx.has_host()? {
        return Ok(());
    }
    tx.put(HOST_KEY.to_vec(), Vec::new())?;
    tx.forget_link();
    for prefix in ENTRY_PREFIXES {
        for tree_key in tx.scan(prefix)?.into_keys() {
            let Some((_, value)) = tx.entry(&tree_key)? else { continue };
            if let Some(key) = name(&tree_key, &value) {
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
        let value = current(tx, &key)?.map(|held| held.value);
        lacking.push(HostLacks { key, value, there });
    }
    Ok(lacking)
}

fn read(tx: &Transaction<'_>, key: &EntryKey) -> Result<History> {
    let tree_key = key_of(key);
    match tx.entry(&beside(HISTORY_PREFIX, &tree_key))? {
        Some((_, bytes)) => History::decode(&tree_key, &bytes).map(|(_, history)| history),
        None => Ok(History::default()),
    }
}

fn write(tx: &mut Transaction<'_>, key: &EntryKey, history: History) -> Result<()> {
    let beside = beside(HISTORY_PREFIX, &key_of(key));
    if history.is_empty() {
        return tx.remove_entry(&beside);
    }
    let history = History { at: tx.now_micros(), ..history };
    tx.put_entry(&beside, tx.new_status(), &history.encode(key)?)
}

/// The first time, everything that is there was decided here.
fn follow(tx: &mut Transaction<'_>, link: &RedisRecord) -> Result<()> {
    if !tx.follows_redis()? {
        for prefix in ENTRY_PREFIXES {
            for tree_key in tx.scan(prefix)?.into_keys() {
                let Some((_, value)) = tx.entry(&tree_key)? else { continue };
                let Some(key) = name(&tree_key, &value) else { continue };
                write(tx, &key, History { state: SyncState::Decided, ..History::default() })?;
            }
        }
    }
    let bytes = serde_json::to_vec(link).map_err(|e| Error::new(Code::Internal, format!("the link cannot be written: {e}")))?;
    tx.put(REDIS_KEY.to_vec(), bytes)?;
    tx.forget_link();
    Ok(())
}

/// An entry's name: where it is too long for the tree key, a lock's stands in its value. (Of a command or a pull status that
/// was stored under such a name before the store followed Redis, it is nowhere: it stays here alone.)
pub(super) fn name(tree_key: &[u8], value: &[u8]) -> Option<EntryKey> {
    name_of(tree_key).or_else(|| {
        let lock = ProjectLock::parse(value).ok()?;
        tree_key.starts_with(PROJECT_PREFIX).then(|| EntryKey::Project(lock.fields().key()))
    })
}

fn forget(tx: &mut Transaction<'_>, before: u64) -> Result<()> {
    let mut released = Vec::new();
    for tree_key in tx.scan(HISTORY_PREFIX)?.into_keys() {
        let Some((_, bytes)) = tx.entry(&tree_key)? else { continue };
        let (key, history) = History::decode(&tree_key[HISTORY_PREFIX.len()..], &bytes)?;
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
    let History { state, at, tombstones } = read(tx, key)?;
    Ok(KeyState { value: current(tx, key)?, state, tombstones, at })
}

/// What is known of all keys.
pub(super) fn everything(tx: &Transaction<'_>) -> Result<Vec<(EntryKey, KeyState)>> {
    let mut all = std::collections::BTreeMap::new();
    for prefix in ENTRY_PREFIXES {
        for tree_key in tx.scan(prefix)?.into_keys() {
            let Some((header, value)) = tx.entry(&tree_key)? else { continue };
            if let Some(key) = name(&tree_key, &value) {
                all.insert(key, KeyState { value: Some(Held { value, token: header.token }), ..KeyState::default() });
            }
        }
    }
    for tree_key in tx.scan(HISTORY_PREFIX)?.into_keys() {
        let Some((_, bytes)) = tx.entry(&tree_key)? else { continue };
        let (key, History { state, at, tombstones }) = History::decode(&tree_key[HISTORY_PREFIX.len()..], &bytes)?;
        let value = match all.remove(&key) {
            Some(known) => known.value,
            None => current(tx, &key)?,
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
            keys.extend(name(&tree_key, &value));
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

/// What is remembered of Redis.
pub(super) fn redis_record(bytes: Option<IVec>) -> Result<Option<RedisRecord>> {
    bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|_| not_in_format("the link to Redis"))).transpose()
}

fn release_key(release: &PullRelease) -> Vec<u8> {
    beside(PULL_RELEASE_PREFIX, &record::pull_prefix(PullRef { repo: &release.repo, num: release.num }))
}

fn read_release(bytes: &[u8]) -> Result<PullRelease> {
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
        if let Some((_, bytes)) = tx.entry(&tree_key)? {
            conflicts.push(decode_conflict(&bytes).ok_or_else(|| not_in_format("a conflict"))?);
        }
    }
    Ok(conflicts)
}

fn encode_conflict(conflict: &Conflict) -> Result<Vec<u8>> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&conflict.at.to_be_bytes());
    for held in [&conflict.local, &conflict.remote] {
        bytes.extend_from_slice(&held.token.to_be_bytes());
        bytes.extend_from_slice(&length_bytes(held.value.len()));
        bytes.extend_from_slice(&held.value);
    }
    bytes.extend_from_slice(&encode_key(&conflict.key)?);
    Ok(bytes)
}

fn decode_conflict(bytes: &[u8]) -> Option<Conflict> {
    let mut reader = Reader(bytes);
    if reader.take::<1>()? != [FORMAT] {
        return None;
    }
    let at = u64::from_be_bytes(reader.take()?);
    let mut held = || {
        let token = u64::from_be_bytes(reader.take()?);
        let length = u32::from_be_bytes(reader.take()?);
        Some(Held { value: reader.take_slice(length)?.to_vec(), token })
    };
    let (local, remote) = (held()?, held()?);
    Some(Conflict { key: serde_json::from_slice(reader.0).ok()?, local, remote, at })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::clock::SystemClock;
    use crate::hybrid::resolve::{Action, Evidence, resolve};
    use crate::store::contract::local::LocalStore as _;
    use crate::store::contract::shared::Remote;
    use crate::store::sled::in_memory::{Disk, InMemoryStore};

    /// A release that a crash kept from being written down: what Redis says later tells that it was one.
    #[test]
    fn what_redis_has_released_gets_a_tombstone_by_what_is_adopted() {
        let key = EntryKey::Project("a/b/c/default/".to_owned());
        let held = |value: &str, token| Held { value: value.as_bytes().to_vec(), token };
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
                let store = InMemoryStore::new(Arc::new(SystemClock), Box::new(|| Disk::Works));
                let changes =
                    vec![Change::Set(key.clone(), Some(held("A", token))), Change::Adopt(key.clone(), now.clone(), last_token)];
                store.submit(Vec::new(), changes, Instant::now()).unwrap().wait(Instant::now()).unwrap();
                let known = store.local(&key).unwrap();
                assert_eq!(known.value, now);
                let came_back = Remote { value: Some(b"A".to_vec()), token, holder: String::new() };
                let evidence = Evidence { recently: true, ..Evidence::default() };
                // It is from before the lock that Redis had confirmed then.
                let is_before = then == Action::Adopt && token != 0 && now.is_some();
                let then = if is_before { Action::Conflict } else { then };
                assert_eq!(resolve(&key, &known, &came_back, evidence), then, "{token} {last_token} {now:?}");
            }
        }
    }
}

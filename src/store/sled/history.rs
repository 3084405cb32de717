//! What is remembered of one key while the store follows Redis: its state, and which values were there before.
//!
//! A history is there only for a key whose state is not synced, or of which a value is remembered; of a synced key that was never
//! released there is none.

use super::record::{HISTORY_PREFIX, Reader, beside, is_named, key_of, length_bytes, name_of};
use super::remembered::{encode_key, not_in_format};
use super::transaction::Transaction;
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::store::contract::local::{EntryKey, Held, MAX_TOMBSTONES, SyncState, Tombstone};

const FORMAT: u8 = 1;

/// The states in the order of their bytes: a key's, and a tombstone's.
const STATES: [SyncState; 3] = [SyncState::Synced, SyncState::Pending, SyncState::Decided];
const TOMBSTONE_STATES: [SyncState; 3] = [SyncState::Synced, SyncState::Decided, SyncState::Pending];

/// What is remembered of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    pub state: SyncState,
    pub at: u64,
    pub tombstones: Vec<Tombstone>,
}

impl History {
    /// This value was there, and must not come back.
    pub(super) fn supersede(&mut self, held: &Held) {
        let old = Tombstone::of(held, self.state);
        self.drop_like(&old);
        let is_like = |known: &&Tombstone| known.state == old.state;
        if self.tombstones.iter().filter(is_like).count() >= MAX_TOMBSTONES
            && let Some(oldest) = self.tombstones.iter().position(|known| is_like(&known))
        {
            self.tombstones.remove(oldest);
        }
        self.tombstones.push(old);
    }

    /// This value is there.
    pub(super) fn admit(&mut self, held: Option<&Held>) {
        // All documents have one token, and a queue is long: its digest is made once, and not for each that is remembered.
        if let Some(held) = held.filter(|held| self.tombstones.iter().any(|known| known.token == held.token)) {
            self.drop_like(&Tombstone::of(held, self.state));
        }
    }

    fn drop_like(&mut self, value: &Tombstone) {
        self.tombstones.retain(|known| (known.token, known.digest) != (value.token, value.digest));
    }

    fn is_empty(&self) -> bool {
        self.state == SyncState::Synced && self.tombstones.is_empty()
    }

    /// The name stands in it where it does not stand in the tree key.
    pub(super) fn encode(&self, key: &EntryKey) -> Result<Vec<u8>> {
        let mut bytes = vec![FORMAT, byte_of(self.state, STATES)];
        bytes.extend_from_slice(&self.at.to_be_bytes());
        bytes.extend_from_slice(&length_bytes(self.tombstones.len()));
        for old in &self.tombstones {
            bytes.extend_from_slice(&old.digest);
            bytes.extend_from_slice(&old.token.get().to_be_bytes());
            bytes.push(byte_of(old.state, TOMBSTONE_STATES));
        }
        if !is_named(key) {
            bytes.extend_from_slice(&encode_key(key)?);
        }
        Ok(bytes)
    }

    /// A history, and whose it is.
    pub(super) fn decode(tree_key: &[u8], bytes: &[u8]) -> Result<(EntryKey, History)> {
        let mut reader = Reader(bytes);
        let history = (|| {
            if reader.take::<1>()? != [FORMAT] {
                return None;
            }
            let state = state_of(reader.take()?, STATES)?;
            let at = u64::from_be_bytes(reader.take()?);
            let count = u32::from_be_bytes(reader.take()?);
            let tombstones = (0..count)
                .map(|_| {
                    let (digest, token) = (reader.take()?, FencingToken::new(u64::from_be_bytes(reader.take()?)));
                    Some(Tombstone { digest, token, state: state_of(reader.take()?, TOMBSTONE_STATES)? })
                })
                .collect::<Option<Vec<_>>>()?;
            Some(History { state, at, tombstones })
        })();
        let name = name_of(tree_key).or_else(|| serde_json::from_slice(reader.0).ok());
        name.zip(history).ok_or_else(|| not_in_format("a history"))
    }
}

/// The place of a state among those that a byte may mean.
fn byte_of(state: SyncState, states: [SyncState; 3]) -> u8 {
    (0..).zip(states).find(|(_, meant)| *meant == state).map_or(u8::MAX, |(byte, _)| byte)
}

fn state_of(byte: [u8; 1], states: [SyncState; 3]) -> Option<SyncState> {
    states.get(usize::from(byte[0])).copied()
}

/// What is remembered of a key.
pub(super) fn read(tx: &Transaction<'_>, key: &EntryKey) -> Result<History> {
    let tree_key = key_of(key);
    match tx.entry(&beside(HISTORY_PREFIX, &tree_key))? {
        Some((_, bytes)) => History::decode(&tree_key, &bytes).map(|(_, history)| history),
        None => Ok(History::default()),
    }
}

/// Remembers it.
pub(super) fn write(tx: &mut Transaction<'_>, key: &EntryKey, history: History) -> Result<()> {
    let beside = beside(HISTORY_PREFIX, &key_of(key));
    if history.is_empty() {
        return tx.remove_entry(&beside);
    }
    let history = History { at: tx.now_micros(), ..history };
    tx.put_entry(&beside, tx.new_status(), &history.encode(key)?)
}

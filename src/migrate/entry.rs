//! What a store has, as far as a migration can take it along: read, checked, and what cannot be taken beside it, with the reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::json::parse_json;
use crate::domain::limits::MAX_KEY_BYTES;
use crate::domain::lock::ProjectLock;
use crate::queue;
use crate::store::contract::local::{EntryKey, Held, MAX_VALUE_BYTES};

/// What a store keeps of an entry beside its bytes, at most: the key once more in an index, the token and the last changes in Redis.
const BESIDE: u64 = 1024;
/// Longest part of a key that is told.
const SHOWN: usize = 200;

/// An entry that can be taken along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Bytes and token.
    pub held: Held,
    /// The key at which it stands: of a lock of Atlantis before v0.40 an old one.
    pub at: EntryKey,
}

/// An entry that cannot be taken along, and stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its key, shortened.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// What a store has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    pub entries: BTreeMap<EntryKey, Entry>,
    pub skipped: Vec<Skipped>,
    /// Keys at which something stands that cannot be taken along; its bytes, if it has any that can be compared.
    pub unreadable: BTreeMap<EntryKey, Option<Held>>,
    /// Keys of which the store does not know whether a change was made.
    pub in_doubt: Vec<EntryKey>,
    /// No token was given there that is larger.
    pub last_token: u64,
}

impl Survey {
    /// Adds what stands at a key, if it can be taken along.
    pub fn add(&mut self, at: EntryKey, held: Held) {
        match current_key(&at, &held.value) {
            // Today's key counts; what stands at an old one beside it is another lock.
            Ok(key) if key == at => self.insert(key, Entry { held, at }),
            Ok(key) if self.entries.contains_key(&key) => self.hidden(&at),
            Ok(key) => self.insert(key, Entry { held, at }),
            Err(reason) => {
                self.skip(&at.to_string(), reason);
                self.unreadable.insert(at, Some(held));
            }
        }
    }

    fn insert(&mut self, key: EntryKey, entry: Entry) {
        if let Some(before) = self.entries.insert(key, entry) {
            self.hidden(&before.at);
        }
    }

    fn hidden(&mut self, at: &EntryKey) {
        self.skip(&at.to_string(), "it has a key of Atlantis before v0.40, and another lock is at today's key".to_owned());
    }

    /// Adds what cannot be taken along.
    pub fn skip(&mut self, key: &str, reason: String) {
        let mut letters = key.chars();
        let mut key: String = letters.by_ref().take(SHOWN).collect();
        if letters.next().is_some() {
            key.push('…');
        }
        self.skipped.push(Skipped { key, reason });
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for key in self.entries.keys() {
            *counts.entry(kind(key).to_owned()).or_insert(0) += 1;
        }
        counts
    }

    /// How many bytes its entries take elsewhere, rounded up.
    pub fn weight(&self) -> u64 {
        let weight = |(key, entry): (&EntryKey, &Entry)| 2 * key.name().len() + entry.held.value.len();
        self.entries.iter().map(|entry| u64::try_from(weight(entry)).unwrap_or(u64::MAX).saturating_add(BESIDE)).sum()
    }

    /// SHA-256 over all entries, in order.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (key, entry) in &self.entries {
            for part in [kind(key).as_bytes(), key.name().as_bytes(), &entry.held.value] {
                hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(part);
            }
        }
        hex(&hash.finalize())
    }
}

/// What an entry is, in a file.
pub(super) fn kind(key: &EntryKey) -> &'static str {
    match key {
        EntryKey::Project(_) => "lock",
        EntryKey::Command(_) => "command",
        EntryKey::Status(_) => "status",
        EntryKey::Queue(_) => "queue",
        EntryKey::Freezes => "freezes",
    }
}

/// The key of a kind and a name.
pub(super) fn key_of(kind: &str, name: &str) -> Option<EntryKey> {
    let name = name.to_owned();
    Some(match kind {
        "lock" => EntryKey::Project(name),
        "command" => EntryKey::Command(name),
        "status" => EntryKey::Status(name),
        "queue" => EntryKey::Queue(name),
        "freezes" => EntryKey::Freezes,
        _ => return None,
    })
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key under which an entry is taken along, or why it cannot be.
fn current_key(at: &EntryKey, value: &[u8]) -> Result<EntryKey, String> {
    if at.name().len() > MAX_KEY_BYTES {
        return Err(format!("its key has {} bytes; at most {MAX_KEY_BYTES} are taken", at.name().len()));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!("it has {} bytes; at most {MAX_VALUE_BYTES} are taken", value.len()));
    }
    match at {
        EntryKey::Project(name) => {
            let lock = ProjectLock::parse(value).map_err(|e| e.message().to_owned())?;
            let current = lock.fields().key();
            if *name != current && *name != lock.fields().old_key() {
                return Err(format!("its fields belong to the key {current:?}"));
            }
            Ok(EntryKey::Project(current))
        }
        EntryKey::Queue(_) if queue::merge(value, value).is_none() => Err("it is no queue that this version reads".to_owned()),
        _ => parse_json::<serde::de::IgnoredAny>(value).map(|_| at.clone()).map_err(|e| format!("it is no JSON: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::FencingToken;

    fn held(value: &str) -> Held {
        Held { value: value.as_bytes().to_vec(), token: FencingToken::NONE }
    }

    fn lock(num: i64) -> String {
        format!(r#"{{"Project":{{"RepoFullName":"a/b","Path":"p"}},"Workspace":"d","Pull":{{"Num":{num}}}}}"#)
    }

    #[test]
    fn an_old_key_becomes_todays_unless_that_is_held() {
        let (old, current) = (EntryKey::Project("a/b/p/d".to_owned()), EntryKey::Project("a/b/p/d/".to_owned()));
        let mut survey = Survey::default();
        survey.add(old.clone(), held(&lock(1)));
        assert_eq!(survey.entries[&current].at, old);
        for order in [[&old, &current], [&current, &old]] {
            let mut survey = Survey::default();
            order.iter().for_each(|key| survey.add((*key).clone(), held(&lock(if **key == old { 1 } else { 2 }))));
            assert_eq!((survey.entries.len(), survey.skipped.len()), (1, 1));
            assert_eq!(survey.entries[&current].at, current);
        }
    }

    #[test]
    fn what_cannot_be_taken_is_told_with_its_reason() {
        let mut survey = Survey::default();
        survey.add(EntryKey::Project("a/b/other/d/".to_owned()), held(&lock(1)));
        survey.add(EntryKey::Project("x".to_owned()), held("garbage"));
        survey.add(EntryKey::Command("apply".to_owned()), held("{"));
        survey.add(EntryKey::Queue("a/b".to_owned()), held("{}"));
        survey.add(EntryKey::Status("s".repeat(MAX_KEY_BYTES + 1)), held("{}"));
        assert_eq!((survey.entries.len(), survey.skipped.len()), (0, 5), "{:?}", survey.skipped);
        assert!(survey.skipped[0].reason.contains("a/b/p/d/") && survey.skipped[4].key.chars().count() == SHOWN + 1);
    }
}

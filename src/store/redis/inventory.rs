//! All that Redis has at the keys of locks, command locks and documents, with tokens: what a migration takes along, and what it cannot.
//! Nothing is changed.

use super::keys::ALL_LOCKS;
use super::listing::{Found, shown};
use super::scripts;
use super::shared::{ALL_COMMAND_LOCKS, ALL_STATUSES, command, is_pull_status, project, status};
use super::store::RedisStore;
use crate::call::Call;
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::store::Store as _;
use crate::store::contract::local::{EntryKey, Held, MAX_VALUE_BYTES, Named};

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Entries by the names of their keys; their values are not checked. A lock under a key of Atlantis before v0.40 has that key.
    pub entries: Vec<(EntryKey, Held)>,
    /// Redis keys that hold no value, or a too long one, what they would be the keys of, and why.
    pub unreadable: Vec<(String, Option<EntryKey>, String)>,
}

impl RedisStore {
    /// Looks at all of it. Not at one moment: what changes meanwhile may be old or new.
    pub fn inventory(&self, call: &Call) -> Result<Inventory> {
        let mut found = Inventory::default();
        for (pattern, entry) in [(ALL_LOCKS, project as fn(&str) -> _), (ALL_COMMAND_LOCKS, command), (ALL_STATUSES, status)] {
            let mut scan = self.scan(pattern, call);
            while let Some(mut keys) = scan.next_page()? {
                let of = |key: &[u8]| std::str::from_utf8(key).ok().and_then(entry);
                // What is no text, or no status's key, is another program's; a lock's it may be.
                keys.retain(|key| of(key).is_some() || pattern == ALL_LOCKS);
                for (key, value) in self.fetch(keys, call.deadline)? {
                    self.sort(&key, of(&key), value, call, &mut found)?;
                }
            }
        }
        for key in self.queues(call)?.into_iter().map(EntryKey::Queue).chain([EntryKey::Freezes]) {
            let Named::Document(document) = key.named() else { continue };
            let value = self.document(document, call)?;
            found.entries.extend(value.map(|value| (key.clone(), Held { value, token: FencingToken::NONE })));
        }
        Ok(found)
    }

    fn sort(&self, key: &[u8], entry: Option<EntryKey>, value: Found, call: &Call, found: &mut Inventory) -> Result<()> {
        let is_status = matches!(entry, Some(EntryKey::Status(_)));
        let of = entry.clone();
        let cannot = |reason: String| found.unreadable.push((shown(key), of, reason));
        match (entry, value) {
            // Another program's key may look alike.
            (Some(EntryKey::Status(_)), Found::Value(value)) if !is_pull_status(&value) => {}
            (Some(_), Found::TooLong(_) | Found::Other(_)) if is_status => {}
            (_, Found::TooLong(bytes)) => cannot(format!("it has {bytes} bytes; at most {MAX_VALUE_BYTES} are taken")),
            (_, Found::Other(kind)) => cannot(format!("it is a {kind} in Redis, not a string")),
            (None, Found::Value(_)) => cannot("its key is not UTF-8".to_owned()),
            (Some(entry), Found::Value(value)) if entry.lock().is_none() => {
                found.entries.push((entry, Held { value, token: FencingToken::NONE }));
            }
            // Value and token are of one moment.
            (Some(entry), Found::Value(_)) => {
                let held = self.remote_by(&scripts::LOOK, &entry, &self.page_of(call))?.held();
                found.entries.extend(held.map(|held| (entry, held)));
            }
        }
        Ok(())
    }
}

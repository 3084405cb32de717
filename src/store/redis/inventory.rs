//! All that Redis has at the keys of locks, command locks and documents, with tokens: what a migration takes along, and what it cannot.
//! Nothing is changed.

use redis::{FromRedisValue as _, Value};

use super::keys::{self, ALL_LOCKS, shown};
use super::listing::Found;
use super::scripts;
use super::shared::{ALL_COMMAND_LOCKS, ALL_STATUSES, command, is_pull_status, project, remote_of, status};
use super::store::RedisStore;
use crate::call::Call;
use crate::domain::token::FencingToken;
use crate::error::{Code, Result};
use crate::store::Store as _;
use crate::store::contract::local::{EntryKey, Held, MAX_VALUE_BYTES, Named};

/// Locks that one round trip reads.
const BATCH: usize = 500;

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
                let mut locks = Vec::new();
                for (key, value) in self.fetch(keys, call.deadline)? {
                    locks.extend(sort(&key, of(&key), value, &mut found));
                }
                self.look_at(locks, call, &mut found)?;
            }
        }
        for key in self.queues(call)?.into_iter().map(EntryKey::Queue).chain([EntryKey::Freezes]) {
            let Named::Document(document) = key.named() else { continue };
            let value = self.document(document, call)?;
            found.entries.extend(value.map(|value| (key.clone(), Held { value, token: FencingToken::NONE })));
        }
        Ok(found)
    }

    /// Reads locks with their tokens, each at one moment; those that are gone are left out.
    fn look_at(&self, locks: Vec<EntryKey>, call: &Call, found: &mut Inventory) -> Result<()> {
        let names = |key: &EntryKey| {
            let lock = key.lock().map(keys::lock_key).unwrap_or_default();
            [keys::side_key(&lock), lock]
        };
        for batch in locks.chunks(BATCH) {
            let commands: Vec<_> = batch
                .iter()
                .map(|key| {
                    let [side, lock] = names(key);
                    scripts::LOOK.by_hash(&[&lock, &side], &[])
                })
                .collect();
            let answers = self.redis.transport.query_all(&commands, self.page(call.deadline));
            for (key, answer) in batch.iter().zip(answers) {
                let remote = match answer.ok().and_then(|value| Vec::<Value>::from_redis_value(value).ok()) {
                    Some(parts) => remote_of(parts),
                    // The first finds that the server does not know the script.
                    None => self.remote_by(&scripts::LOOK, key, None, &self.page_of(call)),
                };
                match remote {
                    Ok((remote, _)) => found.entries.extend(remote.held().map(|held| (key.clone(), held))),
                    Err(e) if e.code() == Code::EntryUnreadable => {
                        found.unreadable.push((shown(key.name().as_bytes()), Some(key.clone()), e.message().to_owned()));
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }
}

/// Adds what can be told of a key by its value; a lock's key, for which its token is needed, too.
fn sort(key: &[u8], entry: Option<EntryKey>, value: Found, found: &mut Inventory) -> Option<EntryKey> {
    let mut cannot = |of: Option<EntryKey>, reason: String| found.unreadable.push((shown(key), of, reason));
    match (entry, value) {
        // Another program's key may look alike.
        (Some(EntryKey::Status(_)), Found::TooLong(_) | Found::Other(_)) => {}
        (Some(EntryKey::Status(_)), Found::Value(value)) if !is_pull_status(&value) => {}
        (of, Found::TooLong(bytes)) => cannot(of, format!("it has {bytes} bytes; at most {MAX_VALUE_BYTES} are taken")),
        (of, Found::Other(kind)) => cannot(of, format!("it is a {kind} in Redis, not a string")),
        (None, Found::Value(_)) => cannot(None, "its key is not UTF-8".to_owned()),
        (Some(entry), Found::Value(_)) if entry.lock().is_some() => return Some(entry),
        (Some(entry), Found::Value(value)) => found.entries.push((entry, Held { value, token: FencingToken::NONE })),
    }
    None
}

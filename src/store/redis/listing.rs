//! Reading many locks: looking for keys, fetching values in batches, and telling locks from what is not one.

use std::collections::BTreeMap;
use std::time::Instant;

use redis::{FromRedisValue as _, Value};

use super::RedisStore;
use super::errors::Failure;
use super::keys::LOCK_PREFIX;
use super::link::Attempt;
use crate::clock::Call;
use crate::error::Result;
use crate::model::ProjectLock;
use crate::store::Listing;

/// Keys that one SCAN looks at: large, so that 10,000 locks are a few round trips; small, so that Redis is never busy for long.
const SCAN_COUNT: usize = 5000;
/// Values that one MGET fetches.
const BATCH: usize = 500;

/// Fewest locks for which another thread pays.
const LOCKS_PER_THREAD: usize = 500;

/// What is stored at a key that looks like a lock's.
#[derive(Debug)]
pub(super) enum Found {
    /// A string.
    Value(Vec<u8>),
    /// Something of another type.
    Other(String),
}

/// By lock key, in order.
pub(super) type FoundLocks = BTreeMap<Vec<u8>, Found>;

impl RedisStore {
    /// All keys that match, with what they hold. On a cluster: of all masters.
    pub(super) fn scan(&self, pattern: &str, call: &Call) -> Result<FoundLocks> {
        self.fetch(self.scan_keys(pattern, call)?, call.deadline)
    }

    /// All keys that match, in order.
    pub(super) fn scan_keys(&self, pattern: &str, call: &Call) -> Result<Vec<Vec<u8>>> {
        self.redis.read(call.deadline, |link| {
            let mut keys = Vec::new();
            for master in link.masters(self.page(call.deadline))? {
                let mut cursor = b"0".to_vec();
                loop {
                    let mut command = redis::cmd("SCAN");
                    command.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
                    let reply = link.query_at(master.as_ref(), &command, self.page(call.deadline))?;
                    let (next, found) =
                        <(Vec<u8>, Vec<Vec<u8>>)>::from_redis_value(reply).map_err(|e| Failure::Refused(e.into()))?;
                    keys.extend(found);
                    cursor = next;
                    if cursor == b"0" {
                        break;
                    }
                }
            }
            // SCAN may return a key twice.
            keys.sort_unstable();
            keys.dedup();
            Ok(keys)
        })
    }

    /// What the locks at these keys in Redis are, by lock key; those that are gone are left out.
    pub(super) fn fetch(&self, keys: Vec<Vec<u8>>, deadline: Instant) -> Result<FoundLocks> {
        let found = self.fetch_keys(keys, deadline)?;
        Ok(found.into_iter().map(|(key, held)| (key[LOCK_PREFIX.len()..].to_vec(), held)).collect())
    }

    /// What these keys in Redis hold; those that are gone are left out.
    pub(super) fn fetch_keys(&self, keys: Vec<Vec<u8>>, deadline: Instant) -> Result<Vec<(Vec<u8>, Found)>> {
        let mut found = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let deadline = self.page(deadline);
            let values = self.redis.read(deadline, |link| {
                let mut command = redis::cmd("MGET");
                command.arg(batch);
                Vec::<Option<Vec<u8>>>::from_redis_value(link.query_long(&command, deadline)?)
                    .map_err(|e| Failure::Refused(e.into()))
            })?;
            for (key, value) in batch.iter().zip(values) {
                let held = match value {
                    Some(value) => Some(Found::Value(value)),
                    None => self.other_type(key, deadline)?,
                };
                if let Some(held) = held {
                    found.push((key.clone(), held));
                }
            }
        }
        Ok(found)
    }

    /// The deadline of one question of many: a server that hangs is noticed as soon as with a single one.
    fn page(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + self.patience)
    }

    /// One key's value.
    pub(super) fn get_key(&self, key: &str, call: &Call) -> Result<Option<Vec<u8>>> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        self.redis.read(call.deadline, |link| optional(link.query(&command, call.deadline)?))
    }

    /// MGET says nothing of a key that is gone and of one that is no string.
    fn other_type(&self, key: &[u8], deadline: Instant) -> Result<Option<Found>> {
        let mut command = redis::cmd("TYPE");
        command.arg(key);
        let kind = self.redis.read(deadline, |link| {
            String::from_redis_value(link.query(&command, deadline)?).map_err(|e| Failure::Refused(e.into()))
        })?;
        Ok(match kind.as_str() {
            // Gone, or taken since: the next listing has it.
            "none" | "string" => None,
            _ => Some(Found::Other(kind)),
        })
    }
}

fn optional(value: Value) -> Attempt<Option<Vec<u8>>> {
    Option::<Vec<u8>>::from_redis_value(value).map_err(|e| Failure::Refused(e.into()))
}

/// The locks among what was found, and the rest beside them.
pub(super) fn of(found: FoundLocks) -> Listing {
    let found: Vec<(Vec<u8>, Found)> = found.into_iter().collect();
    let mut listing = Listing::default();
    for ((key, _), checked) in found.iter().zip(check_all(&found)) {
        match checked {
            Ok(value) => listing.push(value),
            Err(reason) => listing.push_unreadable(String::from_utf8_lossy(key), reason),
        }
    }
    listing
}

/// A lock's value, or why it is not one.
type Checked<'a> = std::result::Result<&'a [u8], String>;

/// Checks on as many threads as pay: one lock takes about a microsecond.
fn check_all(found: &[(Vec<u8>, Found)]) -> Vec<Checked<'_>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (found.len() / LOCKS_PER_THREAD).clamp(1, cores);
    let mut parts = found.chunks(found.len().div_ceil(threads).max(1));
    let first = parts.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| (part, scope.spawn(move || check_part(part)))).collect();
        let mut checked = check_part(first);
        for (part, thread) in others {
            // A thread that panicked is our bug; its part is checked here, where a panic is reported.
            checked.extend(thread.join().unwrap_or_else(|_| check_part(part)));
        }
        checked
    })
}

fn check_part(part: &[(Vec<u8>, Found)]) -> Vec<Checked<'_>> {
    part.iter().map(|(key, held)| check(key, held)).collect()
}

fn check<'a>(key: &[u8], held: &'a Found) -> Checked<'a> {
    let value = match held {
        Found::Value(value) => value,
        Found::Other(kind) => return Err(format!("it is a {kind} in Redis, not a string")),
    };
    let lock = ProjectLock::parse(value).map_err(|e| e.message().to_owned())?;
    let own = lock.fields().key();
    if own.as_bytes() != key {
        return Err(format!("its fields belong to the key {own:?}"));
    }
    Ok(value)
}

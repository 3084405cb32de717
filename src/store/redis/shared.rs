//! Redis as a store that a local one follows (`store::contract::shared`).

use std::time::Duration;

use redis::{FromRedisValue as _, Value};

use super::errors::Failure;
use super::indexes::pull_index_of;
use super::keys::{self, ALL_LOCKS, INSTANCES, LOCK_PREFIX, LOCKS_INDEX, shown};
use super::listing::Found;
use super::release::{Guard, Released};
use super::reply::{self, Reply, unexpected};
use super::scripts;
use super::store::{RedisStore, SetAside};
use crate::call::Call;
use crate::domain::json::parse_json;
use crate::domain::limits::MAX_KEY_BYTES;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::{Code, Result};
use crate::store::contract::local::{EntryKey, Held, MAX_VALUE_BYTES, Named};
use crate::store::contract::shared::{Announced, HighWater, Presence, Put, Reach, Remembered, Remote, SharedStore};
use crate::store::{Expected, Grant, Granted, LockKey, Release, Store as _, Swap};

/// Matches the keys of all commands' locks.
pub(super) const ALL_COMMAND_LOCKS: &str = "global/*/lock";
/// Matches the keys of all pull statuses, and perhaps other programs' keys.
pub(super) const ALL_STATUSES: &str = "*::*::*";

impl SharedStore for RedisStore {
    fn grant_with(&self, grant: &Grant<'_>, token: FencingToken, call: &Call) -> Result<Granted> {
        self.grant_proposed(grant, token, call)
    }

    fn snapshot(&self, with_queues: bool, call: &Call) -> Result<Vec<(EntryKey, Vec<u8>)>> {
        let (mut all, mut set_aside) = (Vec::new(), Vec::new());
        for (pattern, entry) in [(ALL_LOCKS, project as fn(&str) -> _), (ALL_COMMAND_LOCKS, command), (ALL_STATUSES, status)] {
            let mut scan = self.scan(pattern, call);
            while let Some(mut keys) = scan.next_page()? {
                let entry = |key: &[u8]| std::str::from_utf8(key).ok().and_then(entry);
                keys.retain(|key| entry(key).is_some());
                for (key, found) in self.fetch(keys, call.deadline)? {
                    let Some(entry) = entry(&key) else { continue };
                    let is_status = matches!(entry, EntryKey::Status(_));
                    match found {
                        Found::Value(value) if is_status && !is_pull_status(&value) => {}
                        Found::Value(value) if entry.name().len() > MAX_KEY_BYTES => {
                            set_aside.push(SetAside { key: entry, bytes: value.len() });
                        }
                        Found::Value(value) => all.push((entry, value)),
                        // Nobody can store a pull status of that size through us: it is another program's.
                        Found::TooLong(_) if is_status => {}
                        Found::TooLong(bytes) => set_aside.push(SetAside { key: entry, bytes }),
                        Found::Other(_) => {}
                    }
                }
            }
        }
        *self.set_aside.lock() = set_aside;
        if with_queues {
            for key in self.queues(call)?.into_iter().map(EntryKey::Queue).chain([EntryKey::Freezes]) {
                let Named::Document(document) = key.named() else { continue };
                all.extend(self.document(document, call)?.map(|value| (key.clone(), value)));
            }
        }
        Ok(all)
    }

    fn set_aside(&self) -> Vec<EntryKey> {
        self.set_aside.lock().iter().map(|entry| entry.key.clone()).collect()
    }

    fn remote(&self, key: &EntryKey, call: &Call) -> Result<Remote> {
        Ok(self.remote_by(&scripts::READ, key, None, call)?.0)
    }

    fn remote_and_presence(&self, key: &EntryKey, instance: &str, last: u64, call: &Call) -> Result<(Remote, Remembered)> {
        let lasts = last.to_string();
        let whose = [instance.as_bytes(), lasts.as_bytes()];
        let is_one = self.redis.transport.is_single() && matches!(key.named(), Named::Lock(_));
        if is_one {
            return self.remote_by(&scripts::READ, key, Some(whose), call);
        }
        let (remote, _) = self.remote_by(&scripts::READ, key, None, call)?;
        let here = self.parts(&scripts::HERE, &[INSTANCES], &whose, call)?;
        Ok((remote, remembered(&reply::texts(here)?.next().unwrap_or_default())))
    }

    fn put(&self, key: &EntryKey, seen: Option<&[u8]>, new: Option<&Held>, call: &Call) -> Result<Put> {
        let lock = match key.named() {
            Named::Lock(lock) => lock,
            Named::Document(document) => {
                let expected = seen.map_or(Expected::Absent, Expected::Bytes);
                return match self.swap_document(document, expected, new.map(|held| held.value.as_slice()), call)? {
                    Swap::Done => Ok(Put::Done { token: FencingToken::NONE }),
                    Swap::Conflict(_) => Ok(Put::Changed),
                };
            }
        };
        let (flag, none) = (|there: bool| if there { &b"1"[..] } else { b"0" }, &b""[..]);
        let member = match lock {
            LockKey::Project(name) => name,
            LockKey::Command(_) => "",
        };
        let single = self.redis.transport.is_single();
        if !single && !member.is_empty() && new.is_some() {
            self.stamp(&[member], call)?;
        }
        let index_of =
            |value: Option<&[u8]>| value.filter(|_| single && !member.is_empty()).map(pull_index_of).unwrap_or_default();
        let value = new.map(|held| held.value.as_slice());
        let (old_index, new_index) = (index_of(seen), index_of(value));
        let token = new.map_or(FencingToken::NONE, |held| held.token).to_string();
        let is_read = value.is_none_or(|value| is_lock(lock, value));
        let (lock, indexed) = (keys::lock_key(lock), single && !member.is_empty());
        let side = keys::side_key(&lock);
        let keys = if indexed { vec![&*lock, &*side, LOCKS_INDEX] } else { vec![&*lock, &*side] };
        let args = [
            flag(seen.is_some()),
            seen.unwrap_or(none),
            flag(value.is_some()),
            value.unwrap_or(none),
            token.as_bytes(),
            self.instance.as_bytes(),
            member.as_bytes(),
            old_index.as_bytes(),
            new_index.as_bytes(),
            if is_read { none } else { b"-" },
        ];
        match self.redis.change(&scripts::PUT, &keys, &args, call)? {
            Reply::Done(outcome) => Ok(Put::Done { token: reply::token(&outcome)? }),
            Reply::Conflict(_) | Reply::None => Ok(Put::Changed),
            other => Err(unexpected(&other)),
        }
    }

    fn held_by(&self, pull: PullRef<'_>, reach: Reach, call: &Call) -> Result<Vec<EntryKey>> {
        let keys = match reach {
            Reach::Index => match self.held_in_index(pull, call) {
                // Another program's key stands there: the look at all keys finds what the index would have named.
                Err(e) if e.code() == Code::EntryUnreadable && self.shared_with_stock => Vec::new(),
                keys => keys?,
            },
            Reach::Scan if self.shared_with_stock => self.held_by_scan(pull, call)?,
            Reach::Scan => Vec::new(),
        };
        Ok(keys.into_iter().map(EntryKey::Project).collect())
    }

    fn release_held(&self, pull: PullRef<'_>, keys: &[EntryKey], call: &Call) -> (Vec<(EntryKey, Held)>, Result<()>) {
        let members: Vec<String> = keys.iter().map(|key| key.name().to_owned()).collect();
        let Released { locks, failed } = self.release_all(&members, &Guard::Pull(pull), call);
        let released = locks.into_iter().map(|(member, held)| (EntryKey::Project(member), held)).collect();
        (released, failed.map_or(Ok(()), Err))
    }

    fn release_as(&self, release: &Release<'_>, call: &Call) -> Result<Option<Held>> {
        self.release_guarded(release.key, &Guard::Admitted(release), call, call.lost_since)
    }

    fn discard_as(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        self.release_guarded(key, &Guard::Raw, call, call.lost_since)
    }

    fn announce(&self, instance: &str, lease: Duration, presence: Presence, last: u64, call: &Call) -> Result<Announced> {
        let lease = lease.as_micros().to_string();
        let stay: &[u8] = if presence == Presence::Leaves { b"0" } else { b"1" };
        let (agreed, seen_in) = match presence {
            Presence::Agreed(HighWater { at, replication_id }) => (at.to_string(), replication_id),
            Presence::Here | Presence::Leaves => ("0".to_owned(), String::new()),
        };
        let last = last.to_string();
        let args = [instance.as_bytes(), lease.as_bytes(), stay, agreed.as_bytes(), last.as_bytes(), seen_in.as_bytes()];
        let mut lost_since = None;
        let reply = self.redis.change_with(call, &mut lost_since, |head| {
            let all: Vec<&[u8]> = head.iter().map(Vec::as_slice).chain(args.iter().copied()).collect();
            self.redis.eval(&scripts::ANNOUNCE, &[INSTANCES], &all, call.deadline)
        });
        match reply? {
            Reply::Done(text) => {
                let text = String::from_utf8_lossy(&text);
                let mut words = text.split(' ');
                let mut time = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                let (before, agreed, now) = (time(), time(), time());
                self.redis.transport.clock().learn(i64::try_from(now).unwrap_or(i64::MAX), self.redis.clock.now());
                let replication_id = words.next().unwrap_or("-").to_owned();
                let (repeated, others) = (lost_since.is_some(), words.map(str::to_owned).collect());
                Ok(Announced { before, agreed, now, replication_id, repeated, others })
            }
            other => Err(unexpected(&other)),
        }
    }

    fn clock_micros(&self) -> u64 {
        u64::try_from(self.redis.transport.clock().at(self.redis.clock.now())).unwrap_or(0)
    }
}

/// Most entries that warnings name.
const MOST_NAMED: usize = 10;

impl RedisStore {
    /// What Redis holds at a key, as one of the two scripts that read tells; and what it remembers of an instance, which has an answer until
    /// then, if that is asked for.
    pub(super) fn remote_by(
        &self,
        script: &scripts::Script,
        key: &EntryKey,
        whose: Option<[&[u8]; 2]>,
        call: &Call,
    ) -> Result<(Remote, Remembered)> {
        let lock = match key.named() {
            Named::Lock(lock) => lock,
            Named::Document(document) => {
                return Ok((Remote { value: self.document(document, call)?, ..Remote::default() }, Remembered::default()));
            }
        };
        let lock = keys::lock_key(lock);
        let side = keys::side_key(&lock);
        let keys = [&*lock, &*side, INSTANCES];
        let (keys, args) = if let Some(whose) = &whose { (&keys[..], &whose[..]) } else { (&keys[..2], &[][..]) };
        remote_of(self.parts(script, keys, args, call)?).map_err(|e| e.context(format!("Redis at {}", self.redis.server)))
    }

    /// What a script that only reads tells.
    fn parts(&self, script: &scripts::Script, keys: &[&str], args: &[&[u8]], call: &Call) -> Result<Vec<Value>> {
        self.redis.read(call.deadline, |_| {
            let reply = self.redis.eval(script, keys, args, call.deadline)?;
            Vec::<Value>::from_redis_value(reply).map_err(|e| Failure::Refused(e.into()))
        })
    }

    /// A warning for each entry that the last snapshot left out.
    pub(super) fn set_aside_warnings(&self) -> Vec<String> {
        let set_aside = self.set_aside.lock();
        let named = set_aside.iter().take(MOST_NAMED).map(|entry| {
            let (kind, name) = match &entry.key {
                EntryKey::Project(name) => ("lock", name.as_str()),
                EntryKey::Command(name) => ("command lock", name.as_str()),
                EntryKey::Status(name) => ("pull status", name.as_str()),
                EntryKey::Queue(repo) => ("queue", repo.as_str()),
                EntryKey::Freezes => ("freezes", ""),
            };
            format!(
                "Redis at {}: the {kind} \"{}\" is left alone: the local store keeps keys of up to {MAX_KEY_BYTES} bytes and values of up to \
                 {MAX_VALUE_BYTES}; this key has {} bytes, the value {}. Another program wrote that entry: remove it there",
                self.redis.server,
                shown(name.as_bytes()),
                name.len(),
                entry.bytes
            )
        });
        let more = set_aside.len().saturating_sub(MOST_NAMED);
        let more = (more > 0).then(|| format!("Redis at {}: {more} more entries like these are left alone", self.redis.server));
        named.chain(more).collect()
    }
}

/// What a script that reads a lock answered.
///
/// Errors: `EntryUnreadable` if another program wrote what is there.
pub(super) fn remote_of(parts: Vec<Value>) -> Result<(Remote, Remembered)> {
    let mut parts = reply::texts(parts)?;
    let here = remembered(&parts.next().unwrap_or_default());
    let token = FencingToken::new(parts.next().map_or(0, |text| number(&text)));
    let holder = parts.next().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    // Instance, request id, and the token that was wished for, if another was given.
    let mut words = holder.split(' ');
    let holder = words.next().unwrap_or_default().to_owned();
    let wished = FencingToken::new(words.nth(1).map_or(0, |wished| number(wished.as_bytes())));
    Ok((Remote { value: parts.next(), token, holder, wished }, here))
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Two numbers.
fn remembered(text: &[u8]) -> Remembered {
    let mut numbers = text.split(|byte| *byte == b' ').map(number);
    Remembered { before: numbers.next().unwrap_or(0), agreed: numbers.next().unwrap_or(0) }
}

/// Whether a reader of ours finds in the value what the key says.
fn is_lock(key: LockKey<'_>, value: &[u8]) -> bool {
    match key {
        LockKey::Project(_) => ProjectLock::parse(value).is_ok(),
        LockKey::Command(_) => parse_json::<serde::de::IgnoredAny>(value).is_ok(),
    }
}

pub(super) fn project(key: &str) -> Option<EntryKey> {
    key.strip_prefix(LOCK_PREFIX).map(|name| EntryKey::Project(name.to_owned()))
}

pub(super) fn command(key: &str) -> Option<EntryKey> {
    let name = key.strip_prefix("global/")?.strip_suffix("/lock")?;
    Some(EntryKey::Command(name.to_owned()))
}

pub(super) fn status(key: &str) -> Option<EntryKey> {
    let number = key.rsplit("::").next()?;
    number.parse::<i64>().ok().map(|_| EntryKey::Status(key.to_owned()))
}

/// Whether it is Atlantis's: another program's key may look alike.
pub(super) fn is_pull_status(value: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct PullStatus {
        #[serde(rename = "Pull")]
        _pull: serde::de::IgnoredAny,
    }
    parse_json::<PullStatus>(value).is_ok()
}

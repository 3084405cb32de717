//! Redis as a store that a local one follows (`store::shared`).

use std::time::{Duration, Instant};

use redis::{FromRedisValue as _, Value};

use super::errors::Failure;
use super::keys::{self, ALL_LOCKS, INSTANCES, LOCK_PREFIX, LOCKS_INDEX};
use super::listing::Found;
use super::reply::{self, Reply};
use super::{Guard, RedisStore, scripts, unexpected};
use crate::clock::Call;
use crate::error::Result;
use crate::model::{ProjectLock, PullRef, parse_json};
use crate::store::mirror::{EntryKey, Held};
use crate::store::shared::{Announced, Presence, Put, Reach, Remote, Shared};
use crate::store::{Expected, Grant, Granted, LockKey, Store as _, Swap};

/// Matches the keys of all commands' locks.
const ALL_COMMAND_LOCKS: &str = "global/*/lock";
/// Matches the keys of all pull statuses, and perhaps other programs' keys.
const ALL_STATUSES: &str = "*::*::*";

impl Shared for RedisStore {
    fn grant_with(&self, grant: &Grant<'_>, token: u64, call: &Call) -> Result<Granted> {
        self.grant_proposed(grant, token, call)
    }

    fn snapshot(&self, call: &Call) -> Result<Vec<(EntryKey, Vec<u8>)>> {
        let mut all = Vec::new();
        for (pattern, entry) in [(ALL_LOCKS, project as fn(&str) -> _), (ALL_COMMAND_LOCKS, command), (ALL_STATUSES, status)] {
            let keys = self.scan_keys(pattern, call)?;
            for (key, found) in self.fetch_keys(keys, call.deadline)? {
                let (Ok(key), Found::Value(value)) = (String::from_utf8(key), found) else { continue };
                let Some(entry) = entry(&key) else { continue };
                if !matches!(entry, EntryKey::Status(_)) || is_pull_status(&value) {
                    all.push((entry, value));
                }
            }
        }
        Ok(all)
    }

    fn remote(&self, key: &EntryKey, call: &Call) -> Result<Remote> {
        let Some(lock) = key.lock() else {
            return Ok(Remote { value: self.pull_status(key.name(), call)?, ..Remote::default() });
        };
        let lock = keys::lock_key(lock);
        let side = keys::side_key(&lock);
        let parts = self.redis.read(call.deadline, |_| {
            let reply = self.redis.eval(&scripts::READ, &[&lock, &side], &[], call.deadline)?;
            Vec::<Value>::from_redis_value(reply).map_err(|e| Failure::Refused(e.into()))
        })?;
        let mut parts = parts.into_iter().skip(1).map(|part| match part {
            Value::BulkString(bytes) => bytes,
            _ => Vec::new(),
        });
        let mut text = || parts.next().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
        let (token, holder) = (text().parse().unwrap_or(0), text());
        let holder = holder.split(' ').next().unwrap_or_default().to_owned();
        Ok(Remote { value: parts.next(), token, holder })
    }

    fn put(&self, key: &EntryKey, seen: Option<&[u8]>, new: Option<&Held>, call: &Call) -> Result<Put> {
        let Some(lock) = key.lock() else {
            let expected = seen.map_or(Expected::Absent, Expected::Bytes);
            return match self.swap_pull_status(key.name(), expected, new.map(|held| held.value.as_slice()), call)? {
                Swap::Done => Ok(Put::Done { token: 0 }),
                Swap::Conflict(_) => Ok(Put::Changed),
            };
        };
        let (flag, none) = (|there: bool| if there { &b"1"[..] } else { b"0" }, &b""[..]);
        let member = match lock {
            LockKey::Project(name) => name,
            LockKey::Command(_) => "",
        };
        let single = self.redis.link.is_single();
        if !single && !member.is_empty() && new.is_some() {
            self.stamp(&[member], call)?;
        }
        let index_of = |value: Option<&[u8]>| {
            let pull = value.filter(|_| single && !member.is_empty()).and_then(|value| ProjectLock::parse(value).ok());
            pull.map(|lock| keys::pull_index(lock.pull().repo, lock.pull().num)).unwrap_or_default()
        };
        let value = new.map(|held| held.value.as_slice());
        let (old_index, new_index) = (index_of(seen), index_of(value));
        let token = new.map_or(0, |held| held.token).to_string();
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
        ];
        match self.redis.change(&scripts::PUT, &keys, &args, call)? {
            Reply::Done(outcome) => Ok(Put::Done { token: reply::token(&outcome)? }),
            Reply::Conflict(_) | Reply::None => Ok(Put::Changed),
            other => Err(unexpected(&other)),
        }
    }

    fn held_by(&self, pull: PullRef<'_>, reach: Reach, call: &Call) -> Result<Vec<EntryKey>> {
        let keys = match reach {
            Reach::Index => self.held_in_index(pull, call)?,
            Reach::Scan => self.held_by_scan(pull, call)?,
        };
        Ok(keys.into_iter().map(EntryKey::Project).collect())
    }

    fn release_held(&self, pull: PullRef<'_>, keys: &[EntryKey], call: &Call) -> (Vec<(EntryKey, Vec<u8>)>, Result<()>) {
        let members: Vec<String> = keys.iter().map(|key| key.name().to_owned()).collect();
        let num = pull.num.to_string();
        let (released, ended) = self.release_all(&members, &Guard::repo(pull.repo, &num), call);
        (released.into_iter().map(|(member, value)| (EntryKey::Project(member), value)).collect(), ended)
    }

    fn announce(&self, instance: &str, lease: Duration, presence: Presence, call: &Call) -> Result<Announced> {
        let lease = lease.as_micros().to_string();
        let stay: &[u8] = if presence == Presence::Leaves { b"0" } else { b"1" };
        let agreed = match presence {
            Presence::Agreed(moment) => moment.to_string(),
            Presence::Here | Presence::Leaves => "0".to_owned(),
        };
        let args = [instance.as_bytes(), lease.as_bytes(), stay, agreed.as_bytes()];
        match self.redis.change(&scripts::ANNOUNCE, &[INSTANCES], &args, call)? {
            Reply::Done(text) => {
                let text = String::from_utf8_lossy(&text);
                let mut words = text.split(' ');
                let mut time = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                let (before, agreed, now) = (time(), time(), time());
                self.redis.link.clock().learn(i64::try_from(now).unwrap_or(i64::MAX), Instant::now());
                Ok(Announced { before, agreed, now, others: words.map(str::to_owned).collect() })
            }
            other => Err(unexpected(&other)),
        }
    }

    fn clock_micros(&self) -> u64 {
        u64::try_from(self.redis.link.clock().at(Instant::now())).unwrap_or(0)
    }
}

fn project(key: &str) -> Option<EntryKey> {
    key.strip_prefix(LOCK_PREFIX).map(|name| EntryKey::Project(name.to_owned()))
}

fn command(key: &str) -> Option<EntryKey> {
    let name = key.strip_prefix("global/")?.strip_suffix("/lock")?;
    Some(EntryKey::Command(name.to_owned()))
}

fn status(key: &str) -> Option<EntryKey> {
    let number = key.rsplit("::").next()?;
    number.parse::<i64>().ok().map(|_| EntryKey::Status(key.to_owned()))
}

/// Whether it is Atlantis's: another program's key may look alike.
fn is_pull_status(value: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct PullStatus {
        #[serde(rename = "Pull")]
        _pull: serde::de::IgnoredAny,
    }
    parse_json::<PullStatus>(value).is_ok()
}

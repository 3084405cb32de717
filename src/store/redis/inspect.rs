//! What a Redis tells of itself and of what is left behind in it, for a diagnosis.
//!
//! Invariant: no command that writes is sent, and no script (`read_only.rs`). Rights are asked of Redis (`ACL DRYRUN`), not tried.
//!
//! What looks orphaned or is missing in the index is looked at once more at the end, key by key, because locks come and go meanwhile. One
//! that comes back between the two questions of that look may still be told wrongly; nothing rests on that.

use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value};

use super::errors::Failure;
use super::inform;
use super::keys::{self, ALL_LOCKS, INSTANCES, LOCK_PREFIX, LOCKS_INDEX, shown};
use super::listing::Found;
use super::open;
use super::read_only::old_lock;
use super::store::RedisStore;
use super::transport::Opinion;
use crate::call::{Call, RequestId};
use crate::config;
use crate::domain::lock::ProjectLock;
use crate::error::Result;
use crate::store::Store as _;

/// How long the look through all keys may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A member of the index without a lock is normal for so long: `indexes.rs` trims it no earlier.
const GRACE_MICROS: u64 = 120 * 1_000_000;
/// Most entries that are named.
const MOST_NAMED: usize = 10;
/// Keys that are looked at once more in one round trip.
const BATCH: usize = 500;
/// Matches the side hashes of all locks.
const ALL_SIDES: &str = "{*}:atlock*";
/// Commands that a server sends, each with arguments that fit; docs/03-configuration.md has the rights for them.
const COMMANDS: &[&[&str]] = &[
    &["PING"],
    &["INFO", "server"],
    &["TIME"],
    &["EVAL", "return 1", "1", "pr/{atlock:probe}"],
    &["EVALSHA", "0", "1", "{atlock:probe}:atlock"],
    &["GET", "pr/{atlock:probe}"],
    &["MGET", "pr/{atlock:probe}"],
    &["STRLEN", "pr/{atlock:probe}"],
    &["SET", "pr/{atlock:probe}", "1"],
    &["SET", "global/{atlock:probe}/lock", "1"],
    &["SET", "{atlock:probe}::probe::0", "1"],
    &["DEL", "pr/{atlock:probe}"],
    &["TYPE", "pr/{atlock:probe}"],
    &["SCAN", "0"],
    &["HSET", "{atlock:probe}:atlock", "a", "1"],
    &["HGET", "{atlock:probe}:atlock", "a"],
    &["HMGET", "{atlock:probe}:atlock", "a"],
    &["HDEL", "atlock:instances", "a"],
    &["HGETALL", "atlock:instances"],
    &["HLEN", "atlock:instances"],
    &["PERSIST", "{atlock:probe}:atlock"],
    &["PEXPIRE", "{atlock:probe}:atlock", "1"],
    &["PTTL", "{atlock:probe}:atlock"],
    &["ZADD", "atlock:locks", "1", "a"],
    &["ZREM", "atlock:locks", "a"],
    &["ZSCORE", "atlock:locks", "a"],
    &["ZRANGE", "atlock:locks", "0", "1"],
    &["SADD", "atlock:queues", "a"],
    &["SREM", "atlock:queues", "a"],
    &["SMEMBERS", "atlock:queues"],
];

/// What was found. `None`: this user may not ask.
#[derive(Debug, Default)]
pub struct RedisFacts {
    /// Its version, such as `7.0.15`.
    pub version: Option<String>,
    /// `maxmemory-policy`.
    pub policy: Option<String>,
    /// `save`: when it writes snapshots. It is asked only where there is no append-only file.
    pub saves: Option<String>,
    /// Whether it writes an append-only file.
    pub appends: Option<bool>,
    /// By how much its clock is ahead of this machine's, microseconds.
    pub clock_ahead: i64,
    /// By how much that may be wrong.
    pub clock_unsure: u64,
    /// What this user may not do of what a server does.
    pub missing_rights: Option<Vec<String>>,
    /// Servers in hybrid mode that announced themselves.
    pub instances: Vec<Instance>,
    /// Locks under the keys of Atlantis before v0.40.
    pub old_format: Entries,
    /// Locks that the index of all locks lacks.
    pub not_indexed: Entries,
    /// Members of the index without a lock.
    pub orphaned_index: Entries,
    /// Side hashes without a lock and without an end.
    pub orphaned_sides: Entries,
    /// Why the last four are not all; `None` if they are.
    pub incomplete: Option<String>,
    /// What connecting warned of.
    pub warnings: Vec<String>,
    /// What each Sentinel says: its address, and the master's or why it says none. `None`: there are no Sentinels.
    pub sentinels: Option<Vec<(String, std::result::Result<String, String>)>>,
}

/// A server that announced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// When it was last here, by Redis's clock, microseconds since 1970.
    pub seen: u64,
    /// Whether it said that it leaves.
    pub left: bool,
    /// How long ago that was, microseconds.
    pub age: u64,
}

/// Some entries: how many, and the first ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// How many.
    pub count: usize,
    /// The first ones.
    pub named: Vec<String>,
}

impl Entries {
    fn push(&mut self, key: &[u8]) {
        self.count += 1;
        if self.named.len() < MOST_NAMED {
            self.named.push(shown(key));
        }
    }
}

/// Connects and asks.
///
/// Errors: those of [`RedisStore::open_read_only`].
pub fn inspect(settings: &config::Redis) -> Result<RedisFacts> {
    let store = RedisStore::of(open::connect(settings)?, settings, "");
    let facts = store.inspect();
    store.close()?;
    facts
}

impl RedisStore {
    fn inspect(&self) -> Result<RedisFacts> {
        let call = Call::new(RequestId::from_text("inspect"), self.redis.clock.now() + PATIENCE);
        let (now, clock_ahead, clock_unsure) = self.clock_ahead(&call)?;
        let info = |section: &str, name: &str| {
            let info = inform::info(&self.redis, section, self.page(call.deadline))?;
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
        };
        let appends = info("persistence", "aof_enabled").map(|enabled| enabled == "1");
        // Only where it matters: few users have the right to ask (`warnings.rs`).
        let saves =
            if appends == Some(false) { inform::config_value(&self.redis, "save", self.page(call.deadline)) } else { None };
        let mut facts = RedisFacts {
            version: info("server", "redis_version"),
            policy: info("memory", "maxmemory_policy"),
            saves,
            appends,
            clock_ahead,
            clock_unsure,
            missing_rights: self.missing_rights(&call),
            instances: self.instances(now, &call)?,
            warnings: self.warnings.now(self.redis.clock.now()),
            sentinels: self.sentinels(&call),
            ..RedisFacts::default()
        };
        let looked = self
            .look_at_locks(now, &call, &mut facts)
            .and_then(|()| self.orphaned_sides(&call, |side, _| facts.orphaned_sides.push(side.as_bytes())));
        facts.incomplete = looked.err().map(|e| e.message().to_owned());
        Ok(facts)
    }

    fn ask<T: FromRedisValue>(&self, command: &Cmd, call: &Call) -> Result<T> {
        let page = self.page(call.deadline);
        self.redis.read(page, |link| T::from_redis_value(link.query(command, page)?).map_err(|e| Failure::Refused(e.into())))
    }

    /// Redis's time, by how much its clock is ahead, and by how much that may be wrong; microseconds.
    fn clock_ahead(&self, call: &Call) -> Result<(u64, i64, u64)> {
        let (start, before) = (self.redis.clock.now(), self.redis.clock.unix_micros());
        let (seconds, micros): (u64, u64) = self.ask(&redis::cmd("TIME"), call)?;
        let took = u64::try_from((self.redis.clock.now() - start).as_micros()).unwrap_or(u64::MAX);
        let now = seconds.saturating_mul(1_000_000).saturating_add(micros);
        Ok((now, now.wrapping_sub(before.saturating_add(took / 2)).cast_signed(), took / 2))
    }

    fn sentinels(&self, call: &Call) -> Option<Vec<(String, std::result::Result<String, String>)>> {
        let told = |(sentinel, opinion): (String, Result<Opinion>)| {
            let master = opinion.map(|Opinion { master: (host, port), .. }| format!("{host}:{port}"));
            (sentinel, master.map_err(|e| e.message().to_owned()))
        };
        Some(self.redis.transport.opinions(self.page(call.deadline))?.into_iter().map(told).collect())
    }

    fn missing_rights(&self, call: &Call) -> Option<Vec<String>> {
        let user: String = self.ask(redis::cmd("ACL").arg("WHOAMI"), call).ok()?;
        let mut missing = Vec::new();
        for command in COMMANDS {
            let answer: String = self.ask(redis::cmd("ACL").arg("DRYRUN").arg(&user).arg(*command), call).ok()?;
            if answer != "OK" {
                missing.push(answer);
            }
        }
        Some(missing)
    }

    fn instances(&self, now: u64, call: &Call) -> Result<Vec<Instance>> {
        let all: Vec<(String, String)> = self.ask(redis::cmd("HGETALL").arg(INSTANCES), call)?;
        let instance = |(name, text): (String, String)| {
            let seen: i64 = text.split(' ').next()?.parse().ok()?;
            let at = seen.unsigned_abs();
            Some(Instance { name, seen: at, left: seen < 0, age: now.saturating_sub(at) })
        };
        let mut instances: Vec<Instance> =
            all.into_iter().filter(|(name, _)| !name.starts_with("gap:")).filter_map(instance).collect();
        instances.sort_by_key(|instance| std::cmp::Reverse(instance.seen));
        Ok(instances)
    }

    /// Compares the locks with their index.
    fn look_at_locks(&self, now: u64, call: &Call, facts: &mut RedisFacts) -> Result<()> {
        let mut indexed = self.indexed_members(call)?;
        let (mut lacking, mut scan) = (Vec::new(), self.scan(ALL_LOCKS, call));
        while let Some(mut keys) = scan.next_page()? {
            keys.retain(|key| match indexed.get_mut(&key[LOCK_PREFIX.len()..]) {
                Some(unseen) => {
                    *unseen = None;
                    false
                }
                None => true,
            });
            for (key, found) in self.fetch_locks(keys, call.deadline)? {
                let Found::Value(value) = found else { continue };
                if old_lock(&key, &value).is_some() {
                    facts.old_format.push(&key);
                } else if ProjectLock::parse(&value).is_ok_and(|lock| lock.fields().key().as_bytes() == key) {
                    lacking.push(key);
                }
            }
        }
        let is_old = |stamp: &[u8]| {
            let stamp = std::str::from_utf8(stamp).ok().and_then(|stamp| stamp.parse::<f64>().ok());
            stamp.is_some_and(|stamp| stamp <= now.saturating_sub(GRACE_MICROS) as f64)
        };
        let gone: Vec<Vec<u8>> = indexed
            .into_iter()
            .filter(|(_, unseen)| unseen.as_ref().is_some_and(|stamp| is_old(stamp)))
            .map(|(key, _)| key)
            .collect();
        self.again(&lacking, call, |key, exists, stamped| {
            if exists && !stamped {
                facts.not_indexed.push(key);
            }
        })?;
        self.again(&gone, call, |key, exists, stamped| {
            if !exists && stamped {
                facts.orphaned_index.push(key);
            }
        })
    }

    /// Tells of each key whether there is something, and whether the index has it.
    fn again(&self, names: &[Vec<u8>], call: &Call, mut tell: impl FnMut(&[u8], bool, bool)) -> Result<()> {
        for batch in names.chunks(BATCH) {
            let commands = batch.iter().flat_map(|name| {
                let lock = [LOCK_PREFIX.as_bytes(), name].concat();
                [redis::cmd("TYPE").arg(lock).take(), redis::cmd("ZSCORE").arg(LOCKS_INDEX).arg(name.as_slice()).take()]
            });
            let answers = self.ask_all(&commands.collect::<Vec<_>>(), call)?;
            for (name, answer) in batch.iter().zip(answers.chunks(2)) {
                tell(name, is_there(&answer[0]), answer[1] != Value::Nil);
            }
        }
        Ok(())
    }

    fn ask_all(&self, commands: &[Cmd], call: &Call) -> Result<Vec<Value>> {
        let page = self.page(call.deadline);
        let answers = self.redis.transport.query_all(commands, page);
        let asked = answers.into_iter().zip(commands);
        asked.map(|(answer, command)| answer.or_else(|_| self.redis.read(page, |link| link.query(command, page)))).collect()
    }

    /// Tells of each side hash that a stock server's DEL left behind, and of the lock that it belonged to.
    pub(super) fn orphaned_sides(&self, call: &Call, mut tell: impl FnMut(&str, &str)) -> Result<()> {
        let mut scan = self.scan(ALL_SIDES, call);
        while let Some(found) = scan.next_page()? {
            let sides: Vec<(String, String)> = found.into_iter().filter_map(side_and_lock).collect();
            for batch in sides.chunks(BATCH) {
                let commands = batch
                    .iter()
                    .flat_map(|(side, lock)| [redis::cmd("PTTL").arg(side).take(), redis::cmd("TYPE").arg(lock).take()]);
                let answers = self.ask_all(&commands.collect::<Vec<_>>(), call)?;
                for ((side, lock), answer) in batch.iter().zip(answers.chunks(2)) {
                    if answer[0] == Value::Int(-1) && !is_there(&answer[1]) {
                        tell(side, lock);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What TYPE says of a key.
fn is_there(answer: &Value) -> bool {
    *answer != Value::SimpleString("none".to_owned())
}

/// The lock of a side hash; `None` if it is none.
fn side_and_lock(side: Vec<u8>) -> Option<(String, String)> {
    let side = String::from_utf8(side).ok()?;
    let (tag, rest) = side.split_once("}:atlock")?;
    let lock = if rest.is_empty() { tag.strip_prefix('{')? } else { rest.strip_prefix(':')? }.to_owned();
    (keys::side_key(&lock) == side).then_some((side, lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_each_side_hash_is_known() {
        for lock in ["pr/acme/infra/./default/", "pr/a{b}/c", "pr/a}b/c", "global/apply/lock"] {
            let side = keys::side_key(lock);
            assert_eq!(side_and_lock(side.clone().into_bytes()), Some((side, lock.to_owned())), "{lock}");
        }
        for other in ["{a}:atlock:b", "a:atlock", "{a}"] {
            assert_eq!(side_and_lock(other.as_bytes().to_vec()), None, "{other}");
        }
    }
}

//! When the store opens: locks under the keys of Atlantis before v0.40 move to today's, as stock moves them, and locks that
//! other programs took enter the indexes.
//!
//! An old key is one that the value's fields give without the project. (Stock looks at the key alone, and so misses every old
//! key whose path has a slash in it.) Where today's key is held by another lock, both stay: the old one is listed as unreadable,
//! with the reason. On a single server a move is one script. On a cluster the keys are in different slots: the lock is first set at
//! its new key, if that is free, and then deleted at the old one; a kill in between leaves both, and the next start goes on.
//!
//! Where this process makes old keys (`locking.key_format: old`) nothing moves, and a lock at one of today's keys keeps the store from
//! opening.
//!
//! What it costs: one look at the names of all keys of the Redis. Locks in the index of all locks have today's keys already, and
//! are not read; the others are, page by page. The look is made at every start: a note that it was made once would be wrong as soon as
//! a stock server has used the Redis since, and then lists and releases by pull would miss that server's locks.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::FromRedisValue as _;

use super::indexes::pull_index_of;
use super::keys::{ALL_LOCKS, LOCK_PREFIX, LOCKS_INDEX, OLD_KEYS};
use super::listing::Found;
use super::pages::Member;
use super::scripts;
use super::store::RedisStore;
use crate::call::{Call, RequestId};
use crate::domain::key::KeyFormat;
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};

/// How long it may take; stock allows two minutes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Beside the servers' names in [`OLD_KEYS`]: the index of all locks has old keys.
const OLD_INDEX: &str = "index";
/// Most locks that one round trip puts into the indexes.
const BATCH: usize = 500;

impl RedisStore {
    /// Takes over what is there. Done again, it changes nothing.
    pub(super) fn take_over(&self) -> Result<()> {
        let call = Call::new(RequestId::from_text("take-over"), self.redis.clock.now() + PATIENCE);
        let makes_old = KeyFormat::of_process() == KeyFormat::Old;
        let index_is_old = self.settle_servers_with_old_keys(makes_old, &call)?;
        let taken = self.take_over_from(index_is_old, makes_old, &call);
        if taken.is_err() {
            self.leave_servers_with_old_keys();
        }
        taken
    }

    /// What the index names is not read, so one of locks with other keys goes, and is made anew.
    fn take_over_from(&self, index_is_old: bool, makes_old: bool, call: &Call) -> Result<()> {
        if index_is_old != makes_old {
            self.old_keys_command("DEL", LOCKS_INDEX, &[], call)?;
        }
        let newest_to_trim = self.newest_to_trim();
        let (gone, _) = self.fill_indexes(call, |key, value| self.current_key(key, value, &self.page_of(call)))?;
        self.trim(&gone, newest_to_trim, call)?;
        match (index_is_old, makes_old) {
            (false, true) => self.old_keys_command("HSET", OLD_KEYS, &[OLD_INDEX, "1"], call),
            (true, false) => self.old_keys_command("HDEL", OLD_KEYS, &[OLD_INDEX], call),
            _ => Ok(()),
        }
    }

    fn old_keys_command(&self, name: &str, key: &str, args: &[&str], call: &Call) -> Result<()> {
        let mut command = redis::cmd(name);
        command.arg(key).arg(args);
        self.redis.read(call.deadline, |link| link.query(&command, call.deadline)).map(drop)
    }

    /// Puts the locks into the indexes that the index of all locks lacks. `current` tells the key under which what stands at a key is a
    /// lock; `None` if it is none. Returns the members without a lock, and how many locks were put in.
    pub(super) fn fill_indexes(
        &self,
        call: &Call,
        current: impl Fn(&[u8], &[u8]) -> Result<Option<String>>,
    ) -> Result<(Vec<Member>, usize)> {
        let (mut indexed, mut filled) = (self.indexed_members(call)?, 0);
        let mut scan = self.scan(ALL_LOCKS, call);
        while let Some(mut keys) = scan.next_page()? {
            keys.retain(|key| match indexed.get_mut(&key[LOCK_PREFIX.len()..]) {
                Some(unseen) => {
                    *unseen = None;
                    false
                }
                None => true,
            });
            let mut found = Vec::new();
            for (key, held) in self.fetch_locks(keys, call.deadline)? {
                let Found::Value(value) = held else { continue };
                if let Some(key) = current(&key, &value)? {
                    found.push((key, value));
                }
            }
            filled += found.len();
            for batch in found.chunks(BATCH) {
                self.index(batch, call)?;
            }
        }
        Ok((indexed.into_iter().filter_map(|(member, unseen)| Some((member, unseen?))).collect(), filled))
    }

    /// The members of the index of all locks, each with its stamp until its lock is seen.
    pub(super) fn indexed_members(&self, call: &Call) -> Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
        let mut indexed = BTreeMap::new();
        let mut pages = self.index_pages(call);
        while let Some(members) = pages.next_page()? {
            indexed.extend(members.into_iter().map(|(member, stamp)| (member, Some(stamp))));
        }
        Ok(indexed)
    }

    /// Today's key of what stands at a key that the index does not know, to which it is moved; `None` if it is no lock of its key.
    fn current_key(&self, key: &[u8], value: &[u8], call: &Call) -> Result<Option<String>> {
        let Ok(lock) = ProjectLock::parse(value) else { return Ok(None) };
        let [current, old] = [KeyFormat::Current, KeyFormat::Old].map(|format| lock.all_fields().key_in(format));
        match KeyFormat::of_process() {
            KeyFormat::Old if key == current.as_bytes() => Err(self.has_current_keys(&current)),
            KeyFormat::Old => Ok((key == old.as_bytes()).then_some(old)),
            KeyFormat::Current if key == old.as_bytes() => {
                self.move_lock(&old, &current, value, call)?;
                Ok(Some(current))
            }
            KeyFormat::Current => Ok((key == current.as_bytes()).then_some(current)),
        }
    }

    /// A server that makes old keys leaves its name in Redis until it closes ([`OLD_KEYS`]); others refuse to begin beside it. Returns
    /// whether the index of all locks has old keys.
    fn settle_servers_with_old_keys(&self, makes_old: bool, call: &Call) -> Result<bool> {
        if makes_old {
            self.old_keys_command("HSET", OLD_KEYS, &[&self.instance, env!("CARGO_PKG_VERSION")], call)?;
        }
        let mut ask = redis::cmd("HGETALL");
        ask.arg(OLD_KEYS);
        let reply = self.redis.read(call.deadline, |link| link.query(&ask, call.deadline))?;
        let mut servers: Vec<String> = match Vec::<(String, String)>::from_redis_value(reply) {
            Ok(found) => found.into_iter().map(|(name, _)| name).collect(),
            Err(_) => vec!["their names cannot be read".to_owned()], // what is there is no hash of ours
        };
        let index_is_old = servers.iter().any(|name| name == OLD_INDEX);
        servers.retain(|name| name != OLD_INDEX);
        if makes_old || servers.is_empty() {
            return Ok(index_is_old);
        }
        let text = format!(
            "Redis at {} is used by servers of Atlantis before v0.40 ({}), whose locks have other keys, so that one lock would be granted \
             twice: stop them first. If they were killed and run no more, take their names out of the hash {OLD_KEYS} in Redis (HDEL)",
            self.redis.server,
            servers.join(", ")
        );
        Err(Error::new(Code::InvalidConfig, text))
    }

    /// Takes this server's name away again.
    pub(super) fn leave_servers_with_old_keys(&self) {
        if KeyFormat::of_process() == KeyFormat::Old {
            let call = Call::new(RequestId::from_text("leave"), self.redis.clock.now() + self.patience);
            // Left behind, the name says that this server may still run: the next one is refused until somebody looked.
            let _ = self.old_keys_command("HDEL", OLD_KEYS, &[&self.instance], &call);
        }
    }

    /// The error of a lock that Atlantis v0.40 or later took.
    fn has_current_keys(&self, key: &str) -> Error {
        let text = format!(
            "Redis at {} has locks under the keys of Atlantis v0.40 and later ({key:?} first), which this release (locking.key_format: old) would \
             grant again: start that newer release, and have those locks released before this one starts",
            self.redis.server
        );
        Error::new(Code::InvalidConfig, text)
    }

    /// Puts locks that other programs took into the indexes, each by its key with the value that was seen.
    fn index(&self, locks: &[(String, Vec<u8>)], call: &Call) -> Result<()> {
        if !self.redis.transport.is_single() {
            return self.stamp(&locks.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), &self.page_of(call));
        }
        let names = |key: &str, value: &[u8]| [format!("{LOCK_PREFIX}{key}"), LOCKS_INDEX.to_owned(), pull_index_of(value)];
        let commands: Vec<_> = locks
            .iter()
            .map(|(key, value)| {
                scripts::INDEX_PULL.by_hash(&names(key, value).each_ref().map(String::as_str), &[value, key.as_bytes()])
            })
            .collect();
        let answers = self.redis.transport.query_all(&commands, self.page(call.deadline));
        // Done again, it changes nothing. The first ones find that the server does not know the script.
        for ((key, value), _) in locks.iter().zip(answers).filter(|(_, answer)| answer.is_err()) {
            let (names, page) = (names(key, value), self.page(call.deadline));
            let keys = names.each_ref().map(String::as_str);
            self.redis.read(page, |_| self.redis.eval(&scripts::INDEX_PULL, &keys, &[value, key.as_bytes()], page))?;
        }
        Ok(())
    }

    fn move_lock(&self, old: &str, new: &str, value: &[u8], call: &Call) -> Result<()> {
        let (old, new) = (format!("{LOCK_PREFIX}{old}"), format!("{LOCK_PREFIX}{new}"));
        if self.redis.transport.is_single() {
            return self
                .redis
                .read(call.deadline, |_| self.redis.eval(&scripts::MOVE, &[&old, &new], &[value], call.deadline))
                .map(drop);
        }
        let mut set = redis::cmd("SET");
        set.arg(&new).arg(value).arg("NX");
        self.redis.read(call.deadline, |link| link.query(&set, call.deadline))?;
        if self.get_key(&new, call)?.as_deref() == Some(value) {
            self.redis.read(call.deadline, |_| self.redis.eval(&scripts::DELETE_IF, &[&old], &[value], call.deadline))?;
        }
        Ok(())
    }
}

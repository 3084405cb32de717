//! When the store opens: locks under the keys of Atlantis before v0.40 move to today's, as stock moves them, and locks that
//! other programs took enter the indexes.
//!
//! An old key is one that the value's fields give without the project. (Stock looks at the key alone, and so misses every old
//! key whose path has a slash in it.) Where today's key is held by another lock, both stay: the old one is listed as unreadable,
//! with the reason. On a single server a move is one script. On a cluster the keys are in different slots: the lock is first set at
//! its new key, if that is free, and then deleted at the old one; a kill in between leaves both, and the next start goes on.
//!
//! What it costs: one look at the names of all keys of the Redis. Locks in the index of all locks have today's keys already, and
//! are not read; the others are, page by page. The look is made at every start: a note that it was made once would be wrong as soon as
//! a stock server has used the Redis since, and then lists and releases by pull would miss that server's locks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::indexes::pull_index_of;
use super::keys::{ALL_LOCKS, LOCK_PREFIX, LOCKS_INDEX};
use super::listing::Found;
use super::pages::Member;
use super::scripts;
use super::store::RedisStore;
use crate::call::{Call, RequestId};
use crate::domain::lock::ProjectLock;
use crate::error::Result;

/// How long it may take; stock allows two minutes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most locks that one round trip puts into the indexes.
const BATCH: usize = 500;

impl RedisStore {
    /// Takes over what is there. Done again, it changes nothing.
    pub(super) fn take_over(&self) -> Result<()> {
        let call = Call::new(RequestId::from_text("take-over"), self.redis.clock.now() + PATIENCE);
        let newest_to_trim = self.newest_to_trim();
        let (gone, _) = self.fill_indexes(&call, |key, value| self.current_key(key, value, &self.page_of(&call)))?;
        self.trim(&gone, newest_to_trim, &call)
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
        let (current, old) = (lock.fields().key(), lock.fields().old_key());
        if key == old.as_bytes() {
            self.move_lock(&old, &current, value, call)?;
            return Ok(Some(current));
        }
        Ok((key == current.as_bytes()).then_some(current))
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

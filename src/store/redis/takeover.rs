//! When the store opens: locks under the keys of Atlantis before v0.40 move to today's, as stock moves them, and locks that
//! other programs took enter the indexes.
//!
//! An old key is one that the value's fields give without the project. (Stock looks at the key alone, and so misses every old
//! key whose path has a slash in it.) Where today's key is held by another lock, both stay: the old one is listed as unreadable,
//! with the reason. On a single server a move is one script. On a cluster the keys are in different slots: the lock is first set at
//! its new key, if that is free, and then deleted at the old one; a kill in between leaves both, and the next start goes on.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::keys::{ALL_LOCKS, LOCK_PREFIX, LOCKS_INDEX, pull_index};
use super::listing::Found;
use super::{RedisStore, scripts};
use crate::clock::{Call, RequestId};
use crate::error::Result;
use crate::model::ProjectLock;

/// How long it may take; stock allows two minutes.
const PATIENCE: Duration = Duration::from_secs(120);

impl RedisStore {
    /// Takes over what is there. Done again, it changes nothing.
    pub(super) fn take_over(&self) -> Result<()> {
        let call = Call::new(RequestId::from_text("take-over"), Instant::now() + PATIENCE);
        // Reading it also trims it: beside stock servers, nothing else reads it.
        let indexed: HashSet<Vec<u8>> = self.read_index(&call)?.into_keys().collect();
        for (key, held) in self.scan(ALL_LOCKS, &call)? {
            let Found::Value(value) = held else { continue };
            let Ok(lock) = ProjectLock::parse(&value) else { continue };
            let current = lock.fields().key();
            if key == lock.fields().old_key().as_bytes() {
                self.move_lock(&lock.fields().old_key(), &current, &value, &call)?;
                self.index(&current, &lock, &value, &call)?;
            } else if key == current.as_bytes() && !indexed.contains(&key) {
                self.index(&current, &lock, &value, &call)?;
            }
        }
        Ok(())
    }

    fn index(&self, key: &str, lock: &ProjectLock<'_>, value: &[u8], call: &Call) -> Result<()> {
        if !self.redis.link.is_single() {
            return self.stamp(&[key], call);
        }
        let pull_index = pull_index(lock.pull().repo, lock.pull().num);
        let keys = [&*format!("{LOCK_PREFIX}{key}"), LOCKS_INDEX, &pull_index];
        self.redis
            .read(call.deadline, |_| self.redis.eval(&scripts::INDEX_PULL, &keys, &[value, key.as_bytes()], call.deadline))
            .map(drop)
    }

    fn move_lock(&self, old: &str, new: &str, value: &[u8], call: &Call) -> Result<()> {
        let (old, new) = (format!("{LOCK_PREFIX}{old}"), format!("{LOCK_PREFIX}{new}"));
        if self.redis.link.is_single() {
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

//! Project locks.

use std::borrow::Cow;

use super::queueing::attempt::{Asker, Attempt};
use super::target::TargetJson;
use super::{Service, unreadable};
use crate::audit::{Event, Kind};
use crate::domain::json::parse_json;
use crate::domain::limits::{MAX_KEY_BYTES, MAX_LOCK_BYTES, limit};
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::Result;
use crate::operation::Operation;
use crate::store::{Granted, Listing, LockInfo, LockKey, Release};

impl Service {
    /// Takes a project's lock if it is free. `lock` is a `models.ProjectLock` in JSON; it is stored as it is.
    ///
    /// It is not safe to assume that the lock is held until it is released here: an operator may release it. Whoever must
    /// know compares the fencing token.
    ///
    /// Errors: `InvalidJson`, `TooLarge`; `EntryUnreadable` if what holds the key is not a lock (the key stays taken); `OtherPull` if
    /// its holder is another pull with the same number, which Atlantis would take for the same pull; `OutcomeUnknown` if the lock may have been taken; those of the store.
    pub fn try_lock(&self, lock: &[u8]) -> Result<Granted> {
        self.granting(Operation::TryLock, |_, call| {
            let asker = Asker::of(lock)?;
            Ok(match self.attempt(&asker, None, call)? {
                Attempt::Granted { token } => Granted::Yes { token, gated: false },
                Attempt::Own { value } | Attempt::Refused { value, .. } => Granted::Held { value },
            })
        })
    }

    /// Releases the lock named by `target` (JSON, see [`Service::get_lock`]) and returns it; `None` if there is none.
    ///
    /// Errors: `InvalidJson`; `EntryUnreadable` if what holds the key is not a lock (it stays); those of the store.
    pub fn unlock(&self, target: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(Operation::Unlock, |store, call| {
            let target = TargetJson::parse(target)?;
            let target = target.target()?;
            self.release(Operation::Unlock, &Release::of(&target), store, call)
        })
    }

    /// The same as [`Service::unlock`], but only if pull `num` holds the lock, and the lock has exactly the fields named: Atlantis
    /// calls this with a project that it knows, never with one that it guessed from a key. `None` otherwise.
    pub fn unlock_if_owned_by_pull(&self, target: &[u8], num: i64) -> Result<Option<Vec<u8>>> {
        self.run(Operation::Unlock, |store, call| {
            let target = TargetJson::parse(target)?;
            let target = target.exact_target()?;
            if let Some(fields) = target.guard()
                && let Some(deferred) = self.defer(fields.repo, num, LockKey::Project(target.key()))?
            {
                return Ok(Some(deferred));
            }
            self.release(Operation::Unlock, &Release::of(&target).only_if_held_by(num), store, call)
        })
    }

    /// The lock named by `target`, or `None`.
    ///
    /// `target` is JSON: an object with the fields `Project` and `Workspace` of a lock, or `{"Key": "repo/path/workspace/project"}`.
    /// Errors: `InvalidJson`; `EntryUnreadable` if what holds the key is not a lock; those of the store.
    pub fn get_lock(&self, target: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(Operation::GetLock, |store, call| {
            let target = TargetJson::parse(target)?;
            let target = target.target()?;
            let key = LockKey::Project(target.key());
            let Some(value) = store.get(key, call)? else { return Ok(None) };
            let lock = ProjectLock::parse(&value).map_err(|e| unreadable(&key, &e))?;
            let admitted = target.admits(lock.fields());
            Ok(admitted.then_some(value))
        })
    }

    /// Removes whatever is stored at the key of `target`, readable or not, and returns it: an operator's last resort.
    pub fn discard(&self, target: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(Operation::Discard, |store, call| {
            let target = TargetJson::parse(target)?;
            let target = target.target()?;
            let key = LockKey::Project(target.key());
            let begun = self.now();
            self.intend(Operation::Discard, call, |event| event.about(key))?;
            let discarded = store.discard(key, call);
            if let Ok(Some(value)) = &discarded {
                self.gave_up(value, target.key(), begun);
            }
            self.audited(Operation::Discard, call, discarded, |trail, discarded| trail.removal(Kind::Discard, key, discarded))
        })
    }

    /// All project locks, and beside them the entries that cannot be read.
    pub fn list(&self) -> Result<Listing> {
        self.run_growing(Operation::List, |store, call| store.list(call))
    }

    /// How the locks at these keys stand, for an operator; `keys` is a JSON array of texts. `None` where it is not known: there is
    /// no such lock, or its store keeps nothing beside values. Hybrid mode tells what the local store knows.
    pub fn lock_infos(&self, keys: &[u8]) -> Result<Vec<Option<LockInfo>>> {
        self.run(Operation::LockInfo, |store, call| {
            limit("a list of keys", keys.len(), MAX_LOCK_BYTES)?;
            let keys: Vec<Cow<'_, str>> = parse_json(keys)?;
            keys.iter().map(|key| store.lock_info(LockKey::Project(key), call)).collect()
        })
    }

    /// A pull gave up all of its locks, and its places in the queue.
    fn pull_gave_up(&self, pull: PullRef<'_>, released: &Listing) {
        let keys: Vec<String> =
            released.values().filter_map(|value| ProjectLock::parse(value).ok().map(|lock| lock.fields().key())).collect();
        keys.iter().for_each(|key| self.queueing.released(key, self.clock.now()));
        self.pull_left(pull);
    }

    /// Releases every lock that pull `num` of exactly this repository holds, and returns them.
    pub fn unlock_by_pull(&self, repo: &str, num: i64) -> Result<Listing> {
        self.run_growing(Operation::UnlockByPull, |store, call| {
            limit("a repository's name", repo.len(), MAX_KEY_BYTES)?;
            let pull = PullRef { repo, num };
            if let Some(deferred) = self.defer_all(pull)? {
                return Ok(deferred);
            }
            self.intend(Operation::UnlockByPull, call, |event| Event { repo: Some(repo), pull: Some(num), ..event })?;
            let released = store.release_by_pull(pull, call);
            if let Ok(released) = &released {
                self.pull_gave_up(pull, released);
            }
            self.audited(Operation::UnlockByPull, call, released, |trail, released| trail.releases(pull, released))
        })
    }
}

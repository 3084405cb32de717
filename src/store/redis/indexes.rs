//! The index of all locks, and a single server's indexes by pull: they make listing and releasing by pull cost what these
//! return, not what Redis stores.
//!
//! A member whose lock is gone is removed when it is met, and the lock's side hash, which a stock server's DEL leaves
//! without an end, gets its end there.

use redis::FromRedisValue as _;

use super::errors::Failure;
use super::keys::{LOCK_PREFIX, LOCKS_INDEX, QUEUES_INDEX, lock_key, pull_index, repo_pattern, side_key};
use super::listing::{Found, Page, at};
use super::pages::Member;
use super::scripts;
use super::store::RedisStore;
use crate::call::Call;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::Result;
use crate::store::LockKey;

/// A member whose lock is gone stays this long after it was last asked for: twice the longest operation, and as much for
/// differences between the clocks of a cluster.
const TRIM_GRACE_MICROS: i64 = 120 * 1_000_000;
/// Most members that one script handles.
const BATCH: usize = 500;

impl RedisStore {
    /// Puts members into the index of all locks before their locks are taken; for a cluster, where both are in different slots.
    pub(super) fn stamp(&self, members: &[&str], call: &Call) -> Result<()> {
        for batch in members.chunks(BATCH) {
            self.redis.change_with(call, &mut None, |[_, not_after, _]| {
                let args: Vec<&[u8]> = std::iter::once(not_after.as_slice()).chain(batch.iter().map(|m| m.as_bytes())).collect();
                self.redis.eval(&scripts::INDEX_ADD, &[LOCKS_INDEX], &args, call.deadline)
            })?;
        }
        Ok(())
    }

    /// Notes that a repository may have a queue, before it has one.
    pub(super) fn note_queue(&self, repo: &str, call: &Call) -> Result<()> {
        let mut command = redis::cmd("SADD");
        command.arg(QUEUES_INDEX).arg(repo);
        self.redis.read(call.deadline, |link| link.query(&command, call.deadline)).map(drop).map_err(|e| at(QUEUES_INDEX, e))
    }

    /// The repositories that may have a queue.
    pub(super) fn queues_index(&self, call: &Call) -> Result<Vec<String>> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(QUEUES_INDEX);
        let repos = self.redis.read(call.deadline, |link| {
            let repos = link.query(&command, call.deadline)?;
            Vec::<String>::from_redis_value(repos).map_err(|e| Failure::Refused(e.into()))
        });
        repos.map_err(|e| at(QUEUES_INDEX, e))
    }

    /// Hands out, page by page, the locks in the index of all locks, by lock key; members whose locks are gone are removed.
    pub(super) fn index_locks(&self, call: &Call, mut each: impl FnMut(Page) -> Result<()>) -> Result<()> {
        let mut pages = self.index_pages(call);
        loop {
            let newest = self.newest_to_trim();
            let Some(members) = pages.next_page()? else { return Ok(()) };
            let keys = members.iter().map(|(member, _)| [LOCK_PREFIX.as_bytes(), member].concat()).collect();
            let found = self.fetch_locks(keys, call.deadline)?;
            let is_found: std::collections::HashSet<&[u8]> = found.iter().map(|(key, _)| key.as_slice()).collect();
            let gone: Vec<Member> = members.into_iter().filter(|(member, _)| !is_found.contains(member.as_slice())).collect();
            drop(is_found);
            self.trim(&gone, newest, call)?;
            each(found)?;
        }
    }

    /// The newest stamp, microseconds, of members whose locks cannot be taken any more without a new one.
    pub(super) fn newest_to_trim(&self) -> i64 {
        self.redis.transport.clock().at(self.redis.clock.now()) - TRIM_GRACE_MICROS
    }

    /// Removes members that were read after `newest` was computed and whose locks were then seen to be gone.
    pub(super) fn trim(&self, gone: &[Member], newest: i64, call: &Call) -> Result<()> {
        let is_old = |stamp: &[u8]| {
            std::str::from_utf8(stamp).ok().and_then(|s| s.parse::<f64>().ok()).is_some_and(|s| s <= newest as f64)
        };
        let old: Vec<&Member> = gone.iter().filter(|(_, stamp)| is_old(stamp)).collect();
        let newest = newest.to_string();
        for batch in old.chunks(BATCH) {
            // First: a member that is there is looked at again.
            let locks = batch.iter().filter_map(|(member, _)| std::str::from_utf8(member).ok());
            self.end_orphans(locks.map(|member| lock_key(LockKey::Project(member))), call)?;
            let mut args = vec![newest.as_bytes()];
            args.extend(batch.iter().flat_map(|(member, stamp)| [member.as_slice(), stamp.as_slice()]));
            let page = self.page(call.deadline);
            self.redis.read(page, |_| self.redis.eval(&scripts::INDEX_TRIM, &[LOCKS_INDEX], &args, page))?;
        }
        Ok(())
    }

    /// Gives the side hashes of these locks an end, where the lock is gone.
    pub(super) fn end_orphans(&self, locks: impl Iterator<Item = String>, call: &Call) -> Result<()> {
        let keys: Vec<String> = locks
            .flat_map(|lock| {
                let side = side_key(&lock);
                [lock, side]
            })
            .collect();
        // On a cluster, each lock is in a slot of its own.
        let at_once = if self.redis.transport.is_single() { keys.len().max(1) } else { 2 };
        for keys in keys.chunks(at_once) {
            let (keys, page): (Vec<&str>, _) = (keys.iter().map(String::as_str).collect(), self.page(call.deadline));
            self.redis.read(page, |_| self.redis.eval(&scripts::END_ORPHANS, &keys, &[], page))?;
        }
        Ok(())
    }

    /// The keys of locks that this pull may hold, as the indexes tell: at least all that it holds and that were taken or taken
    /// over by this library.
    pub(super) fn held_in_index(&self, pull: PullRef<'_>, call: &Call) -> Result<Vec<String>> {
        if !self.redis.transport.is_single() {
            let mut held = Vec::new();
            self.index_locks(call, |page| {
                held.extend(held_by(pull, page));
                Ok(())
            })?;
            return Ok(ordered(held));
        }
        let mut command = redis::cmd("SMEMBERS");
        let index = pull_index(pull.repo, pull.num);
        command.arg(&index);
        let page = self.page(call.deadline);
        let members = self.redis.read(page, |link| {
            Vec::<Vec<u8>>::from_redis_value(link.query_long(&command, page)?).map_err(|e| Failure::Refused(e.into()))
        });
        let members = members.map_err(|e| at(&index, e))?;
        Ok(ordered(members.into_iter().filter_map(|member| String::from_utf8(member).ok()).collect()))
    }

    /// The keys of locks that this pull holds, whoever took them: a look at all keys.
    pub(super) fn held_by_scan(&self, pull: PullRef<'_>, call: &Call) -> Result<Vec<String>> {
        let mut held = Vec::new();
        self.scan_locks(&repo_pattern(pull.repo), call, |page| {
            held.extend(held_by(pull, page));
            Ok(())
        })?;
        Ok(ordered(held))
    }
}

fn held_by(pull: PullRef<'_>, page: Page) -> impl Iterator<Item = String> {
    let is_held = move |held: &Found| match held {
        Found::Value(value) => ProjectLock::parse(value).is_ok_and(|lock| lock.pull() == pull),
        Found::TooLong(_) | Found::Other(_) => false,
    };
    page.into_iter().filter(move |(_, held)| is_held(held)).filter_map(|(key, _)| String::from_utf8(key).ok())
}

fn ordered(mut keys: Vec<String>) -> Vec<String> {
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The name of the index of the pull that holds a lock of this value; empty if it is none.
pub(super) fn pull_index_of(value: &[u8]) -> String {
    ProjectLock::parse(value).map(|lock| pull_index(lock.pull().repo, lock.pull().num)).unwrap_or_default()
}

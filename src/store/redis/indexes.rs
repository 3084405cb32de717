//! The index of all locks, and a single server's indexes by pull: they make listing and releasing by pull cost what these
//! return, not what Redis stores.

use std::time::Instant;

use redis::FromRedisValue as _;

use super::errors::Failure;
use super::keys::{LOCK_PREFIX, LOCKS_INDEX, pull_index, repo_pattern};
use super::link::Attempt;
use super::listing::{Found, FoundLocks};
use super::reply::Reply;
use super::{Guard, RedisStore, keys, read_release, script_keys, scripts};
use crate::clock::Call;
use crate::error::{Error, Result};
use crate::model::{ProjectLock, PullRef};
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
            self.redis.change_with(call, None, |[_, not_after, _]| {
                let args: Vec<&[u8]> = std::iter::once(not_after.as_slice()).chain(batch.iter().map(|m| m.as_bytes())).collect();
                self.redis.eval(&scripts::INDEX_ADD, &[LOCKS_INDEX], &args, call.deadline)
            })?;
        }
        Ok(())
    }

    /// The locks in the index of all locks; members whose locks are gone are trimmed.
    pub(super) fn read_index(&self, call: &Call) -> Result<FoundLocks> {
        let members = self.index_members(call)?;
        let newest_to_trim = self.redis.link.clock().at(Instant::now()) - TRIM_GRACE_MICROS;
        let keys = members.iter().map(|(member, _)| [LOCK_PREFIX.as_bytes(), member].concat()).collect();
        let found = self.fetch(keys, call.deadline)?;
        let gone: Vec<&(Vec<u8>, Vec<u8>)> = members.iter().filter(|(member, _)| !found.contains_key(member)).collect();
        for batch in gone.chunks(BATCH) {
            self.trim(batch, newest_to_trim, call)?;
        }
        Ok(found)
    }

    /// The members of the index of all locks, each with its stamp.
    fn index_members(&self, call: &Call) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(LOCKS_INDEX).arg(0).arg(-1).arg("WITHSCORES");
        self.redis.read(call.deadline, |link| {
            Vec::<(Vec<u8>, Vec<u8>)>::from_redis_value(link.query_long(&command, call.deadline)?)
                .map_err(|e| Failure::Refused(e.into()))
        })
    }

    fn trim(&self, gone: &[&(Vec<u8>, Vec<u8>)], newest: i64, call: &Call) -> Result<()> {
        let newest = newest.to_string();
        let mut args = vec![newest.as_bytes()];
        args.extend(gone.iter().flat_map(|(member, stamp)| [member.as_slice(), stamp.as_slice()]));
        self.redis.read(call.deadline, |_| self.redis.eval(&scripts::INDEX_TRIM, &[LOCKS_INDEX], &args, call.deadline)).map(drop)
    }

    /// The keys of locks that were taken here and that this pull may hold: at least all that it does hold.
    pub(super) fn held_in_index(&self, pull: PullRef<'_>, call: &Call) -> Result<Vec<String>> {
        if !self.redis.link.is_single() {
            return Ok(held_by(pull, self.read_index(call)?));
        }
        let mut command = redis::cmd("SMEMBERS");
        command.arg(pull_index(pull.repo, pull.num));
        let mut members = self.redis.read(call.deadline, |link| {
            Vec::<String>::from_redis_value(link.query_long(&command, call.deadline)?).map_err(|e| Failure::Refused(e.into()))
        })?;
        members.sort_unstable();
        Ok(members)
    }

    /// The keys of locks that this pull holds, whoever took them; none if nobody else takes any.
    pub(super) fn held_by_scan(&self, pull: PullRef<'_>, call: &Call) -> Result<Vec<String>> {
        if !self.shared_with_stock {
            return Ok(Vec::new());
        }
        Ok(held_by(pull, self.scan(&repo_pattern(pull.repo), call)?))
    }

    /// Releases these locks where the guard admits it: those that were released, and how it ended.
    pub(super) fn release_all(&self, members: &[String], guard: &Guard<'_>, call: &Call) -> (Vec<(String, Vec<u8>)>, Result<()>) {
        let mut released = Vec::new();
        let ended = self.release_each(members, guard, call, |member, value| released.push((member.to_owned(), value)));
        (released, ended)
    }

    fn release_each(
        &self,
        members: &[String],
        guard: &Guard<'_>,
        call: &Call,
        mut released: impl FnMut(&str, Vec<u8>),
    ) -> Result<()> {
        for batch in members.chunks(BATCH) {
            let sent = Instant::now();
            let at_once = if self.redis.link.is_single() { self.release_at_once(batch, guard, call) } else { Vec::new() };
            for (nth, member) in batch.iter().enumerate() {
                let reply = match at_once.get(nth) {
                    Some(Ok(reply @ (Reply::Done(_) | Reply::None | Reply::Unreadable(_)))) => reply.clone(),
                    // If it was made, its first answer comes back.
                    Some(Err(Failure::ReplyLost(_))) => self.release_one(member, guard, call, call.lost_since.or(Some(sent)))?,
                    _ => self.release_one(member, guard, call, call.lost_since)?,
                };
                match reply {
                    // Not a lock of this pull, whatever it is.
                    Reply::Unreadable(_) => {}
                    reply => {
                        if let Some(value) = read_release(LockKey::Project(member), reply)? {
                            released(member, value);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// One attempt for all, in one round trip.
    fn release_at_once(&self, members: &[String], guard: &Guard<'_>, call: &Call) -> Vec<Attempt<Reply>> {
        let head = self.redis.head(call, call.lost_since);
        let commands: Vec<_> = members
            .iter()
            .map(|member| {
                let lock = keys::lock_key(LockKey::Project(member));
                let side = keys::side_key(&lock);
                let tail = guard.args(true, member.as_bytes());
                let args: Vec<&[u8]> = head.iter().map(Vec::as_slice).chain(tail).collect();
                scripts::RELEASE.by_hash(&script_keys(&lock, &side, true), &args)
            })
            .collect();
        let replies = self.redis.link.query_all(&commands, call.deadline);
        // An answer that cannot be read is none: asked again, it is an error.
        let lost = |e: Error| Failure::ReplyLost(redis::RedisError::from(std::io::Error::other(e.message().to_owned())));
        replies.into_iter().map(|reply| Reply::read(reply?).map_err(lost)).collect()
    }

    fn release_one(&self, member: &str, guard: &Guard<'_>, call: &Call, lost_since: Option<Instant>) -> Result<Reply> {
        let lock = keys::lock_key(LockKey::Project(member));
        let side = keys::side_key(&lock);
        let keys = script_keys(&lock, &side, self.redis.link.is_single());
        let tail = guard.args(true, member.as_bytes());
        self.redis.change_with(call, lost_since, |head| {
            let args: Vec<&[u8]> = head.iter().map(Vec::as_slice).chain(tail.iter().copied()).collect();
            self.redis.eval(&scripts::RELEASE, &keys, &args, call.deadline)
        })
    }
}

/// The keys of what this pull holds among these locks.
fn held_by(pull: PullRef<'_>, found: FoundLocks) -> Vec<String> {
    let held_by_pull = |held: &Found| match held {
        Found::Value(value) => ProjectLock::parse(value).is_ok_and(|lock| lock.pull() == pull),
        Found::Other(_) => false,
    };
    found.into_iter().filter(|(_, held)| held_by_pull(held)).filter_map(|(key, _)| String::from_utf8(key).ok()).collect()
}

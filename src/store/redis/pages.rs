//! Looking through what may be very much, page by page: the keys of a whole Redis, the index of all locks.
//!
//! Invariants:
//! - A key that is there all the time is on some page. One that comes or goes meanwhile may be; a key may be on two pages.
//! - One page is held in memory, of a bounded size (`transport/wire.rs`), and one page is what a server that hangs costs: each has the deadline of a single operation, all
//!   together that of the call.
//!
//! Faults survived: a page that fails and may be asked for again costs that page, not those before; a cluster's master that
//! is replaced meanwhile is looked through again from its beginning, under its new address.

use std::collections::HashSet;
use std::time::Instant;

use redis::FromRedisValue as _;

use super::errors::Failure;
use super::keys::LOCKS_INDEX;
use super::listing::at;
use super::store::RedisStore;
use crate::call::Call;
use crate::error::{Code, Error, Result};

/// Keys that one SCAN looks at, and members that one page of the index has: large, so that 10,000 locks are a few round trips;
/// small, so that Redis is never busy for long.
const PAGE: usize = 5000;

/// How many times fewer a page has that follows one which was too long.
const FEWER: usize = 10;

/// One of `Transport::masters`.
type Master = Option<(String, u16)>;
/// A member of the index, and its stamp.
pub(super) type Member = (Vec<u8>, Vec<u8>);

impl RedisStore {
    /// The deadline of one question of many: a server that hangs is noticed as soon as with a single one.
    pub(super) fn page(&self, deadline: Instant) -> Instant {
        deadline.min(self.redis.clock.now() + self.patience)
    }

    /// The same call with a page's deadline: what it changes, it changes by then or not at all.
    pub(super) fn page_of(&self, call: &Call) -> Call {
        let mut page = call.clone();
        page.deadline = self.page(call.deadline);
        page
    }

    /// Whether there is time for another page.
    fn in_time(&self, deadline: Instant) -> Result<()> {
        if self.redis.clock.now() < deadline {
            return Ok(());
        }
        let text = format!("Redis at {}: there is more in it than could be looked at before the deadline", self.redis.server);
        Err(Error::new(Code::Timeout, text))
    }

    /// The keys that match, page by page. On a cluster: of all masters.
    pub(super) fn scan<'a>(&'a self, pattern: &'a str, call: &Call) -> Scan<'a> {
        Scan { store: self, pattern, deadline: call.deadline, done: Vec::new(), at: None, count: PAGE, looked_at: 0 }
    }

    /// The members of the index of all locks, page by page.
    pub(super) fn index_pages(&self, call: &Call) -> IndexPages<'_> {
        let from = b"-inf".to_vec();
        IndexPages { store: self, deadline: call.deadline, from, seen: HashSet::new(), count: PAGE, is_over: false }
    }
}

/// A look through all keys.
pub(super) struct Scan<'a> {
    store: &'a RedisStore,
    pattern: &'a str,
    deadline: Instant,
    /// Masters that were looked through.
    done: Vec<Master>,
    /// The one that is being looked through, and how far.
    at: Option<(Master, Vec<u8>)>,
    /// Keys that the next page looks at.
    count: usize,
    looked_at: usize,
}

impl Scan<'_> {
    /// The next page, in order, without duplicates; `None` behind the last one.
    pub(super) fn next_page(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        self.store.in_time(self.deadline).map_err(|e| self.explain(e))?;
        let page = self.store.page(self.deadline);
        let (pattern, done, at, count) = (self.pattern, &self.done, &self.at, self.count);
        let found = self.store.redis.read(page, |link| {
            let masters = link.masters(page)?;
            let (master, cursor) = match at {
                Some((master, cursor)) if masters.contains(master) => (master.clone(), cursor.clone()),
                _ => match masters.into_iter().find(|master| !done.contains(master)) {
                    Some(master) => (master, b"0".to_vec()),
                    None => return Ok(None),
                },
            };
            let mut command = redis::cmd("SCAN");
            command.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
            let reply = match link.query_at(master.as_ref(), &command, page) {
                Err(Failure::TooLong) if count > 1 => return Ok(Some((master, cursor, None))),
                reply => reply?,
            };
            let (next, keys) = <(Vec<u8>, Vec<Vec<u8>>)>::from_redis_value(reply).map_err(|e| Failure::Refused(e.into()))?;
            Ok(Some((master, next, Some(keys))))
        });
        let Some((master, next, keys)) = found.map_err(|e| self.explain(e))? else { return Ok(None) };
        let Some(mut keys) = keys else {
            // Names of that length are nobody's of ours: fewer at once.
            self.at = Some((master, next));
            self.count = (self.count / FEWER).max(1);
            return Ok(Some(Vec::new()));
        };
        // Whoever reads a page counts on it.
        let asked_for = pattern.split(['*', '?', '[', '\\']).next().unwrap_or_default();
        if keys.iter().any(|key| !key.starts_with(asked_for.as_bytes())) {
            let text = format!("Redis at {} answers a search for {pattern:?} with other keys", self.store.redis.server);
            return Err(Error::new(Code::Protocol, text));
        }
        if next == b"0" {
            self.done.push(master);
            self.at = None;
        } else {
            self.at = Some((master, next));
        }
        self.looked_at += self.count;
        self.count = PAGE;
        keys.sort_unstable();
        keys.dedup();
        Ok(Some(keys))
    }

    /// How far it came, and what to do, where time was short.
    fn explain(&self, error: Error) -> Error {
        if !matches!(error.code(), Code::Timeout | Code::Unreachable) {
            return error;
        }
        let advice = if self.store.shared_with_stock {
            "set shared_with_stock: false if no stock server uses this Redis: then there is nothing to look for; or raise timeouts.operation"
        } else {
            "raise timeouts.operation"
        };
        let text =
            format!("{}. About {} keys had been looked at, for locks among all keys: {advice}", error.message(), self.looked_at);
        Error::new(error.code(), text)
    }
}

/// A look through the index of all locks.
///
/// By stamp: one that changes meanwhile becomes larger, so that no member is passed over.
pub(super) struct IndexPages<'a> {
    store: &'a RedisStore,
    deadline: Instant,
    /// The last page's last stamp.
    from: Vec<u8>,
    /// Its members that have had a page.
    seen: HashSet<Vec<u8>>,
    count: usize,
    is_over: bool,
}

impl IndexPages<'_> {
    /// The next page; `None` behind the last one.
    pub(super) fn next_page(&mut self) -> Result<Option<Vec<Member>>> {
        while !self.is_over {
            self.store.in_time(self.deadline)?;
            let page = self.store.page(self.deadline);
            let mut command = redis::cmd("ZRANGE");
            command
                .arg(LOCKS_INDEX)
                .arg(&self.from)
                .arg("+inf")
                .arg("BYSCORE")
                .arg("LIMIT")
                .arg(0)
                .arg(self.count)
                .arg("WITHSCORES");
            let members = self.store.redis.read(page, |link| {
                Vec::<Member>::from_redis_value(link.query_long(&command, page)?).map_err(|e| Failure::Refused(e.into()))
            });
            let members = members.map_err(|e| at(LOCKS_INDEX, e))?;
            self.is_over = members.len() < self.count;
            let Some((_, last)) = members.last().cloned() else { break };
            if last == self.from {
                // A whole page of one stamp, or the rest of them.
                self.count *= 2;
            } else {
                self.count = PAGE;
            }
            let fresh: Vec<Member> = members.iter().filter(|(member, _)| !self.seen.contains(member)).cloned().collect();
            if last != self.from {
                self.seen.clear();
            }
            self.seen.extend(members.into_iter().filter(|(_, stamp)| *stamp == last).map(|(member, _)| member));
            self.from = last;
            if !fresh.is_empty() {
                return Ok(Some(fresh));
            }
        }
        Ok(None)
    }
}

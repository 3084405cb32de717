//! Who waits where, what a grant is worth, and what was counted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::super::Service;
use super::place::ReadQueue;
use super::wait::is_of;
use crate::audit::{Event, Kind};
use crate::call::Call;
use crate::domain::limits::{MAX_KEY_BYTES, limit};
use crate::domain::lock::ProjectLock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::queue::{Priority, PullId, Want};
use crate::store::contract::local::Held;
use crate::store::{DocumentKey, Expected, LockKey, Store};

/// Counters of waiting and holding; times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Locks that are held now, by whomever.
    pub active_locks: u64,
    /// Tries to take a lock.
    pub total_requests: u64,
    /// Those that ended with the lock.
    pub successful_acquires: u64,
    /// The others.
    pub failed_acquires: u64,
    /// Of callers who waited and got the lock.
    pub average_wait_ms: u64,
    /// Of locks that this process took and released.
    pub average_hold_ms: u64,
    /// Pulls that wait, in all repositories.
    pub queue_depth: u64,
    /// 100 healthy, 50 degraded, 0 unhealthy.
    pub health_score: u32,
    /// When this was looked at, microseconds since 1970.
    pub last_updated: u64,
}

/// One pull that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueuedPull {
    /// The pull.
    pub pull: PullId,
    /// Its page.
    pub url: String,
    /// Who asked.
    pub user: String,
    /// Its class.
    pub priority: Priority,
    /// Since when, microseconds since 1970.
    pub since: u64,
    /// Whether it takes all that it waits for at once.
    pub whole: bool,
    /// What it waits for.
    pub keys: BTreeMap<String, QueuedKey>,
    /// Whether the local store says so in Redis's place.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// One lock that a pull waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueuedKey {
    /// 1 is next.
    pub position: usize,
    /// Until when the free lock is kept for this pull, microseconds since 1970; `null` while it is not.
    pub reserved_until: Option<u64>,
}

/// What a grant is worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Whether this pull holds the lock, by the grant that was asked for.
    pub holds: bool,
    /// The fencing token of whoever holds the lock; absent if nobody does, or it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<FencingToken>,
    /// The pull that holds the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<PullId>,
}

impl Service {
    /// The place of a pull among those who wait for a lock: 0 if it holds the lock, 1 if it is next. Without a pull, the place that a
    /// newcomer would have; 0 is a free lock.
    ///
    /// Errors: `NotQueued`; `QueueDisabled` if neither 0 nor a place can be told.
    pub fn position(&self, key: &str, repo: &str, pull: Option<&PullId>) -> Result<usize> {
        self.reading(Operation::Position, |store, call| {
            limit("a lock's key", key.len(), MAX_KEY_BYTES)?;
            let held = store.get(LockKey::Project(key), call)?;
            let is_held = held.as_deref().is_some_and(|value| pull.is_none_or(|pull| is_of(value, pull, repo)));
            if let (true, Some(_)) | (false, None) = (is_held, pull)
                && (pull.is_some() || !self.queueing.is_for(repo))
            {
                return Ok(0);
            }
            self.need_queue_of(repo)?;
            let queue = self.queue(repo)?;
            let Some(pull) = pull else {
                let waits = queue.wanted_by(key).len();
                return Ok(if held.is_none() && waits == 0 { 0 } else { waits + 1 });
            };
            queue.position(pull, key, &self.queueing.rules).ok_or_else(|| {
                let text = format!("pull #{} of {repo:?} neither holds {key:?} nor waits for it", pull.num);
                Error::new(Code::NotQueued, text)
            })
        })
    }

    /// Who waits in a repository, or in each; by its name, in order.
    pub fn queues(&self, repo: Option<&str>) -> Result<BTreeMap<String, Vec<QueuedPull>>> {
        self.reading(Operation::Queues, |store, call| {
            repo.map_or_else(|| self.need_queue(), |repo| self.need_queue_of(repo))?;
            let repos = match repo {
                Some(repo) => vec![repo.to_owned()],
                None => store.queues(call)?,
            };
            let mut queues = BTreeMap::new();
            for repo in repos.into_iter().filter(|repo| self.queueing.is_for(repo)) {
                let queue = self.queue(&repo)?;
                if !queue.is_empty() {
                    queues.insert(repo, self.shown(&queue));
                }
            }
            Ok(queues)
        })
    }

    fn shown(&self, queue: &ReadQueue) -> Vec<QueuedPull> {
        let rules = &self.queueing.rules;
        let shown = |ticket: &&crate::queue::Ticket| {
            let key = |(key, want): (&String, &Want)| {
                let until = match want {
                    Want::Reserved { until, .. } => Some(*until),
                    Want::Waiting => None,
                };
                let position = queue.position(ticket.pull(), key, rules).unwrap_or_default();
                (key.clone(), QueuedKey { position, reserved_until: until })
            };
            QueuedPull {
                pull: ticket.pull().clone(),
                url: ticket.waiter.url.clone(),
                user: ticket.waiter.user.clone(),
                priority: ticket.priority,
                since: ticket.since,
                whole: ticket.whole,
                keys: ticket.wants.iter().map(key).collect(),
                stale: queue.stale,
            }
        };
        queue.tickets_in_order(rules).iter().map(shown).collect()
    }

    /// Takes a pull out of the queue: of one lock, or of all. Returns of how many.
    ///
    /// Pull 0 without a key is everybody: the queue is emptied, also one that cannot be read, and the answer is how many pulls waited that
    /// are known.
    pub fn leave(&self, repo: &str, pull: &PullId, key: Option<&str>) -> Result<usize> {
        self.reading(Operation::Leave, |_, call| {
            self.need_queue_of(repo)?;
            self.intend(Operation::Leave, call, |event| place(event, repo, pull, key))?;
            let left = self.take_out(repo, pull, key);
            self.audit(Operation::Leave, call, |trail| match &left {
                Ok(0) => trail.unchanged(|event| place(event, repo, pull, key)),
                Ok(_) => trail.log.record(&place(trail.event(Kind::Leave), repo, pull, key)),
                Err(error) => trail.log.record(&place(trail.event(Kind::Error), repo, pull, key).failed(error)),
            });
            left
        })
    }

    fn take_out(&self, repo: &str, pull: &PullId, key: Option<&str>) -> Result<usize> {
        if pull.num == 0 && key.is_none() {
            return self.empty(repo);
        }
        let left = self.change(repo, |queue, now| Ok((queue.leave(pull, key), self.dispatch_in(repo, queue, &[], now)?)))?;
        let (left, events) = left.answer;
        self.queueing.dispatched(repo, events);
        Ok(left)
    }

    /// Deletes a queue. Its gates are open to the next who asks.
    fn empty(&self, repo: &str) -> Result<usize> {
        let waited = self.queue(repo).map_or(0, |queue| queue.len());
        self.store().swap_document(DocumentKey::Queue(repo), Expected::Any, None, &self.step())?;
        self.queueing.wake();
        // It is readable now, which ends the warning.
        self.dispatch(repo, &[])?;
        Ok(waited)
    }

    /// Whether a pull holds a lock, by the store that decides; with a token, by that grant.
    pub fn check(&self, key: &str, repo: &str, pull: &PullId, token: Option<FencingToken>) -> Result<Checked> {
        self.reading(Operation::Check, |store, call| {
            limit("a lock's key", key.len(), MAX_KEY_BYTES)?;
            let Some(Held { value, token: held_by }) = store.held(LockKey::Project(key), call)? else {
                return Ok(Checked { holds: false, token: None, holder: None });
            };
            let holder = ProjectLock::parse(&value).ok().map(|lock| PullId::of(&lock));
            let is_that_grant = token.is_none_or(|token| token == held_by);
            Ok(Checked { holds: is_that_grant && is_of(&value, pull, repo), token: held_by.known(), holder })
        })
    }

    /// Counters of waiting and holding.
    pub fn stats(&self) -> Result<Stats> {
        let active_locks = self.list()?.len() as u64;
        let queues = if self.queueing.is_enabled() { self.queues(None)? } else { BTreeMap::new() };
        let health = self.health();
        let [tried, waited] = [Operation::TryLock, Operation::Lock].map(|operation| self.metrics.ended(operation));
        let (acquired, failed) = (tried.0 + waited.0, tried.1 + waited.1);
        let counts = self.queueing.waits.counts.lock();
        let average = |total: Duration, of: u64| u64::try_from(total.as_millis() / u128::from(of.max(1))).unwrap_or(u64::MAX);
        Ok(Stats {
            active_locks,
            total_requests: acquired + failed,
            successful_acquires: acquired,
            failed_acquires: failed,
            average_wait_ms: average(counts.waited, counts.waits),
            average_hold_ms: average(counts.held, counts.holds),
            queue_depth: queues.values().map(|queue| queue.len() as u64).sum(),
            health_score: health.score(),
            last_updated: self.now(),
        })
    }

    pub(super) fn reading<T>(&self, operation: Operation, body: impl FnOnce(&dyn Store, &Call) -> Result<T>) -> Result<T> {
        self.counted(operation, self.router.timeout(), |_| false, body)
    }
}

/// An event about a place in the queue.
fn place<'a>(event: Event<'a>, repo: &'a str, pull: &PullId, key: Option<&'a str>) -> Event<'a> {
    Event { repo: Some(repo), pull: Some(pull.num), key, ..event }
}

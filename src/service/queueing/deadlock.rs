//! Pulls that wait for each other in a circle: found, confirmed, told, and ended by one that yields.
//!
//! Each look at a queue undoes the circles that a reservation is in ([`Queue::dispatch_without_circles`]); circles of held locks are looked
//! for if `deadlock_detection.enabled` says so. Such a circle counts only once a second look, `confirm` later, has found the same locks
//! with the same holders and tokens: a circle that somebody is just leaving is none.
//!
//! **Yielding.** Nothing here decides to take a lock back. Whoever knows what was applied, the server, says so for the pulls of a confirmed
//! circle ([`Service::end_deadlock`]); a pull of which nothing is said counts as applied. Then the canonical victim gives up its locks of
//! the circle, and waits for them from its old place.
//!
//! Invariants:
//! - A lock is released only if it is of the victim, by the very grant that the circle was seen with.
//! - No pull yields that has a run in this process, or of which nobody said that nothing is applied and nothing runs.
//!
//! Faults: a crash between the releases and the victim's return to the queue costs the victim its place for those keys, and no lock. Two
//! servers that end one circle at once release what is the victim's; the second finds another circle, or none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::state::State;
use super::super::{BY_QUEUE, Service};
use super::seen::Known;
use super::wait::is_of;
use crate::audit::{Event, Kind};
use crate::config::Resolve;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::queue::cycle::{Circle, Link, circles};
use crate::queue::{PullId, Queue};
use crate::store::contract::local::Held;
use crate::store::{LockKey, Release};

/// Pulls that wait for each other in a circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deadlock {
    /// Of its locks, their holders and tokens.
    pub id: String,
    /// `held`: each holds a lock that the one before wants. Circles that a reservation is in are undone, and are not listed.
    pub kind: &'static str,
    /// The repository.
    pub repo: String,
    /// The pulls: each waits for the next, and the last for the first.
    pub pulls: Vec<PullId>,
    /// The locks that they wait for.
    pub keys: Vec<String>,
    /// Who waits for whom, and for which locks: the same once around.
    pub links: Vec<DeadlockLink>,
    /// Its pulls, the one that would yield first first: the lowest priority, then who joined last.
    pub rank: Vec<PullId>,
    /// When it was first seen, microseconds since 1970.
    pub since: u64,
    /// The cheapest way out, for a person.
    pub suggestion: String,
    /// Who is to yield, if the settings say `resolve: yield` and nothing of that pull is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub victim: Option<PullId>,
}

/// One pull of a circle, and the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadlockLink {
    /// Who waits.
    pub waiter: PullId,
    /// For whom.
    pub holder: PullId,
    /// For which of the holder's locks.
    pub keys: Vec<String>,
}

impl DeadlockLink {
    fn of(link: &Link) -> DeadlockLink {
        let keys = link.keys.keys().cloned().collect();
        DeadlockLink { waiter: link.waiter.clone(), holder: link.holder.clone(), keys }
    }
}

/// What the server knows of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The pull.
    pub pull: PullId,
    /// Whether anything of it was applied.
    pub applied: bool,
    /// Whether a command of it runs.
    pub running: bool,
}

/// A pull gave locks back to end a circle. Their plans are to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Yielded {
    /// The circle.
    pub id: String,
    /// The repository.
    pub repo: String,
    /// The pull.
    pub pull: PullId,
    /// The locks that it held, with the tokens of the grants that ended.
    pub released: BTreeMap<String, FencingToken>,
}

impl State {
    /// A look at one queue: who is next, without circles of reservations; and which circles of locks there are.
    pub(super) fn look_for_circles(&self, repo: &str) -> Result<Queue> {
        let detection = &self.queueing.detection;
        let changed = self.change(repo, |queue, now| {
            if queue.is_empty() {
                return Ok((Vec::new(), Vec::new()));
            }
            self.prepare(repo, queue, now)?;
            let held = self.held_of(queue)?;
            let holders = held.iter().map(|(key, held)| {
                let holder = self.holder(repo, key, held.as_ref().map(|held| &*held.value), now);
                (key.clone(), holder)
            });
            let events = queue.dispatch_without_circles(&holders.collect(), &self.queueing.rules, now);
            let circles = if detection.enabled { self.circles_in(queue, &held) } else { Vec::new() };
            Ok((events, circles))
        })?;
        let (events, circles) = changed.answer;
        self.queueing.dispatched(repo, events);
        let confirmed = self.queueing.deadlocks.seen(repo, circles, detection.confirm, (self.clock.now(), self.now()));
        for known in confirmed {
            self.queueing.waits.deadlock();
            self.tell(Kind::Deadlock, &known, &known.circle.suggestion(), None);
        }
        Ok(changed.queue.queue)
    }

    /// The locks that are at the keys that somebody wants.
    fn held_of(&self, queue: &Queue) -> Result<BTreeMap<String, Option<Held>>> {
        let until = self.step().deadline;
        let look = |key: String| {
            let held = self.store().held(LockKey::Project(&key), &self.calls.until(until))?;
            Ok((key, held))
        };
        queue.keys_to_look_at(&[]).into_iter().map(look).collect()
    }

    fn circles_in(&self, queue: &Queue, held: &BTreeMap<String, Option<Held>>) -> Vec<Circle> {
        let lock = |(key, held): (&String, &Option<Held>)| {
            let Held { value, token } = held.as_ref()?;
            let lock = crate::domain::lock::ProjectLock::parse(value).ok()?;
            Some((key.clone(), (PullId::of(&lock), *token)))
        };
        circles(queue, &held.iter().filter_map(lock).collect())
    }

    fn tell(&self, kind: Kind, known: &Known, detail: &str, pull: Option<&PullId>) {
        if let Some(log) = &self.audit {
            let pulls: Vec<String> = known.circle.links.iter().map(|link| format!("#{}", link.waiter.num)).collect();
            let detail = format!("circle {}: {} wait for each other; {detail}", known.circle.id, pulls.join(", "));
            let event = Event::new(kind, &self.instance).done_by(&BY_QUEUE);
            log.record(&Event { repo: Some(&known.repo), pull: pull.map(|pull| pull.num), detail: Some(&detail), ..event });
        }
    }

    /// Whether a run of this pull is open here.
    pub(super) fn has_run(&self, repo: &str, pull: &PullId) -> bool {
        self.queueing.runs.lock().pulls_of(repo).iter().any(|other| other.is(pull))
    }
}

impl Service {
    /// The confirmed circles of held locks.
    ///
    /// Errors: `QueueDisabled`; `Unsupported` if nobody looks for them.
    pub fn deadlocks(&self) -> Result<Vec<Deadlock>> {
        self.reading(Operation::Deadlocks, |_, _| {
            self.need_detection()?;
            let shown = |known: Known| {
                let Known { repo, circle, since, .. } = known;
                let yields = self.queueing.detection.resolve == Resolve::Yield;
                let victim = circle.victim(|pull| yields && !self.has_run(&repo, pull)).map(|link| link.holder.clone());
                Deadlock {
                    kind: "held",
                    pulls: circle.links.iter().map(|link| link.waiter.clone()).collect(),
                    keys: circle.links.iter().flat_map(|link| link.keys.keys().cloned()).collect(),
                    links: circle.links.iter().map(DeadlockLink::of).collect(),
                    suggestion: circle.suggestion(),
                    rank: circle.rank,
                    id: circle.id,
                    repo,
                    since,
                    victim,
                }
            };
            Ok(self.queueing.deadlocks.confirmed().into_iter().map(shown).collect())
        })
    }

    /// Ends a confirmed circle: the canonical victim among the pulls of which nothing is applied, and nothing runs, gives its locks of the
    /// circle back, and waits for them from its old place. `None`: there is no such pull, and nothing was done.
    ///
    /// Errors: those of [`Service::deadlocks`]; `Unsupported` unless the settings say `resolve: yield`; `InvalidArgument` if the circle is
    /// over; those of a release.
    pub fn end_deadlock(&self, id: &str, standings: &[Standing]) -> Result<Option<Yielded>> {
        self.reading(Operation::EndDeadlock, |_, _| {
            self.need_detection()?;
            if self.queueing.detection.resolve != Resolve::Yield {
                let text = "nobody yields: set locking.enhanced.deadlock_detection.resolve to yield";
                return Err(Error::new(Code::Unsupported, text));
            }
            let known = self.still_there(id)?;
            let is_free = |pull: &PullId| {
                let mut told = standings.iter().filter(|standing| standing.pull.is(pull)).peekable();
                let is_told = told.peek().is_some();
                is_told && told.all(|standing| !standing.applied && !standing.running) && !self.has_run(&known.repo, pull)
            };
            let Some(link) = known.circle.victim(is_free) else { return Ok(None) };
            let released = self.acting_as(BY_QUEUE).give_back(&known.repo, link)?;
            self.wait_again(&known.repo, &link.holder, &released)?;
            if released.is_empty() {
                return Ok(None);
            }
            self.queueing.waits.yielded();
            let keys: Vec<String> = released.keys().map(|key| format!("{key:?}")).collect();
            self.tell(Kind::Yield, &known, &format!("#{} gave {} back", link.holder.num, keys.join(", ")), Some(&link.holder));
            let (id, repo, pull) = (id.to_owned(), known.repo.clone(), link.holder.clone());
            Ok(Some(Yielded { id, repo, pull, released }))
        })
    }

    /// Marks people as told of a confirmed circle, and says on which of its pulls they were not: the caller is to tell them there. Each pull is
    /// named to one caller, of whichever server; one that dies before it has told leaves them untold.
    ///
    /// Errors: those of [`Service::deadlocks`]; `InvalidArgument` if the circle is over.
    pub fn tell_deadlock(&self, id: &str) -> Result<Vec<PullId>> {
        self.reading(Operation::TellDeadlock, |_, _| {
            self.need_detection()?;
            let known = self.still_there(id)?;
            Ok(self.change(&known.repo, |queue, _| Ok(queue.tell(id, &known.circle.rank)))?.answer)
        })
    }

    fn need_detection(&self) -> Result<()> {
        self.need_queue()?;
        if self.queueing.detection.enabled {
            return Ok(());
        }
        let text = "nobody looks for deadlocks: set locking.enhanced.deadlock_detection.enabled to true";
        Err(Error::new(Code::Unsupported, text))
    }

    /// The confirmed circle of this name, if a look just now finds the same grants.
    fn still_there(&self, id: &str) -> Result<Known> {
        let known = self.queueing.deadlocks.confirmed().into_iter().find(|known| known.circle.id == id);
        let over = || Error::new(Code::InvalidArgument, format!("there is no deadlock {id:?}: it is over, or not confirmed yet"));
        let known = known.ok_or_else(over)?;
        let queue = self.queue(&known.repo)?;
        let found = self.circles_in(&queue, &self.held_of(&queue)?);
        if found.iter().any(|circle| circle.id == id) { Ok(known) } else { Err(over()) }
    }

    /// Releases the victim's locks of the circle, each only by the grant that it was seen with.
    fn give_back(&self, repo: &str, link: &Link) -> Result<BTreeMap<String, FencingToken>> {
        let mut released = BTreeMap::new();
        for (key, seen) in &link.keys {
            let lock = LockKey::Project(key);
            let Some(Held { value, token }) = self.store().held(lock, &self.step())? else { continue };
            if token != *seen || !is_of(&value, &link.holder, repo) {
                continue;
            }
            let release = Release { key: lock, fields: None, pull_num: None, value: None }.only_if_it_is(&value);
            let call = self.step();
            if self.release(Operation::EndDeadlock, &release, self.store(), &call)?.is_some() {
                released.insert(key.clone(), token);
            }
        }
        Ok(released)
    }

    /// The victim waits for what it gave back, from its old place.
    fn wait_again(&self, repo: &str, victim: &PullId, released: &BTreeMap<String, FencingToken>) -> Result<()> {
        let keys: Vec<String> = released.keys().cloned().collect();
        if keys.is_empty() {
            return Ok(());
        }
        self.change(repo, |queue, now| {
            let Some(ticket) = queue.ticket(victim).cloned() else { return Ok(()) };
            queue.join(&ticket.waiter, &keys, ticket.priority, ticket.whole, ticket.calls, now)
        })?;
        self.look_for_circles(repo).map(drop)
    }
}

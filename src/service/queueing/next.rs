//! Whose turn it is. A server that plans pulls by itself asks here which, and when.
//!
//! Invariants:
//! - A pull is named to one server at a time: naming a pull claims it in the queue's document, by the swap that each change is. A run of the
//!   pull, of whichever server, keeps the claim; the run's end gives the claim up. A claim ends by time alone when its server died.
//! - A pull that is only to be told is claimed until its turn is over, and a turn that is over is named no more: one server tells, once.
//! - A claim is no right: it keeps nobody from planning the pull by hand, and gives no lock.
//! - Only a pull that waits by a run is named: a caller who is blocked comes for its lock itself.
//! - A pull that left the queue because it missed too often is named once, by the server that saw it leave. A crash in between loses that:
//!   nobody is told, and the pull waits for nothing all the same.
//!
//! A server that was paused for longer than its claim may name a pull again that another one has begun to plan.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::Service;
use super::memory::micros;
use super::place::{Left, shown};
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::queue::{Queue, Rules, Ticket, Waiter, Want};
use crate::sync::mark;

/// The longest claim, and the longest wait.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How to ask for whose turn it is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextRequest {
    /// For how long no other server is to plan the pulls that are named, milliseconds; 0: as long as something is kept for them.
    pub claim_ms: u64,
    /// The most turns to tell; 0: all.
    #[serde(default)]
    pub most: usize,
    /// How long to wait until there is one, milliseconds; 0: not at all.
    #[serde(default)]
    pub wait_ms: u64,
}

/// A pull whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// Full name of the repository.
    pub repo: String,
    /// The pull.
    #[serde(flatten, serialize_with = "shown")]
    pub waiter: Waiter,
    /// The locks that are kept for it.
    pub keys: Vec<String>,
    /// The locks that it waits for besides.
    pub waits: Vec<String>,
    /// Until when the first of the locks is kept, microseconds since 1970.
    pub until: u64,
}

/// Whom to plan, and whom to tell.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Next {
    /// Those to plan, in order of each repository's queue.
    pub turns: Vec<Turn>,
    /// Those that left.
    pub left: Vec<Left>,
}

impl Next {
    fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.left.is_empty()
    }
}

impl Service {
    /// Whose turn it is, in all repositories of which this server knows that somebody waits. Whoever is named is claimed by the caller. Waits
    /// until there is somebody, for `wait_ms`; then the answer is empty.
    ///
    /// Errors: `QueueDisabled`; `InvalidArgument` for more than a day; `Closed` when the service is closed meanwhile.
    pub fn next(&self, request: NextRequest) -> Result<Next> {
        self.check_open()?;
        self.need_queue()?;
        let (claim, wait) = (Duration::from_millis(request.claim_ms), Duration::from_millis(request.wait_ms));
        if claim > LONGEST || wait > LONGEST {
            return Err(Error::new(Code::InvalidArgument, "a claim or a wait of more than a day: give at most 86400000 ms"));
        }
        let _present = self.queueing.present();
        let until = self.clock.now() + wait;
        loop {
            let seen = self.queueing.changed.generation();
            self.check_open()?;
            let next =
                self.counted(Operation::Next, self.router.timeout(), Next::is_empty, |_, _| Ok(self.turns(claim, request.most)))?;
            if !next.is_empty() || !self.queueing.changed.wait(seen, until) {
                return Ok(next);
            }
        }
    }

    fn turns(&self, claim: Duration, most: usize) -> Next {
        let most = if most == 0 { usize::MAX } else { most };
        let repos = self.queueing.repos.lock().clone();
        let mut next = Next::default();
        for repo in repos {
            let more = most - next.turns.len();
            if more == 0 {
                break;
            }
            let claimed = self.change(&repo, |queue, now| {
                let turns = turns_of(queue, &self.queueing.rules, &repo, now, more);
                for turn in &turns {
                    let until = if claim.is_zero() { turn.until } else { now.saturating_add(micros(claim)) };
                    queue.claim(&turn.waiter.pull, until);
                }
                Ok(turns)
            });
            // What fails is in the status, and asked for again.
            next.turns.extend(claimed.map(|changed| changed.answer).unwrap_or_default());
        }
        next.left.extend(self.queueing.left.lock().drain(..));
        if !next.turns.is_empty() {
            mark!("queue: a pull is claimed by who plans it");
        }
        next
    }
}

/// The pulls of a queue whose turn it is, and whom no server has claimed.
fn turns_of(queue: &Queue, rules: &Rules, repo: &str, now: u64, most: usize) -> Vec<Turn> {
    let is_free = |ticket: &&Ticket| !ticket.calls && ticket.claimed_until <= now;
    let tickets = queue.tickets_in_order(rules).into_iter().filter(is_free);
    tickets.filter_map(|ticket| turn_of(ticket, repo, now)).take(most).collect()
}

/// A turn whose time is over is none, also before somebody has looked and written that down.
fn turn_of(ticket: &Ticket, repo: &str, now: u64) -> Option<Turn> {
    let is_turn = |key: &str, want: Want| want.is_turn() && ticket.reserved_until(key).is_some_and(|until| until > now);
    let (turns, waits): (Vec<_>, Vec<_>) = ticket.wants.iter().partition(|(key, want)| is_turn(key, **want));
    let until = turns.iter().filter_map(|(key, _)| ticket.reserved_until(key)).min()?;
    let names = |wants: Vec<(&String, _)>| wants.into_iter().map(|(key, _)| key.clone()).collect();
    // Of a set, all or nothing is of use.
    (!ticket.whole || waits.is_empty()).then(|| Turn {
        repo: repo.to_owned(),
        waiter: ticket.waiter.clone(),
        keys: names(turns),
        waits: names(waits),
        until,
    })
}

//! The shadow's thread: opens its store, has it filled, follows.
//!
//! Invariant: whatever the store does (hangs, fails, panics, is another's), it does to this thread alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::compare::{Follower, Verdict};
use super::counts::{Counts, Difference, Outcome, State};
use super::observed::{Asked, Observed};
use super::open::Opened;
use super::traffic::{Next, Traffic};
use crate::call::Calls;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};

/// After so long a store that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// A store that failed is left alone for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// So often it is looked whether the store still is the shadow's.
const LOOK: Duration = Duration::from_secs(10);
/// After so long the locks are asked for, the first time; each time doubles it.
const FIRST_FILL: Duration = Duration::from_millis(20);
/// At most.
const LAST_FILL: Duration = Duration::from_secs(30);

/// Opens the shadow's store.
pub(super) type Open = Box<dyn FnMut() -> Result<Opened> + Send>;
/// Has the locks listed that are decided on, through the shadow: whether that was done.
pub type Fill = Box<dyn Fn() -> bool + Send>;

/// What the thread has.
pub(super) struct Worker {
    pub traffic: Arc<Traffic>,
    pub counts: Arc<Counts>,
    pub calls: Arc<Calls>,
    pub clock: Arc<dyn Clock>,
    pub open: Open,
    pub fill: Option<Fill>,
}

/// When something is done next.
struct Due {
    fill: Instant,
    fill_pause: Duration,
    look: Instant,
    /// Until then the store is not asked.
    paused: Option<Instant>,
}

impl Worker {
    /// Runs until the traffic is closed.
    pub fn run(mut self) {
        while let Some(opened) = self.opened() {
            let followed = self.follow(&opened);
            // Its error has nowhere to go.
            let _ = catch_unwind(AssertUnwindSafe(|| opened.store.close()));
            let Some(error) = followed else { return };
            if error.code() == Code::StoreMoved {
                let because = format!("{error}. The shadow has ended; restart the server to begin it again");
                self.counts.stands(State::Refused, Some(because));
                self.reject(None);
                return;
            }
        }
    }

    /// Tries to open the store until that works; `None` if the traffic was closed.
    fn opened(&mut self) -> Option<Opened> {
        loop {
            let opened = catch_unwind(AssertUnwindSafe(|| (self.open)()));
            let stopped = || Error::new(Code::Internal, "opening the shadow's store panicked; please report it");
            match opened.unwrap_or_else(|_| Err(stopped())) {
                Ok(opened) => {
                    self.counts.stands(State::Following, None);
                    return Some(opened);
                }
                Err(error) => self.counts.stands(State::Refused, Some(error.message().to_owned())),
            }
            if !self.reject(Some(Instant::now() + AGAIN)) {
                return None;
            }
        }
    }

    /// Counts what is told until then as failed; `false` if the traffic was closed.
    fn reject(&self, until: Option<Instant>) -> bool {
        self.counts.is_in_step(false);
        loop {
            if until.is_some_and(|until| Instant::now() >= until) {
                return true;
            }
            match self.traffic.next(until.unwrap_or_else(|| Instant::now() + AGAIN)) {
                Next::Follow(seen) => self.count(&seen, Outcome::Failed),
                Next::Gap | Next::Nothing => {}
                Next::Close => return false,
            }
        }
    }

    /// Follows until the traffic is closed (`None`), or the store is another's or was emptied.
    fn follow(&self, opened: &Opened) -> Option<Error> {
        let mut follower = Follower::new(&*opened.store, &self.calls, opened.timeout);
        let now = Instant::now();
        let mut due = Due { fill: now, fill_pause: FIRST_FILL, look: now + LOOK, paused: None };
        loop {
            let now = Instant::now();
            if due.paused.is_some_and(|until| now >= until) {
                self.end_pause(opened, &mut due);
            }
            if due.paused.is_none() && now >= due.look {
                due.look = now + LOOK;
                match catch_unwind(AssertUnwindSafe(|| (opened.is_ours)())) {
                    Ok(Err(error)) if matches!(error.code(), Code::InvalidConfig | Code::StoreMoved) => return Some(error),
                    _ => {}
                }
            }
            self.counts.is_in_step(follower.is_in_step());
            if follower.is_in_step() {
                due.fill_pause = FIRST_FILL;
            } else if due.paused.is_none() && now >= due.fill {
                // A panic of the store that decides is that store's matter.
                let _ = catch_unwind(AssertUnwindSafe(|| self.fill.as_ref().is_some_and(|fill| fill())));
                (due.fill, due.fill_pause) = (Instant::now() + due.fill_pause, (2 * due.fill_pause).min(LAST_FILL));
            }
            let fill = (due.paused.is_none() && !follower.is_in_step()).then_some(due.fill);
            let wake = [Some(due.look), fill, due.paused].into_iter().flatten().min();
            match self.traffic.next(wake.unwrap_or(now).max(now)) {
                Next::Follow(seen) => self.follow_one(&mut follower, &seen, &mut due),
                Next::Gap => follower.lose_step(),
                Next::Nothing => {}
                Next::Close => return None,
            }
        }
    }

    /// Whether the store answers again.
    fn end_pause(&self, opened: &Opened, due: &mut Due) {
        let ping = catch_unwind(AssertUnwindSafe(|| opened.store.ping(&self.calls.within(opened.timeout))));
        if let Ok(Ok(())) = ping {
            self.counts.stands(State::Following, None);
            due.paused = None;
        } else {
            due.paused = Some(Instant::now() + PAUSE);
        }
    }

    fn follow_one(&self, follower: &mut Follower<'_>, seen: &Observed, due: &mut Due) {
        if due.paused.is_some() {
            follower.miss(seen);
            return self.count(seen, Outcome::Failed);
        }
        let stopped = || Error::new(Code::Internal, "the shadow's store panicked; please report it");
        let followed = catch_unwind(AssertUnwindSafe(|| follower.follow(seen)));
        let (verdict, took) = followed.unwrap_or_else(|_| (Verdict::Failed(stopped()), None));
        if let Some(took) = took {
            self.counts.took(seen.asked.operation(), seen.took, took);
        }
        match verdict {
            Verdict::Same => self.count(seen, Outcome::Same),
            Verdict::Uncertain => self.count(seen, Outcome::Uncertain),
            Verdict::Different { key, decided, shadow } => {
                let (at, operation) = (self.clock.unix_micros(), seen.asked.operation().name());
                self.counts.differs(Difference { at, operation, key, decided, shadow });
                self.count(seen, Outcome::Different);
            }
            Verdict::Failed(error) => {
                follower.miss(seen);
                // What one operation asked for may be wrong; the store is then as good as before.
                if !matches!(error.code(), Code::InvalidJson | Code::TooLarge | Code::EntryUnreadable) {
                    // What it has is not known any more; it is filled once it answers again.
                    follower.lose_step();
                    self.counts.is_in_step(false);
                    self.counts.stands(State::Failing, Some(error.message().to_owned()));
                    due.paused = Some(Instant::now() + PAUSE);
                }
                self.count(seen, Outcome::Failed);
            }
        }
    }

    /// The shadow's own look at all locks is nobody's operation.
    fn count(&self, seen: &Observed, outcome: Outcome) {
        if !matches!(seen.asked, Asked::List { fill: true, .. }) {
            self.counts.count(seen.asked.operation(), outcome);
        }
    }
}

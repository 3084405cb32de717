//! Looks at each queue now and then: reservations end, what a crash left is put right, gates that a store forgot are set again, circles
//! are undone or reported, and freezes of other servers are read. Whoever joins where others wait is looked at soon.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::super::state::State;
use super::Queueing;
use super::nudge::Nudge;
use crate::error::{Code, Error, Result};
use crate::queue::Queue;
use crate::sync::{JoinHandle, spawn};

/// Time between two looks at everything.
const TICK: Duration = Duration::from_secs(5);
/// So many looks go by before all repositories are looked for, not only those that are known to have a queue.
const LOOK_FOR_ALL: u32 = 12;
/// Time between two looks for the sake of who joined: those who join at once are looked at together.
const SOON: Duration = Duration::from_millis(500);

impl Queueing {
    /// Somebody joined, and may have closed a circle: two have to wait for that.
    pub(super) fn nudge(&self, repo: &str, queue: &Queue) {
        if queue.len() > 1 {
            self.nudge.look_at(repo);
        }
    }

    /// Locks changed hands: that may have closed a circle of reservations, or ended one of locks.
    pub(super) fn nudge_after_dispatch(&self, repo: &str, queue: &Queue) {
        if queue.may_have_soft_circle() || self.deadlocks.repos().contains(repo) {
            self.nudge.look_at(repo);
        }
    }

    /// All queues are to be looked at soon.
    pub(super) fn nudge_all(&self) {
        let repos = self.repos.lock().clone();
        repos.iter().for_each(|repo| self.nudge.look_at(repo));
    }
}

/// The thread that looks; it ends with this.
#[derive(Debug)]
pub(in crate::service) struct Ticker {
    nudge: Arc<Nudge>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Begins to look, at once.
    pub(in crate::service) fn start(state: &Arc<State>) -> Result<Ticker> {
        let nudge = Arc::clone(&state.queueing.nudge);
        let (state, for_thread) = (Arc::downgrade(state), Arc::clone(&nudge));
        let failed = |e| Error::new(Code::Internal, format!("the thread atlock-queue cannot be started: {e}"));
        let thread = spawn("atlock-queue", move || go_on(&state, &for_thread)).map_err(failed)?;
        Ok(Ticker { nudge, thread: Some(thread) })
    }
}

fn go_on(state: &Weak<State>, nudge: &Nudge) {
    let (mut looks, mut tick, mut repos) = (0_u32, Instant::now(), BTreeSet::new());
    loop {
        let Some(state) = state.upgrade() else { return };
        let is_tick = Instant::now() >= tick;
        repos.extend(state.queueing.deadlocks.due(state.clock.now()));
        // What fails is in the status; a panic must not end the thread.
        let look = std::panic::AssertUnwindSafe(|| {
            if is_tick {
                state.tick(looks.is_multiple_of(LOOK_FOR_ALL))
            } else {
                repos.iter().for_each(|repo| state.look_at(repo))
            }
        });
        let _ = std::panic::catch_unwind(look);
        if is_tick {
            looks = looks.wrapping_add(1);
            tick = Instant::now() + TICK;
        }
        // A circle is confirmed as soon as that can be.
        let next = state.queueing.deadlocks.next_look(state.clock.now()).map_or(tick, |after| tick.min(Instant::now() + after));
        drop(state);
        match nudge.wait(next, Instant::now() + SOON) {
            Some(wanted) => repos = wanted,
            None => return,
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.nudge.stop();
        // It catches its panics.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl State {
    /// One look at all queues that are known, or that there are.
    pub(in crate::service) fn tick(&self, look_for_all: bool) {
        self.refresh_freezes();
        if look_for_all {
            match self.store().queues(&self.step()) {
                Ok(repos) => self.queueing.repos.lock().extend(repos),
                Err(error) => self.queueing.failed(&error),
            }
        }
        let mut repos = self.queueing.repos.lock().clone();
        // A queue that is empty by now is in no circle.
        repos.extend(self.queueing.deadlocks.repos());
        for repo in repos {
            let looked = self.look_for_circles(&repo).and_then(|queue| self.assert_gates(&queue));
            if let Err(error) = looked {
                self.queueing.failed(&error);
            }
        }
    }

    fn look_at(&self, repo: &str) {
        if let Err(error) = self.look_for_circles(repo) {
            self.queueing.failed(&error);
        }
    }
}

//! Looks at each queue now and then: reservations end, what a crash left is put right, gates that a store forgot are set again, circles
//! are undone or reported, and freezes of other servers are read. Whoever joins where others wait is looked at soon.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::GROWING;
use super::super::state::State;
use super::counts::Seen;
use super::memory::micros;
use super::ticker::Look;
use crate::domain::lock::ProjectLock;
use crate::domain::token::FencingToken;
use crate::store::LockKey;

/// So many looks go by before all repositories are looked for, not only those that are known to have a queue.
const LOOK_FOR_ALL: u32 = 12;
/// The most locks whose age is looked at each time.
const MOST_LOOKED_AT: usize = 1_000;

impl State {
    /// Looks, and tells how soon to look again.
    pub(in crate::service) fn look(&self, what: Look) -> Option<Duration> {
        match what {
            Look::All => self.tick(),
            Look::At(mut repos) => {
                repos.extend(self.queueing.deadlocks.due(self.clock.now()));
                repos.iter().for_each(|repo| self.look_at(repo));
            }
        }
        // A circle is confirmed as soon as that can be.
        self.queueing.deadlocks.next_look(self.clock.now())
    }

    /// One look at all queues that are known, or now and then that there are.
    fn tick(&self) {
        self.refresh_freezes();
        if self.queueing.ticks.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_FOR_ALL) {
            self.look_at_locks();
            match self.store().queues(&self.step()) {
                Ok(repos) => self.queueing.repos.lock().extend(repos.into_iter().filter(|repo| self.queueing.is_for(repo))),
                Err(error) => self.queueing.failed(&error),
            }
        }
        let mut repos = self.queueing.repos.lock().clone();
        // A queue that is empty by now is in no circle.
        repos.extend(self.queueing.deadlocks.repos());
        let mut seen = Seen::default();
        for repo in repos {
            let looked = self.look_for_circles(&repo).and_then(|queue| {
                seen.add(&queue);
                self.assert_gates(&queue)
            });
            if let Err(error) = looked {
                self.queueing.failed(&error);
            }
        }
        self.queueing.waits.saw(&seen, self.now());
    }

    /// Whether a lock is held for longer than `timeouts.max`: its token is a time. No lock is released for that.
    pub(super) fn is_old(&self, token: FencingToken) -> bool {
        let oldest = self.now().saturating_sub(micros(self.queueing.timeouts.max));
        token.known().is_some_and(|token| token.get() < oldest)
    }

    /// How many locks are old.
    fn look_at_locks(&self) {
        let growing = self.calls.within(self.router.timeout() + GROWING);
        // What fails here is seen by whoever lists locks.
        let Ok(locks) = self.store().list(&growing) else { return };
        let is_old = |value: &&[u8]| {
            let key = ProjectLock::parse(value).ok().map(|lock| lock.fields().key());
            let held =
                key.and_then(|key| self.store().held(LockKey::Project(&key), &self.calls.until(growing.deadline)).ok().flatten());
            held.is_some_and(|held| self.is_old(held.token))
        };
        let old = locks.values().take(MOST_LOOKED_AT).filter(is_old).count();
        self.queueing.waits.saw_locks(old, self.queueing.frozen.in_force(self.now()));
    }

    fn look_at(&self, repo: &str) {
        if let Err(error) = self.look_for_circles(repo) {
            self.queueing.failed(&error);
        }
    }
}

//! Every order of events of a few short tasks: what `loom` does, for types that stand on [`crate::sync`], whose waits have deadlines.
//!
//! The tasks give way before each lock and wherever they wait. Which of them goes on is decided by a list of choices; [`explore`] runs the
//! body once for each list, in depth-first order, until all were tried. After the last task that can go on, time moves to the next moment
//! that somebody waits for; nobody waits for ever.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::tasks::Scheduler;
use crate::clock::Clock;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct StandingClock {
    base: Instant,
    micros: AtomicU64,
}

impl StandingClock {
    fn new() -> StandingClock {
        StandingClock { base: Instant::now(), micros: AtomicU64::new(0) }
    }

    fn move_to(&self, moment: Instant) {
        let since = moment.saturating_duration_since(self.base).as_micros();
        self.micros.fetch_max(u64::try_from(since).expect("is near"), Ordering::SeqCst);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Instant {
        self.base + Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> u64 {
        self.micros.load(Ordering::SeqCst)
    }
}

/// The choices of one run: how many there were at each point, and which was taken.
#[derive(Default)]
struct Choices {
    taken: Vec<(u64, u64)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, of: u64) -> u64 {
        if self.at == self.taken.len() {
            self.taken.push((of, 0));
        }
        let (_, taken) = self.taken[self.at];
        self.at += 1;
        taken
    }

    /// The next list of choices; `false` after the last.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((of, taken)) = self.taken.pop() {
            if taken + 1 < of {
                self.taken.push((of, taken + 1));
                return true;
            }
        }
        false
    }
}

/// Runs the tasks that `body` starts in every order, and `check` after each; returns how many orders there were.
pub(crate) fn explore<T>(body: impl Fn(&Scheduler, &Arc<StandingClock>) -> T, check: impl Fn(T)) -> u64 {
    let choices = Rc::new(RefCell::new(Choices::default()));
    let mut runs = 0;
    loop {
        runs += 1;
        assert!(runs < 2_000_000, "too many orders: use shorter tasks");
        let clock = Arc::new(StandingClock::new());
        let chance = {
            let choices = Rc::clone(&choices);
            // Of a hundred: whether a task gives way, which it always does. Otherwise: who is woken.
            Box::new(move |of| if of == 100 { 0 } else { choices.borrow_mut().choose(of) })
        };
        let state = Scheduler::run(Arc::clone(&clock) as Arc<dyn Clock>, chance, |scheduler| {
            scheduler.preempt(100);
            let state = body(scheduler, &clock);
            run_all(scheduler, &clock, |of| choices.borrow_mut().choose(of));
            state
        });
        check(state);
        if !choices.borrow_mut().advance() {
            return runs;
        }
    }
}

/// Until each task has ended.
fn run_all(scheduler: &Scheduler, clock: &StandingClock, choose: impl Fn(u64) -> u64) {
    loop {
        let ready = scheduler.ready();
        if ready.is_empty() {
            let Some(moment) = scheduler.next_moment() else { break };
            clock.move_to(moment);
            continue;
        }
        let nth = if ready.len() == 1 { 0 } else { choose(ready.len() as u64) };
        if let Err(panic) = scheduler.resume(ready[usize::try_from(nth).expect("is small")]) {
            resume_unwind(panic);
        }
    }
    assert_eq!(scheduler.describe(), "", "they wait for each other");
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::sync::{Condvar, Mutex, RwLock};

    /// What is wrong without a lock is found, and what is right with one holds in every order.
    #[test]
    fn a_lost_update_is_found_where_there_is_one() {
        let ends = |is_locked: bool| {
            let ends = RefCell::new(BTreeSet::new());
            let runs = explore(
                |tasks, _| {
                    let (number, lock) = (Rc::new(Cell::new(0)), Rc::new(Mutex::new(())));
                    for name in ["a", "b"] {
                        let (number, lock) = (Rc::clone(&number), Rc::clone(&lock));
                        tasks.start(0, name, move || {
                            let _guard = is_locked.then(|| lock.lock());
                            let before = number.get();
                            super::super::tasks::give_way();
                            number.set(before + 1);
                        });
                    }
                    number
                },
                |number| {
                    ends.borrow_mut().insert(number.get());
                },
            );
            assert!(runs > 1);
            ends.into_inner()
        };
        assert_eq!(ends(false), BTreeSet::from([1, 2]));
        assert_eq!(ends(true), BTreeSet::from([2]));
    }

    #[test]
    fn a_deadlock_is_found() {
        let found = catch_unwind(AssertUnwindSafe(|| {
            explore(
                |tasks, _| {
                    let locks = Arc::new([Mutex::new(()), Mutex::new(())]);
                    for (name, first) in [("a", 0), ("b", 1)] {
                        let locks = Arc::clone(&locks);
                        tasks.start(0, name, move || {
                            let _first = locks[first].lock();
                            let _second = locks[1 - first].lock();
                        });
                    }
                },
                drop,
            )
        }));
        let text = found.expect_err("is found");
        assert!(text.downcast_ref::<String>().is_some_and(|text| text.contains("they wait for each other")));
    }

    /// A writer that waits keeps readers out: who reads twice waits for it, and it for them.
    #[test]
    fn a_reader_that_reads_again_beside_a_writer_is_found() {
        let found = catch_unwind(AssertUnwindSafe(|| {
            explore(
                |tasks, _| {
                    let lock = Arc::new(RwLock::new(()));
                    let (reads, writes) = (Arc::clone(&lock), Arc::clone(&lock));
                    tasks.start(0, "reads", move || {
                        let _once = reads.read();
                        let _again = reads.read();
                    });
                    tasks.start(0, "writes", move || drop(writes.write()));
                },
                drop,
            )
        }));
        assert!(found.is_err());
    }

    #[test]
    fn who_is_notified_goes_on_and_who_is_not_gives_up_at_the_deadline() {
        let late = RefCell::new(BTreeSet::new());
        explore(
            |tasks, clock| {
                let shared = Arc::new((Mutex::new(0), Condvar::new()));
                let late = Rc::new(Cell::new(0));
                for _ in 0..2 {
                    let (shared, late, deadline) = (Arc::clone(&shared), Rc::clone(&late), clock.now() + Duration::from_secs(1));
                    tasks.start(0, "waits", move || {
                        let (number, changed) = &*shared;
                        let mut number = number.lock();
                        while *number == 0 {
                            if changed.wait_until(&mut number, deadline).timed_out() {
                                late.set(late.get() + 1);
                                return;
                            }
                        }
                        *number -= 1;
                    });
                }
                tasks.start(0, "notifies", move || {
                    let (number, changed) = &*shared;
                    *number.lock() += 1;
                    changed.notify_one();
                });
                late
            },
            |number| {
                late.borrow_mut().insert(number.get());
            },
        );
        assert_eq!(late.into_inner(), BTreeSet::from([1]), "one goes on, and one is late, in every order");
    }

    #[test]
    fn a_process_that_dies_unwinds_where_it_waits() {
        let clock = Arc::new(StandingClock::new());
        Scheduler::run(Arc::clone(&clock) as Arc<dyn Clock>, Box::new(|_| 0), |tasks| {
            let lock = Arc::new(Mutex::new(0));
            for name in ["holds", "waits"] {
                let (lock, clock) = (Arc::clone(&lock), Arc::clone(&clock));
                tasks.start(1, name, move || {
                    let mut number = lock.lock();
                    super::super::tasks::sleep_until(clock.now() + Duration::from_secs(1));
                    *number += 1;
                });
            }
            tasks.start(2, "lives", || {});
            for id in tasks.ready() {
                tasks.resume(id).expect("goes on");
            }
            tasks.start(1, "has not begun", || panic!("it never runs"));
            assert_eq!(tasks.count(1), 3);
            super::super::tasks::kill(1);
            assert_eq!((tasks.count(1), *lock.lock()), (0, 0));
        });
    }
}

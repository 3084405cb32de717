//! A change in the queue, and where its caller waits for the answer.
//!
//! A change goes through these states, under its own lock: `Waiting` (in the queue; its caller may withdraw it when the
//! deadline passes, and then it certainly did not happen), `Taken` (in a group; a caller that leaves now cannot know),
//! `Answered`.

use std::sync::Arc;
use std::time::Instant;

use crate::sync::{Condvar, Mutex};

use super::transaction::Transaction;
use crate::error::{Code, Error, Result};

/// A change, whatever its answer's type.
pub(super) trait Change: Send {
    /// Marks it as taken; `false` if its caller has withdrawn it.
    fn take(&mut self) -> bool;
    /// Makes it. An error ends the group; a refusal is kept as the answer.
    fn make(&mut self, tx: &mut Transaction<'_>) -> Result<()>;
    /// Tells the caller: the answer, or why the group failed.
    fn answer(self: Box<Self>, verdict: Result<()>);
}

/// One change, with its answer once it was made.
pub(super) struct Job<T, F> {
    change: Option<F>,
    answer: Option<Result<T>>,
    slot: Arc<Slot<T>>,
}

impl<T, F> Job<T, F> {
    /// A change, and where its caller waits.
    pub(super) fn new(change: F) -> (Job<T, F>, Arc<Slot<T>>) {
        let slot = Arc::new(Slot { state: Mutex::new(State::Waiting), answered: Condvar::new() });
        (Job { change: Some(change), answer: None, slot: Arc::clone(&slot) }, slot)
    }
}

impl<T, F> Change for Job<T, F>
where
    T: Send,
    F: FnOnce(&mut Transaction<'_>) -> Result<T> + Send,
{
    fn take(&mut self) -> bool {
        let mut state = self.slot.state.lock();
        let wanted = matches!(*state, State::Waiting);
        if wanted {
            *state = State::Taken;
        }
        wanted
    }

    fn make(&mut self, tx: &mut Transaction<'_>) -> Result<()> {
        let Some(change) = self.change.take() else { return Ok(()) };
        match change(tx) {
            Err(e) if matches!(e.code(), Code::StoreFailed | Code::StoreDamaged) => Err(e),
            answer => {
                self.answer = Some(answer);
                Ok(())
            }
        }
    }

    fn answer(self: Box<Self>, verdict: Result<()>) {
        let missing = || Err(Error::new(Code::Internal, "a change was acknowledged without an answer"));
        let Job { answer, slot, .. } = *self;
        let answer = verdict.and_then(|()| answer.unwrap_or_else(missing));
        *slot.state.lock() = State::Answered(answer);
        slot.answered.notify_one();
    }
}

/// Where a caller waits for its answer.
pub(super) struct Slot<T> {
    state: Mutex<State<T>>,
    answered: Condvar,
}

enum State<T> {
    Waiting,
    Taken,
    Withdrawn,
    Answered(Result<T>),
}

impl<T> Slot<T> {
    /// Waits for the answer; a change that was not begun by the deadline is withdrawn.
    pub(super) fn wait(&self, deadline: Instant) -> Result<T> {
        let mut state = self.state.lock();
        while matches!(*state, State::Waiting | State::Taken) && !self.answered.wait_until(&mut state, deadline).timed_out() {}
        match std::mem::replace(&mut *state, State::Withdrawn) {
            State::Answered(answer) => answer,
            State::Taken => Err(Error::new(
                Code::OutcomeUnknown,
                "the disk had not confirmed the change by the deadline: it may or may not be stored",
            )),
            State::Waiting | State::Withdrawn => {
                Err(Error::new(Code::Timeout, "the deadline passed before the change was begun: the store changed nothing"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::sync::explore::explore;
    use crate::sync::tasks::sleep_until;

    /// In every order of a caller who gives up and a thread that begins late: a change that was withdrawn is not made, one that was made is
    /// never told as not begun, and the caller is told.
    #[test]
    fn a_change_is_withdrawn_or_made() {
        let ends = RefCell::new(BTreeSet::new());
        explore(
            |tasks, clock| {
                let (job, slot) = Job::new(|_: &mut Transaction<'_>| Ok(()));
                let told = Rc::new(RefCell::new((None, None)));
                let (by_caller, by_thread) = (Rc::clone(&told), Rc::clone(&told));
                let deadline = clock.now() + Duration::from_secs(1);
                tasks.start(0, "waits", move || by_caller.borrow_mut().0 = Some(slot.wait(deadline).map_err(|e| e.code())));
                tasks.start(0, "makes", move || {
                    sleep_until(deadline);
                    let mut job: Box<dyn Change> = Box::new(job);
                    let is_taken = job.take();
                    by_thread.borrow_mut().1 = Some(is_taken);
                    if is_taken {
                        sleep_until(deadline);
                        job.answer(Err(Error::new(Code::StoreFailed, "the disk failed")));
                    }
                });
                told
            },
            |told| {
                let (answer, is_taken) = told.take();
                ends.borrow_mut().insert(format!("{:?} {}", answer.expect("is told"), is_taken.expect("was looked at")));
            },
        );
        let ends: Vec<String> = ends.into_inner().into_iter().collect();
        assert_eq!(ends, ["Err(OutcomeUnknown) true", "Err(StoreFailed) true", "Err(Timeout) false"]);
    }
}

//! Who owns the tasks of a simulation, and decides which of them goes on.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::{ACTIVE, Chance, Group, Panic, State, TaskId, Wait};
use crate::clock::Clock;

/// The tasks of one simulation. Belongs to the thread that made it; there is one at a time.
pub(crate) struct Scheduler(Rc<State>);

impl Scheduler {
    /// Runs `body`, which starts tasks on this thread and resumes them; their time is the clock's. In the end those that are left die, also
    /// when `body` panics.
    pub(crate) fn run<T>(clock: Arc<dyn Clock>, chance: Chance, body: impl FnOnce(&Scheduler) -> T) -> T {
        let state = Rc::new(State { clock, chance, preempts: Cell::new(0), tasks: RefCell::default(), started: Cell::new(0) });
        let before = ACTIVE.replace(Some(Rc::clone(&state)));
        assert!(before.is_none(), "this thread has a simulation already");
        let scheduler = Scheduler(state);
        let done = catch_unwind(AssertUnwindSafe(|| body(&scheduler)));
        let ended = catch_unwind(AssertUnwindSafe(|| scheduler.0.kill(|_| true)));
        ACTIVE.set(None);
        match (done, ended) {
            (Err(panic), _) | (_, Err(panic) | Ok(Err(panic))) => resume_unwind(panic),
            (Ok(done), Ok(Ok(()))) => done,
        }
    }

    /// In how many of a hundred cases a task gives way before it takes a lock.
    pub(crate) fn preempt(&self, percent: u64) {
        self.0.preempts.set(percent);
    }

    /// Starts a task; it runs when it is resumed.
    pub(crate) fn start(&self, group: Group, name: &str, job: impl FnOnce() + 'static) -> TaskId {
        self.0.start(group, name, Box::new(job))
    }

    /// Those that can go on, in the order of their start.
    pub(crate) fn ready(&self) -> Vec<TaskId> {
        let now = self.0.clock.now();
        self.0.tasks.borrow().iter().filter(|(_, task)| task.waits.is_over(now)).map(|(id, _)| *id).collect()
    }

    /// Whether this task has not ended.
    pub(crate) fn is_alive(&self, id: TaskId) -> bool {
        self.0.tasks.borrow().contains_key(&id)
    }

    /// How many tasks of this group have not ended.
    pub(crate) fn count(&self, group: Group) -> usize {
        self.0.tasks.borrow().values().filter(|task| task.group == group).count()
    }

    /// The first moment that a task waits for.
    pub(crate) fn next_moment(&self) -> Option<Instant> {
        let tasks = self.0.tasks.borrow();
        let moments = tasks.values().filter_map(|task| match task.waits {
            Wait::For { until, .. } => until,
            Wait::Nothing => None,
        });
        moments.min()
    }

    /// Lets a task that can go on do so until it waits; an error is its panic.
    pub(crate) fn resume(&self, id: TaskId) -> Result<(), Panic> {
        self.0.resume(id)
    }

    /// What each task waits for.
    pub(crate) fn describe(&self) -> String {
        self.0.describe()
    }
}

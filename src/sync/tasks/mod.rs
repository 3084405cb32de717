//! Tasks in the place of threads: coroutines on one thread, of which one runs at a time, until it waits.
//!
//! A simulation owns a [`Scheduler`], starts tasks, and decides which of those that can go on does so ([`Scheduler::resume`]). A task gives
//! way wherever it waits for a lock, a condition or a moment ([`wait`]), wherever it asks the outside ([`give_way`]), and, if
//! the scheduler says so, before it takes a lock ([`pause`]). Nothing else interrupts a task, so a seed that decides the same decides
//! all. Time is the simulated clock's: the scheduler moves it, and who waits for a moment goes on once it has come.
//!
//! A task belongs to a group, which stands for a process. [`Scheduler::kill`] unwinds all tasks of a group, wherever each of them
//! waits: what destructors do is done, and what they reach (a disk, a network) must know that the process is dead.
//!
//! Not modelled: atomics are never seen to be reordered, and a task that waits for nothing is not interrupted.

mod scheduler;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use corosensei::{Coroutine, CoroutineResult, Yielder};

pub(crate) use self::scheduler::Scheduler;
use crate::clock::Clock;

/// What a task waits for: the address of a lock or a condition; 0 is nothing but a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Place {
    pub(super) fn at(address: usize) -> Place {
        Place(address)
    }
}

const NOWHERE: Place = Place(0);

/// A process of the simulation.
pub(crate) type Group = usize;
/// Numbers the tasks of a scheduler in the order of their start.
pub(crate) type TaskId = u64;
type Panic = Box<dyn Any + Send>;
type Job = Box<dyn FnOnce()>;

/// The panic by which a task of a dead process unwinds.
struct Killed;

/// Decides by chance: a number below the given one.
pub(crate) type Chance = Box<dyn Fn(u64) -> u64>;

struct State {
    clock: Arc<dyn Clock>,
    chance: Chance,
    /// In how many of a hundred cases a task gives way before it takes a lock.
    preempts: Cell<u64>,
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    started: Cell<TaskId>,
}

struct Task {
    group: Group,
    name: String,
    waits: Wait,
    is_dying: bool,
    /// `None` while it runs.
    worker: Option<Worker>,
}

impl Task {
    fn has_begun(&self) -> bool {
        self.worker.as_ref().is_none_or(|worker| worker.job.borrow().is_none())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// It can go on.
    Nothing,
    For {
        place: Place,
        until: Option<Instant>,
    },
}

impl Wait {
    fn is_over(self, now: Instant) -> bool {
        match self {
            Wait::Nothing => true,
            Wait::For { until, .. } => until.is_some_and(|until| until <= now),
        }
    }
}

/// A coroutine that does one job after the other. Its stack costs more to make than a job takes.
struct Worker {
    coroutine: Coroutine<(), Paused, ()>,
    job: Rc<RefCell<Option<Job>>>,
    yielder: Rc<Cell<*const Yielder<(), Paused>>>,
}

enum Paused {
    Waits,
    HasEnded(Result<(), Panic>),
}

/// The task that runs.
#[derive(Clone)]
struct Running {
    id: TaskId,
    yielder: Rc<Cell<*const Yielder<(), Paused>>>,
}

thread_local! {
    static ACTIVE: RefCell<Option<Rc<State>>> = const { RefCell::new(None) };
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
    static IDLE: RefCell<Vec<Worker>> = const { RefCell::new(Vec::new()) };
}

impl Worker {
    fn new() -> Worker {
        let job: Rc<RefCell<Option<Job>>> = Rc::default();
        let address = Rc::new(Cell::new(std::ptr::null()));
        let (jobs, place) = (Rc::clone(&job), Rc::clone(&address));
        let coroutine = Coroutine::new(move |yielder: &Yielder<(), Paused>, ()| {
            place.set(std::ptr::from_ref(yielder));
            loop {
                let job = jobs.borrow_mut().take().expect("has a job");
                let ended = catch_unwind(AssertUnwindSafe(job));
                yielder.suspend(Paused::HasEnded(ended));
            }
        });
        Worker { coroutine, job, yielder: address }
    }
}

fn state() -> Option<Rc<State>> {
    ACTIVE.with_borrow(Clone::clone)
}

fn running() -> Option<Running> {
    RUNNING.with_borrow(Clone::clone)
}

/// Whether this thread is a simulation's.
pub(super) fn is_active() -> bool {
    ACTIVE.with_borrow(Option::is_some)
}

/// Whether a task runs, and not who schedules them.
pub(crate) fn in_task() -> bool {
    RUNNING.with_borrow(Option::is_some)
}

/// Whether the process of the task that runs is dead, and only its destructors go on.
pub(crate) fn is_dying() -> bool {
    running().is_some_and(|running| state().is_some_and(|state| state.is_dying(running.id)))
}

/// The group of the task that runs.
pub(crate) fn group() -> Option<Group> {
    let id = running()?.id;
    state()?.tasks.borrow().get(&id).map(|task| task.group)
}

/// The simulated time.
pub(super) fn now() -> Instant {
    state().map_or_else(Instant::now, |state| state.clock.now())
}

/// Waits at a place until it is woken there; whether the deadline came first. For who schedules it has come: that is a destructor of a dead
/// process, which nobody answers.
pub(super) fn wait(place: Place, until: Option<Instant>) -> bool {
    let state = state().expect("is a simulation");
    let Some(running) = running() else {
        assert!(until.is_some(), "only a task can wait");
        return true;
    };
    if state.is_dying(running.id) && std::thread::panicking() {
        // A destructor: whom it waits for may be dead, too.
        state.suspend(&running, Wait::Nothing);
        return true;
    }
    state.suspend(&running, Wait::For { place, until });
    state.die_if_killed(&running);
    until.is_some_and(|until| until <= state.clock.now())
}

/// Waits for a lock, in a destructor of a dead process, too. Who schedules never waits: a task has the lock, and would wait for ever.
pub(super) fn wait_for_lock(place: Place, until: Option<Instant>) -> bool {
    let state = state().expect("is a simulation");
    let running = running().expect("who schedules needs a lock that a task has");
    state.suspend(&running, Wait::For { place, until });
    if !std::thread::panicking() {
        state.die_if_killed(&running);
    }
    until.is_some_and(|until| until <= state.clock.now())
}

/// Waits for a moment.
pub(crate) fn sleep_until(moment: Instant) {
    wait(NOWHERE, Some(moment));
}

/// Lets others go on.
pub(crate) fn give_way() {
    if let (Some(state), Some(running)) = (state(), running())
        && !std::thread::panicking()
    {
        state.suspend(&running, Wait::Nothing);
        state.die_if_killed(&running);
    }
}

/// A place where a thread may be interrupted.
pub(super) fn pause() {
    if let Some(state) = state()
        && in_task()
        && state.preempts.get() > 0
        && (state.chance)(100) < state.preempts.get()
    {
        give_way();
    }
}

/// Those who wait there look again.
pub(super) fn wake_all(place: Place) {
    let Some(state) = state() else { return };
    for task in state.tasks.borrow_mut().values_mut() {
        if matches!(task.waits, Wait::For { place: at, .. } if at == place) {
            task.waits = Wait::Nothing;
        }
    }
}

/// One of those who wait there looks again.
pub(super) fn wake_one(place: Place) {
    let Some(state) = state() else { return };
    let mut tasks = state.tasks.borrow_mut();
    let mut waiting: Vec<&mut Task> =
        tasks.values_mut().filter(|task| matches!(task.waits, Wait::For { place: at, .. } if at == place)).collect();
    if !waiting.is_empty() {
        let chosen = usize::try_from((state.chance)(waiting.len() as u64)).expect("is small");
        waiting[chosen].waits = Wait::Nothing;
    }
}

/// What `f` starts belongs to this group, and dies with it; so does the task that runs, until `f` ends.
pub(crate) fn act_as<T>(group: Group, f: impl FnOnce() -> T) -> T {
    let (state, id) = (state().expect("is a simulation"), running().expect("a task starts a process").id);
    let set = |group| std::mem::replace(&mut state.tasks.borrow_mut().get_mut(&id).expect("runs").group, group);
    let before = set(group);
    let done = f();
    set(before);
    done
}

/// The process dies: its tasks unwind. None of them is the one that runs.
pub(crate) fn kill(group: Group) {
    if let Err(panic) = state().expect("is a simulation").kill(|task| task.group == group) {
        resume_unwind(panic);
    }
}

/// Starts a task in the group of the one that runs.
pub(super) fn spawn_beside(name: &str, job: impl FnOnce() + 'static) {
    let group = group().expect("a task starts it");
    state().expect("is a simulation").start(group, name, Box::new(job));
}

impl State {
    fn start(&self, group: Group, name: &str, job: Job) -> TaskId {
        let worker = IDLE.with_borrow_mut(Vec::pop).unwrap_or_else(Worker::new);
        *worker.job.borrow_mut() = Some(job);
        let id = self.started.get() + 1;
        self.started.set(id);
        let task = Task { group, name: name.to_owned(), waits: Wait::Nothing, is_dying: false, worker: Some(worker) };
        self.tasks.borrow_mut().insert(id, task);
        id
    }

    fn suspend(&self, running: &Running, waits: Wait) {
        self.tasks.borrow_mut().get_mut(&running.id).expect("runs").waits = waits;
        #[allow(unsafe_code)]
        // SAFETY: the coroutine wrote the address of its own yielder when it began, the yielder lives as long as the coroutine, and only
        // code that runs inside that coroutine is here.
        let yielder = unsafe { &*running.yielder.get() };
        yielder.suspend(Paused::Waits);
    }

    fn is_dying(&self, id: TaskId) -> bool {
        self.tasks.borrow().get(&id).is_some_and(|task| task.is_dying)
    }

    fn die_if_killed(&self, running: &Running) {
        if self.is_dying(running.id) {
            resume_unwind(Box::new(Killed));
        }
    }

    fn resume(&self, id: TaskId) -> Result<(), Panic> {
        let (mut worker, is_dying) = {
            let mut tasks = self.tasks.borrow_mut();
            let task = tasks.get_mut(&id).expect("is there");
            (task.worker.take().expect("does not run"), task.is_dying)
        };
        let before = RUNNING.replace(Some(Running { id, yielder: Rc::clone(&worker.yielder) }));
        let paused = worker.coroutine.resume(());
        RUNNING.set(before);
        match paused {
            CoroutineResult::Yield(Paused::Waits) => {
                self.tasks.borrow_mut().get_mut(&id).expect("is there").worker = Some(worker);
                Ok(())
            }
            CoroutineResult::Yield(Paused::HasEnded(ended)) => {
                IDLE.with_borrow_mut(|idle| idle.push(worker));
                self.tasks.borrow_mut().remove(&id);
                ended.or_else(|panic| if is_dying && panic.is::<Killed>() { Ok(()) } else { Err(panic) })
            }
            CoroutineResult::Return(()) => unreachable!("a worker goes on"),
        }
    }

    fn kill(&self, is_meant: impl Fn(&Task) -> bool) -> Result<(), Panic> {
        /// Destructors wait for each other's locks at most.
        const ROUNDS: u32 = 1000;
        let mut dying = Vec::new();
        for (id, task) in self.tasks.borrow_mut().iter_mut().filter(|(_, task)| is_meant(task)) {
            task.is_dying = true;
            dying.push(*id);
        }
        // One that has not begun has nothing to unwind.
        let not_begun: Vec<Task> =
            self.tasks.borrow_mut().extract_if(.., |_, task| task.is_dying && !task.has_begun()).map(|(_, task)| task).collect();
        drop(not_begun);
        let mut ended = Ok(());
        for _ in 0..ROUNDS {
            dying.retain(|id| self.tasks.borrow().contains_key(id));
            if dying.is_empty() {
                return ended;
            }
            for id in &dying {
                ended = ended.and(self.resume(*id));
            }
        }
        panic!("the destructors of a dead process wait for each other: {}", self.describe());
    }

    fn describe(&self) -> String {
        let tasks = self.tasks.borrow();
        let lines: Vec<String> = tasks
            .values()
            .map(|task| match task.waits {
                Wait::Nothing => format!("{} of {} can go on", task.name, task.group),
                Wait::For { place, until: None } => format!("{} of {} waits at {:x}", task.name, task.group, place.0),
                Wait::For { place, until: Some(_) } => {
                    format!("{} of {} waits at {:x} for a while", task.name, task.group, place.0)
                }
            })
            .collect();
        lines.join("; ")
    }
}

impl Scheduler {}

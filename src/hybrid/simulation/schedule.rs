//! A schedule: what happens, step by step, by the seed; and the end, in which all is well again and the oracle looks at the stores.
//!
//! In one step something begins: an operation, a look around, or an event (Redis goes or comes, questions begin to fail, Redis loses
//! data, a key changes hands very often, hours pass, a clock is set, a process dies). Then some of the tasks that can go on do so, chosen by
//! the seed, each until it waits for the next time. So any number of operations are under way at once. How long the end may take is
//! bounded.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Plan;
use super::world::World;
use crate::clock::Clock;
use crate::config::Durability;
use crate::store::contract::local::EntryKey;
use crate::sync::mark;
use crate::sync::tasks::Scheduler;

/// How long Redis remembers the token of a lock that was released, microseconds.
pub(super) const REMEMBERED: u64 = 3_600_000_000;
const STEPS: u32 = 80;
/// Most callers at a server at once.
pub(crate) const CALLERS: usize = 4;

/// Runs one schedule; a violation is a panic. Most logs are read by nobody, so a schedule that ends in one runs once more, and is printed.
pub(crate) fn run(plan: Plan, servers: usize) {
    let world = World::new(plan, servers, false);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| whole(&world))) {
        if !plan.broken {
            logged(plan, servers);
        }
        resume_unwind(panic);
    }
}

/// Runs one schedule and gives its log; a violation is a panic, after that was printed.
pub(crate) fn logged(plan: Plan, servers: usize) -> Vec<String> {
    let world = World::new(plan, servers, true);
    or_show(&world, || whole(&world));
    std::mem::take(&mut *world.log.lock())
}

fn whole(world: &Arc<World>) {
    simulate(world, |schedule| {
        schedule.tasks.preempt(world.plan.preempts);
        schedule.all_begin();
        (0..STEPS).for_each(|_| schedule.step());
        schedule.end();
    });
}

/// Runs this, and where that panics shows what has happened.
pub(crate) fn or_show<T>(world: &World, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let log = world.log.lock().join("\n");
        #[allow(clippy::print_stderr)]
        {
            eprintln!("{log}\n{:?}, {} servers", world.plan, world.servers());
        }
        resume_unwind(panic);
    })
}

/// The tasks of this world, scheduled by chance.
pub(crate) fn simulate<T>(world: &Arc<World>, body: impl FnOnce(&Scheduled<'_>) -> T) -> T {
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let chance = Arc::clone(world);
    Scheduler::run(clock, Box::new(move |end| chance.random.below(end)), |tasks| {
        // What is left of the processes in the end reaches no disk any more.
        let _ends = Ends(world);
        body(&Scheduled { world, tasks })
    })
}

struct Ends<'a>(&'a World);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.disks.end();
    }
}

/// Runs one course of events as a task, beside those of the servers that it starts.
pub(crate) fn alone<T: 'static>(world: &Arc<World>, body: impl FnOnce() -> T + 'static) -> T {
    or_show(world, || simulate(world, |schedule| schedule.within_task("the test", body)))
}

/// Something of a server is under way until this is dropped.
pub(crate) struct Busy(Arc<World>);

impl Busy {
    pub(crate) fn new(world: &Arc<World>) -> Busy {
        world.busy.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(world))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) struct Scheduled<'a> {
    pub(crate) world: &'a Arc<World>,
    pub(crate) tasks: &'a Scheduler,
}

/// What is no server's.
const NOBODY: usize = 0;

impl Scheduled<'_> {
    /// One of the tasks that can go on does so; `false` if there is none.
    pub(crate) fn resume_one(&self) -> bool {
        let ready = self.tasks.ready();
        if ready.is_empty() {
            return false;
        }
        if let Err(panic) = self.tasks.resume(ready[self.world.random.index(ready.len())]) {
            resume_unwind(panic);
        }
        let doomed = self.world.doomed.lock().take();
        if let Some(me) = doomed {
            self.world.crash(me);
        }
        true
    }

    /// One of the tasks goes on, now or when the next moment comes that somebody waits for.
    /// `false` if nobody waits for one.
    pub(crate) fn go_on(&self) -> bool {
        if self.resume_one() {
            return true;
        }
        let moment = self.tasks.next_moment();
        moment.inspect(|moment| self.world.clock.advance_to(*moment)).is_some()
    }

    /// Runs this to its end, whatever else goes on beside it.
    pub(crate) fn within_task<T: 'static>(&self, name: &str, body: impl FnOnce() -> T + 'static) -> T {
        let done = Rc::new(Cell::new(None));
        let for_task = Rc::clone(&done);
        let task = self.tasks.start(NOBODY, name, move || for_task.set(Some(body())));
        while self.tasks.is_alive(task) {
            assert!(self.go_on(), "all wait for each other: {}", self.tasks.describe());
        }
        done.take().expect("has ended")
    }

    /// Starts a task of this server's process, if it has started.
    pub(crate) fn start(&self, who: usize, name: &str, body: impl FnOnce(&Arc<World>) + 'static) {
        let Some(process) = self.world.process(who).filter(|_| self.world.running(who).is_some()) else { return };
        let (world, busy) = (Arc::clone(self.world), Busy::new(self.world));
        self.tasks.start(process, name, move || {
            let _busy = busy;
            body(&world);
        });
    }

    /// They learn of each other before anything else happens.
    fn all_begin(&self) {
        let world = Arc::clone(self.world);
        self.within_task("the beginning", move || {
            (0..world.servers()).for_each(|me| world.begin(me));
            world.clock.advance(Duration::from_secs(3));
            (0..world.servers()).for_each(|me| world.tick(me));
        });
    }

    fn step(&self) {
        let (world, random) = (self.world, &self.world.random);
        world.late_questions_arrive();
        let who = random.index(world.servers());
        if world.plan.stock {
            self.stock_step();
        }
        if world.plan.restores && random.percent(5) {
            world.crash(who);
            self.begin(who);
            self.pause();
            world.crash(who);
        }
        if world.plan.foreign && random.percent(8) {
            world.foreign_program();
        }
        if random.percent(4) {
            *world.fuse.lock() = Some((who, u32::try_from(random.below(30)).expect("is small")));
        }
        match random.below(100) {
            0..=54 => {
                for _ in 0..=random.below(3) {
                    self.start_operation(who);
                }
            }
            55..=84 => {
                world.clock.advance(Duration::from_millis(random.below(400)));
                self.start(who, "look", move |world| world.tick(who));
            }
            85..=88 => {
                let was_up = world.network.is_up.fetch_not(Ordering::SeqCst);
                if was_up && random.percent(30) {
                    // It starts anew, with all that it had.
                    mark!("fault: Redis starts anew");
                    world.redis.restart();
                }
                world.say(|| format!("Redis is {}", if was_up { "down" } else { "up" }));
            }
            89..=91 => world.network.trouble.store(random.below(60), Ordering::SeqCst),
            92..=93 => self.hours_pass(),
            94..=95 if world.plan.loses_data => world.lose_data(),
            94..=95 if world.plan.modes => self.start(who, "close", move |world| world.close(who)),
            98 if world.plan.host => self.start(who, "close", move |world| world.close(who)),
            96 => self.start(who, "busy", move |world| world.busy_key(who)),
            97 if world.may_set_clock() => world.set_clock(who),
            _ => world.keep_image(),
        }
        for _ in 0..random.below(12) {
            if !self.resume_one() && random.percent(50) && !self.go_on() {
                break;
            }
        }
        if random.percent(10) {
            self.pause();
        }
        self.look_at_local_stores();
        if world.plan.bad_disk && random.percent(20) {
            self.start(who, "health", move |world| world.end_if_failed(who));
        }
        if world.process(who).is_none() {
            self.begin(who);
        }
    }

    pub(crate) fn begin(&self, who: usize) {
        let (world, busy) = (Arc::clone(self.world), Busy::new(self.world));
        let process = world.new_process(who);
        self.tasks.start(process, "start", move || {
            let _busy = busy;
            world.start_process(who, process);
        });
    }

    fn start_operation(&self, who: usize) {
        let Some(process) = self.world.process(who) else { return };
        let callers = self.world.under_way.lock().values().filter(|under_way| under_way.process == process).count();
        if callers < CALLERS {
            self.start(who, "caller", move |world| world.operation(who));
        }
    }

    /// The server is up and nothing happens, or everything ends and begins again later.
    fn hours_pass(&self) {
        let (world, random) = (self.world, &self.world.random);
        let is_starting = |who| world.process(who).is_some() && world.running(who).is_none();
        // A start gives Atlantis's own store ten seconds. What is only there must be read then (see `Modes::file_decides`).
        if world.modes.file_decides.load(Ordering::SeqCst) && (0..world.servers()).any(is_starting) {
            return;
        }
        if random.percent(50) {
            mark!("fault: all die at once");
            (0..world.servers()).for_each(|who| world.crash(who));
            if world.plan.loses_data && random.percent(70) {
                world.lose_data();
            }
        }
        let hours = if random.percent(80) {
            mark!("fault: hours pass", 2)
        } else {
            mark!("fault: days pass", 24 * (1 + random.below(40)))
        };
        world.say(|| format!("{hours} hours pass"));
        world.clock.advance(Duration::from_secs(hours * 3600));
    }

    /// Now and then all that is under way ends before anything else begins.
    pub(crate) fn pause(&self) {
        /// Who waits longest is a start whose disk is late.
        const LONGEST: Duration = Duration::from_secs(600);
        let until = self.world.clock.now() + LONGEST;
        while self.world.busy.load(Ordering::SeqCst) > 0 && self.go_on() {
            assert!(self.world.clock.now() < until, "somebody waits for ever: {}", self.tasks.describe());
        }
    }

    /// Whenever nothing is under way: what a server alone, whose disk works, believes is what it told its callers, whoever decides.
    fn look_at_local_stores(&self) {
        let world = self.world;
        let is_quiet = world.busy.load(Ordering::SeqCst) == 0;
        if let Some(instance) = world.instance(0).filter(|_| world.plan.host) {
            let for_look = Arc::clone(world);
            self.within_task("the copy's look", move || for_look.check_copy(&instance));
        }
        if !is_quiet || !world.is_alone() || world.plan.bad_disk || world.plan.durability == Durability::Async {
            return;
        }
        let Some(instance) = world.instance(0).filter(|_| world.knows_all(0)) else { return };
        let for_look = Arc::clone(world);
        // The store's own threads may have its locks.
        self.within_task("the look", move || {
            let known = |key: &EntryKey| Some((key.clone(), instance.core.known(key).ok()?.value?.value));
            let keys = for_look.oracle().keys();
            let believed: BTreeMap<EntryKey, Vec<u8>> = keys.iter().filter_map(known).collect();
            // The process may have died meanwhile.
            if for_look.instance(0).is_some() {
                for_look.oracle().check_belief(&believed);
            }
        });
    }

    /// Everything works again: the stores agree, and on what callers were told.
    fn end(&self) {
        self.heal();
        let world = Arc::clone(self.world);
        self.within_task("the end", move || {
            for instance in world.living() {
                let core = &instance.core;
                assert!(!core.in_fallback(), "{} did not recover: {:?}", core.arming.server_name(), core.authority.cause());
                world.check_conflicts(core);
                world.compare_all_of(&instance);
            }
            // Who looked first learns at its next look what the others changed; Redis stays as it is.
            let settled = world.entries();
            world.living().iter().for_each(|instance| world.compare_all_of(instance));
            assert_eq!(world.entries(), settled, "a second look changes Redis");
            for me in 0..world.servers() {
                let instance = world.instance(me).expect("lives");
                let local = instance.core.local.store().everything().expect("reads");
                let local: BTreeMap<EntryKey, Vec<u8>> =
                    local.into_iter().filter_map(|(key, state)| Some((key, state.value?.value))).collect();
                assert_eq!(local, settled, "the stores differ");
            }
            let lacks_some = !world.is_alone() || world.plan.durability == Durability::Async;
            let forgets = lacks_some.then_some(REMEMBERED);
            world.oracle().check_end(&settled, forgets);
        });
    }

    /// Nothing fails any more, every server lives, and each has had the time to recover.
    fn heal(&self) {
        /// For so many rounds all is well: two servers that Redis has forgotten put back, each, what the other one knows to be old, until
        /// their next probes tell them, and they have recovered.
        const QUIET: u32 = 3;
        /// Longer than a write to the file takes that began before (`host.rs`): a start of strict mode waits for its end.
        const ROUNDS: u32 = 2000;
        let world = self.world;
        let (mut quiet, until_quiet) = (0, if world.servers() > 1 { QUIET } else { 0 });
        world.network.is_up.store(true, Ordering::SeqCst);
        world.network.trouble.store(0, Ordering::SeqCst);
        *world.fuse.lock() = None;
        world.disks.may_fail.store(false, Ordering::SeqCst);
        world.host.heal();
        world.remove_what_is_foreign();
        let count = world.servers();
        for _ in 0..ROUNDS {
            world.late_questions_arrive();
            world.modes_are_over();
            world.clock.advance(Duration::from_millis(200));
            for who in 0..count {
                match world.process(who) {
                    Some(_) => {
                        self.start(who, "look", move |world| world.tick(who));
                        self.start(who, "health", move |world| world.end_if_failed(who));
                    }
                    None => self.begin(who),
                }
            }
            while self.resume_one() {}
            let all_recovered =
                world.living().len() == count && world.living().iter().all(|instance| !instance.core.in_fallback());
            // A close that began before is among what is under way.
            let is_quiet = world.busy.load(Ordering::SeqCst) == 0 && world.under_way.lock().is_empty();
            quiet = if all_recovered && is_quiet && !world.network.has_stuck() { quiet + 1 } else { 0 };
            if quiet > until_quiet {
                break;
            }
        }
        self.copy_is_complete();
        assert!(world.under_way.lock().is_empty(), "a caller waits for ever: {}", self.tasks.describe());
        assert_eq!(world.living().len(), count, "a server does not begin: {}", self.tasks.describe());
    }
}

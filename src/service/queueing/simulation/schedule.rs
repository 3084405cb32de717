//! A schedule: what begins when, and who goes on, by the seed; and the end, in which everything works, holders give up what they have, and
//! every queue drains.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::scene::Scene;
use super::values::{PATHS, PULLS, REPO, key, path_of};
use super::{Plan, Stores};
use crate::clock::Clock;
use crate::hybrid::simulation::modes::Serves as _;
use crate::hybrid::simulation::schedule::{Scheduled, or_show, simulate};
use crate::sync::mark;

const STEPS: u32 = 50;
/// Most callers at a server at once.
const CALLERS: usize = 5;

/// Runs one schedule and gives its log; a violation is a panic, after that was printed.
pub(super) fn run(plan: Plan) -> Vec<String> {
    let scene = Scene::new(plan);
    let world = Arc::clone(&scene.world);
    world.say(|| format!("{plan:?}"));
    or_show(&world, || {
        simulate(&world, |tasks| {
            let _ends = Ends(&scene);
            tasks.tasks.preempt(world.plan.preempts);
            let schedule = Schedule { scene: &scene, tasks };
            schedule.begins();
            (0..STEPS).for_each(|_| schedule.step());
            schedule.ends();
        });
    });
    std::mem::take(&mut *world.log.lock())
}

/// What is left of the processes in the end closes nothing.
struct Ends<'a>(&'a Scene);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        (0..self.0.plan.servers).filter_map(|me| self.0.service(me)).for_each(|service| service.is_killed());
    }
}

pub(super) struct Schedule<'a> {
    pub(super) scene: &'a Arc<Scene>,
    pub(super) tasks: &'a Scheduled<'a>,
}

impl Schedule<'_> {
    fn begins(&self) {
        for me in 0..self.scene.plan.servers {
            self.tasks.begin(me);
        }
        self.passes(Duration::from_secs(3));
    }

    /// One of the tasks that can go on does so.
    fn resume_one(&self) -> bool {
        let before: Vec<_> = (0..self.scene.plan.servers).map(|me| self.scene.world.process(me)).collect();
        let resumed = self.tasks.resume_one();
        for (me, process) in before.into_iter().enumerate() {
            if let Some(process) = process.filter(|_| self.scene.world.process(me).is_none()) {
                self.scene.died(process);
            }
        }
        resumed
    }

    /// This much time passes; some of the tasks go on.
    fn passes(&self, time: Duration) {
        /// Background threads do more in hours.
        const MOST: u32 = 600;
        let until = self.scene.world.clock.now() + time;
        for _ in 0..MOST {
            if self.resume_one() {
                continue;
            }
            match self.tasks.tasks.next_moment().filter(|moment| *moment <= until) {
                Some(moment) => self.scene.world.clock.advance_to(moment),
                None => break,
            }
        }
        self.scene.world.clock.advance_to(until);
    }

    /// A caller begins at this server.
    fn starts(&self, who: usize, body: impl FnOnce(&Scene) + 'static) {
        let Some(process) = self.scene.world.process(who) else { return };
        if self.tasks.tasks.count(process) < CALLERS + 8 {
            let scene = Arc::clone(self.scene);
            self.tasks.start(who, "caller", move |world| {
                world.clock.advance(Duration::from_micros(10));
                body(&scene);
            });
        }
    }

    /// Runs this to its end in a process of this server, whatever else goes on; `None` if that process dies, or there is none.
    fn within<T: 'static>(&self, who: usize, body: impl FnOnce(&Scene) -> T + 'static) -> Option<T> {
        let process = self.scene.world.process(who).filter(|_| self.scene.service(who).is_some())?;
        let (done, scene) = (Rc::new(Cell::new(None)), Arc::clone(self.scene));
        let for_task = Rc::clone(&done);
        let task = self.tasks.tasks.start(process, "the look", move || for_task.set(Some(body(&scene))));
        while self.tasks.tasks.is_alive(task) {
            if !self.resume_one() {
                let moment = self.tasks.tasks.next_moment();
                self.scene.world.clock.advance_to(moment.expect("all wait for each other"));
            }
        }
        done.take()
    }

    fn step(&self) {
        let (scene, world, random) = (self.scene, &self.scene.world, &self.scene.world.random);
        self.late_questions_arrive();
        let who = random.index(scene.plan.servers);
        let num = PULLS.start + i64::try_from(random.below(5)).expect("is small");
        let path = PATHS[random.index(PATHS.len())];
        if random.percent(scene.plan.deaths) {
            *world.fuse.lock() = Some((who, u32::try_from(random.below(40)).expect("is small")));
        }
        match random.below(100) {
            0..=29 => self.starts(who, move |scene| scene.plan(who, num)),
            30..=39 => self.starts(who, move |scene| scene.wait(who, num)),
            40..=49 => self.starts(who, move |scene| scene.newcomer_tries(who)),
            50..=61 => self.starts(who, move |scene| scene.discard(who, path)),
            62..=66 => self.starts(who, move |scene| scene.unlock_pull(who, num, true)),
            67..=68 => self.starts(who, move |scene| scene.unlock_pull(who, num, false)),
            69..=71 => self.starts(who, move |scene| scene.leave(who, num)),
            72..=74 => scene.cancel_one(),
            75..=82 if scene.plan.stock => scene.stock_acts(),
            83..=84 => self.tasks.start(who, "close", move |world| world.close(who)),
            85..=88 => self.hours_pass(),
            89..=94 => self.trouble(who),
            95..=96 => self.starts(who, move |scene| scene.hands_over(who)),
            _ => self.passes(Duration::from_secs(random.below(8))),
        }
        for _ in 0..random.below(30) {
            if !self.resume_one() && random.percent(50) {
                self.passes(Duration::from_millis(random.below(800)));
            }
        }
        if random.percent(25) {
            self.within(who, move |scene| scene.check(who, false));
        }
        for me in 0..scene.plan.servers {
            if world.process(me).is_none() {
                self.tasks.begin(me);
            }
        }
    }

    fn late_questions_arrive(&self) {
        let world = &self.scene.world;
        for command in world.network.arriving(&world.random) {
            mark!("fault: a question arrives late");
            world.redis.execute(&command, world.clock.unix_micros());
        }
    }

    fn hours_pass(&self) {
        // Redis remembers releases for an hour, for a server that did not see them (docs/reliability.md, "What is not covered").
        let is_short = self.scene.plan.stores == Stores::Hybrid && self.scene.plan.servers > 1;
        let minutes = [1, 3, 3, 11, 65, 200][self.scene.world.random.index(if is_short { 4 } else { 6 })];
        self.scene.world.say(|| format!("{minutes} minutes pass"));
        self.scene.world.clock.advance(Duration::from_secs(60 * minutes));
        if minutes >= 60 {
            self.scene.has_forgotten.store(true, Ordering::SeqCst);
        }
        // What was under way has no time left.
        self.scene.fails();
    }

    /// Something fails, or works again.
    fn trouble(&self, who: usize) {
        let (scene, world, random) = (self.scene, &self.scene.world, &self.scene.world.random);
        if !scene.plan.trouble {
            return;
        }
        scene.fails();
        match random.below(10) {
            0..=3 if scene.plan.stores != Stores::Strict => {
                let was_up = world.network.is_up.fetch_not(Ordering::SeqCst);
                world.say(|| format!("Redis is {}", if was_up { "down" } else { "up" }));
            }
            4..=6 if scene.plan.stores != Stores::Strict => {
                let percent = if random.percent(60) { 0 } else { random.below(40) };
                world.network.trouble.store(percent, Ordering::SeqCst);
            }
            7..=8 if scene.plan.loses_data => {
                if random.percent(50) {
                    return world.keep_image();
                }
                world.lose_data();
                scene.lost_data.store(true, Ordering::SeqCst);
            }
            9 if scene.plan.servers == 1 => world.set_clock(who),
            _ => {}
        }
    }

    /// Everything works, and nobody asks any more: what callers were told is so, and every queue drains.
    fn ends(&self) {
        self.heals();
        let is_checked = (0..20).any(|_| {
            self.passes(Duration::from_secs(15));
            self.within(0, |scene| scene.check(0, true) && scene.oracle().undecided_sets() == 0) == Some(true)
        });
        assert!(is_checked, "it does not become well: {:?}", self.scene.oracle());
        self.drains();
        self.within(0, |scene| assert!(scene.check(0, true), "is well"));
    }

    fn heals(&self) {
        let (scene, world) = (self.scene, &self.scene.world);
        *world.fuse.lock() = None;
        world.network.is_up.store(true, Ordering::SeqCst);
        world.network.trouble.store(0, Ordering::SeqCst);
        world.disks.may_fail.store(false, Ordering::SeqCst);
        scene.fails();
        for _ in 0..400 {
            self.late_questions_arrive();
            while !scene.waits.lock().is_empty() {
                scene.cancel_one();
            }
            for me in 0..scene.plan.servers {
                if world.process(me).is_none() {
                    self.tasks.begin(me);
                }
            }
            self.passes(Duration::from_millis(500));
            let all_live = (0..scene.plan.servers).all(|me| scene.service(me).is_some());
            let is_quiet = world.busy.load(Ordering::SeqCst) == 0 && !world.network.has_stuck();
            if all_live && is_quiet && self.all_ask_redis() {
                scene.lost_data.store(false, Ordering::SeqCst);
                return;
            }
        }
        panic!("somebody waits for ever: {}", self.tasks.tasks.describe());
    }

    /// L3: holders give up what they have, and whoever is next takes that, until nobody waits and nothing is held.
    fn drains(&self) {
        const ROUNDS: u32 = 60;
        for _ in 0..ROUNDS {
            let is_empty = self.within(0, |scene| {
                let service = scene.service(0).expect("lives");
                for path in PATHS {
                    scene.discard(0, path);
                }
                let queue = service.queue(REPO).expect("is read");
                let next =
                    |ticket: &&crate::queue::Ticket| ticket.wants.values().any(|want| *want != crate::queue::Want::Waiting);
                let tickets = queue.tickets_in_order(&super::RULES);
                let turns: Vec<_> = tickets.into_iter().filter(next).collect();
                for ticket in turns {
                    let paths: Vec<&str> = ticket.wants.keys().map(|key| path_of(key)).collect();
                    scene.plan_of(0, ticket.pull().num, &paths);
                }
                queue.is_empty() && service.list().expect("is read").is_empty()
            });
            if is_empty == Some(true) {
                return self.is_open_soon();
            }
            self.passes(Duration::from_secs(6));
        }
        let queue = self.within(0, |scene| scene.service(0).expect("lives").queue(REPO));
        panic!("the queue does not drain: {queue:?}");
    }

    /// Whether nobody decides in Redis's place.
    fn all_ask_redis(&self) -> bool {
        self.scene.plan.stores != Stores::Hybrid || self.within(0, |scene| scene.all_ask_redis()) == Some(true)
    }

    /// Much time may have passed at once (`passes`), and a question that was under way then was too late: Redis is away for that server, and
    /// is back before long.
    fn is_open_soon(&self) {
        const ROUNDS: u32 = 40;
        let is_back = (0..ROUNDS).any(|_| {
            self.passes(Duration::from_millis(500));
            self.all_ask_redis()
        });
        assert!(is_back, "Redis is back, and is not asked: {}", self.tasks.tasks.describe());
        self.is_open();
    }

    /// Nothing is closed with nobody behind it.
    fn is_open(&self) {
        self.within(0, |scene| {
            let service = scene.service(0).expect("lives");
            for path in PATHS {
                let (newcomer, number) = (scene.newcomer().expect("is new"), scene.number());
                scene.oracle().asks(number, &key(path), newcomer.1, None, scene.process());
                let answer = service.try_lock(&super::values::lock(path, newcomer.1, number));
                let is_granted = matches!(answer, Ok(crate::store::Granted::Yes { .. }));
                assert!(is_granted, "{path} is free, nobody waits, and it is refused: {answer:?}");
                scene.oracle().acquired(number, Some(number));
                scene.discard(0, path);
            }
        });
    }
}

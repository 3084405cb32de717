//! A schedule: what happens, step by step, by the seed; and the end, in which all is well again and the oracle looks at the stores.
//!
//! One step is one operation, a moment in which a server looks around, or an event: Redis goes or comes, questions begin to fail,
//! Redis loses data, a key changes hands very often, or two hours pass. How long the end may take is bounded.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::redis::REMEMBERED;
use super::show::Brief;
use super::world::World;
use super::{PATIENCE, Plan};
use crate::clock::Clock;
use crate::config::Durability;
use crate::hybrid::core::Core;
use crate::hybrid::recovery::compare;
use crate::store::contract::local::{EntryKey, LocalStore, MAX_TOMBSTONES};

const STEPS: u32 = 80;

/// Runs one schedule and gives its log; a violation is a panic, after that was printed.
pub(super) fn run(plan: Plan, instances: usize) -> Vec<String> {
    let world = World::new(plan, instances);
    let run = || {
        // They learn of each other before anything else happens.
        world.undisturbed(|| {
            (0..instances).for_each(|me| world.begin(me));
            world.clock.advance(Duration::from_secs(3));
            (0..instances).for_each(|me| world.tick(me));
        });
        (0..STEPS).for_each(|_| world.step());
        world.end();
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        if !plan.broken {
            let log = world.log.lock().join("\n");
            #[allow(clippy::print_stderr)]
            {
                eprintln!("{log}\n{plan:?}, {instances} instances");
            }
        }
        resume_unwind(panic);
    }
    std::mem::take(&mut *world.log.lock())
}

impl World {
    fn step(self: &Arc<Self>) {
        self.late_questions_arrive();
        let who = self.random.index(self.disks.count());
        if self.random.percent(4) {
            *self.fuse.lock() = Some((who, u32::try_from(self.random.below(30)).expect("is small")));
        }
        match self.random.below(100) {
            0..=54 => {
                self.dies(who, || self.operation(who, false));
            }
            55..=84 => {
                self.clock.advance(Duration::from_millis(self.random.below(400)));
                self.dies(who, || self.tick(who));
            }
            85..=89 => {
                let was_up = self.network.is_up.fetch_not(Ordering::SeqCst);
                self.say(|| format!("Redis is {}", if was_up { "down" } else { "up" }));
            }
            90..=92 => self.network.trouble.store(self.random.below(60), Ordering::SeqCst),
            93 => self.hours_pass(),
            94..=95 if self.plan.loses_data => self.lose_data(),
            96 => {
                self.dies(who, || self.busy_key(who));
            }
            _ => self.redis.keep_image(),
        }
        self.look_at_local_stores();
        if self.disks.store(who).has_failed() && self.random.percent(20) {
            self.say(|| format!("instance {who} is started anew"));
            self.crash(who);
        }
        if self.instance(who).is_none() {
            self.begin(who);
        }
    }

    /// What was stuck is executed, or never will be.
    fn late_questions_arrive(&self) {
        for late in self.network.arriving(self.clock.now(), &self.random) {
            let reply = self.redis.execute(&late.question, &late.request, late.is_retry, self.clock.unix_micros());
            self.say(|| format!("late: {} → {}", late.question.brief(), reply.brief()));
            self.oracle().arrived_late(&late.request, &late.question, &reply);
        }
    }

    /// The server is up and nothing happens, or everything ends and begins again later.
    fn hours_pass(self: &Arc<Self>) {
        if self.random.percent(50) {
            let living = (0..self.disks.count()).filter(|who| self.instance(*who).is_some());
            living.for_each(|who| self.crash(who));
            if self.plan.loses_data && self.random.percent(70) {
                self.lose_data();
            }
        }
        self.say(|| "two hours pass".to_owned());
        self.clock.advance(Duration::from_secs(2 * 3600));
    }

    /// Redis is empty, or as it was before.
    fn lose_data(&self) {
        let left = self.redis.lose_data(&self.random);
        self.say(|| format!("Redis loses data; it has {left} entries now"));
        self.network.drop_stuck();
    }

    /// A key that changes hands more often than anybody remembers.
    fn busy_key(&self, who: usize) {
        let Some(instance) = self.instance(who) else { return };
        let key = self.free_key(&instance);
        if key.lock().is_none() {
            return;
        }
        self.undisturbed(|| {
            for _ in 0..MAX_TOMBSTONES + 3 {
                self.clock.advance(Duration::from_micros(10));
                self.grant(&instance, who, &key);
                self.release(&instance, who, &key);
            }
        });
    }

    /// What a server alone, whose disk works, believes is what it told its callers, whoever decides.
    fn look_at_local_stores(&self) {
        let is_alone = self.disks.count() == 1;
        if !is_alone || self.plan.bad_disk || self.plan.durability == Durability::Async {
            return;
        }
        let Some(instance) = self.instance(0) else { return };
        let believed = |key: &EntryKey| instance.core.known(key).expect("is read").value.map(|held| held.value);
        self.oracle().check_belief(believed);
    }

    /// Everything works again: the stores agree, and on what callers were told.
    fn end(self: &Arc<Self>) {
        self.undisturbed(|| {
            self.heal();
            for instance in self.living() {
                let core = &instance.core;
                assert!(!core.in_fallback(), "{} did not recover: {:?}", core.arming.server_name(), core.authority.cause());
                assert!(core.conflicts.all().is_empty(), "a conflict");
                self.compare_all_of(core);
            }
            // Who looked first learns at its next look what the others changed; Redis stays as it is.
            let settled = self.redis.entries();
            self.living().iter().for_each(|instance| self.compare_all_of(&instance.core));
            assert_eq!(self.redis.entries(), settled, "a second look changes Redis");
            for me in 0..self.disks.count() {
                let local = self.disks.store(me).everything().expect("reads");
                let local: BTreeMap<EntryKey, Vec<u8>> =
                    local.into_iter().filter_map(|(key, state)| Some((key, state.value?.value))).collect();
                assert_eq!(local, settled, "the stores differ");
            }
            let forgets = (self.disks.count() > 1).then_some(REMEMBERED);
            self.oracle().check_end(&settled, forgets);
        });
    }

    /// Nothing fails any more, every server lives, and each has had the time to recover.
    fn heal(self: &Arc<Self>) {
        self.network.is_up.store(true, Ordering::SeqCst);
        self.network.trouble.store(0, Ordering::SeqCst);
        *self.fuse.lock() = None;
        self.disks.may_fail.store(false, Ordering::SeqCst);
        let count = self.disks.count();
        self.disks.failed().into_iter().for_each(|who| self.crash(who));
        (0..count).filter(|who| self.instance(*who).is_none()).for_each(|who| self.begin(who));
        for _ in 0..400 {
            self.late_questions_arrive();
            self.clock.advance(Duration::from_millis(200));
            (0..count).for_each(|who| self.tick(who));
            if !self.network.has_stuck() && self.living().iter().all(|instance| !instance.core.in_fallback()) {
                break;
            }
        }
        assert_eq!(self.living().len(), count, "a server does not begin");
    }

    fn compare_all_of(&self, core: &Core) {
        compare(core).expect("compares");
        core.local.flush(self.clock.now() + PATIENCE).expect("settles");
    }
}

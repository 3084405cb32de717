//! What happens to a server or on its way to Redis, beside its callers' operations.

use std::sync::Arc;
use std::time::Duration;

use super::PATIENCE;
use super::show::{command_text, reply_text, request_of};
use super::stock::is_stocks;
use super::world::{Instance, World};
use crate::clock::Clock;
use crate::error::Code;
use crate::hybrid::recovery::compare;
use crate::hybrid::write_behind::is_late;
use crate::store::contract::local::MAX_TOMBSTONES;
use crate::sync::mark;

impl World {
    /// What was stuck is executed, or never will be.
    pub(super) fn late_questions_arrive(&self) {
        for command in self.network.arriving(&self.random) {
            mark!("fault: a question arrives late");
            let before = self.entries();
            let reply = self.execute(&command);
            self.say(|| format!("late: {} → {}", command_text(&command), reply_text(&reply)));
            if is_stocks(&command) {
                continue;
            }
            let after = self.entries();
            let request = request_of(&command).unwrap_or_default();
            for key in before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key)) {
                self.oracle().arrived_late(&request, key, before.get(key), after.get(key));
            }
        }
    }

    /// Somebody starts a server anew whose local store has failed.
    pub(super) fn end_if_failed(&self, who: usize) {
        let Some(instance) = self.instance(who) else { return };
        if instance.core.local.store().ping(&self.call()).is_err_and(|error| error.code() == Code::StoreFailed) {
            self.die(who);
        }
    }

    /// Of several servers, none has a clock that is set while Redis is away: that is assumed. Locks that an older local store does not know, or
    /// native mode's, are as another server's.
    pub(super) fn may_set_clock(&self) -> bool {
        self.is_alone() && !self.plan.modes && !self.plan.restores
    }

    /// A machine's wall clock is set.
    pub(crate) fn set_clock(&self, who: usize) {
        mark!("fault: a clock is set");
        let ahead = [0, 40_000_000, -40_000_000][self.random.index(3)];
        self.say(|| format!("the clock of {who} is set: {ahead}"));
        self.machine(who).set(ahead);
    }

    /// A key that changes hands more often than anybody remembers.
    pub(super) fn busy_key(self: &Arc<Self>, who: usize) {
        let Some(instance) = self.instance(who) else { return };
        let key = super::values::any_key(&self.random);
        if key.lock().is_none() {
            return;
        }
        mark!("fault: a key changes hands forty times");
        for _ in 0..MAX_TOMBSTONES + 3 {
            self.clock.advance(Duration::from_micros(10));
            self.grant(&instance.store, who, &key);
            self.release(&instance.store, who, &key);
        }
    }

    pub(super) fn compare_all_of(&self, instance: &Instance) {
        // A disk may still be late with what it was asked for before.
        let compared = (0..5).map(|_| compare(&instance.core)).find(|compared| !compared.as_ref().is_err_and(is_late));
        compared.expect("is in time").expect("compares");
        instance.core.local.flush(self.clock.now() + 10 * PATIENCE).expect("settles");
    }
}

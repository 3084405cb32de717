//! Probing both stores, now and then: opens the breaker before a caller meets the failure, and closes it when Redis works
//! again. One thread (`thread.rs`); [`tick`] is one round, so that tests can do without the thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::announce::announce;
use super::core::Core;
use super::recovery::{compare, recover};
use super::write_behind::is_late;
use crate::config::Instances;
use crate::error::{Error, Result};
use crate::health::StoreHealth;
use crate::store::contract::local::Change;
use crate::store::contract::shared::SharedStore;
use crate::sync::mark;

/// Time between two rounds of forgetting what was released.
const FORGET: Duration = Duration::from_secs(3600);
/// How many times as long it is between two comparisons where nobody else changes what is in Redis.
const ALONE: u32 = 10;
/// How long a release is remembered, so that an old snapshot of Redis does not bring the lock back; microseconds.
pub(super) const REMEMBERED_MICROS: u64 = 24 * 3600 * 1_000_000;

/// When what is due.
#[derive(Debug)]
pub(super) struct Schedule {
    probe: Instant,
    compare: Instant,
    forget: Instant,
}

impl Schedule {
    pub(super) fn from(now: Instant) -> Schedule {
        Schedule { probe: now, compare: now, forget: now }
    }
}

/// One round: does what is due.
pub(super) fn tick(core: &Core, due: &mut Schedule) {
    let now = core.clock.now();
    // A local store that does not work says so in its health.
    let _ = core.local.flush(now + core.redis.timeout);
    core.audit.unarmed(core.arming.unarmed());
    if now >= due.probe {
        due.probe = now + core.settings.health.interval;
        probe_local(core);
        if !core.in_fallback() {
            probe_redis(core);
        }
    }
    if core.in_fallback() {
        return try_to_recover(core, now);
    }
    if core.presence.take_may_have_gone_back() {
        mark!("data loss: Redis may have gone back");
        due.compare = now;
    }
    // Not while Redis may have gone back to before a release, however long that takes.
    if now >= due.forget {
        due.forget = now + FORGET;
        let before = core.clock.unix_micros().saturating_sub(REMEMBERED_MICROS);
        // A machine may have stood still for hours in the middle of a call.
        core.local.enqueue(Change::Forget(before, core.key_locks.under_way()));
    }
    if now >= due.compare {
        due.compare = now + core.settings.health.compare;
        let others_change_it = core.settings.instances == Instances::Many || core.settings.redis.shared_with_stock;
        if !others_change_it && core.arming.is_complete() {
            // Only Redis itself can lose something, of which a probe sees the most.
            due.compare += core.settings.health.compare * (ALONE - 1);
        }
        // What fails is asked for again: the breaker knows of it.
        let _ = compare(core);
    }
}

/// What the health says until the first probe is due.
pub(super) fn first_look(core: &Core) {
    core.audit.unarmed(core.arming.unarmed());
    probe_local(core);
    match core.authority.cause() {
        Some(cause) => core.seen.lock().redis = StoreHealth::of(&Err::<(), _>(cause), Duration::ZERO),
        None => probe_redis(core),
    }
}

fn probe_local(core: &Core) {
    let (answer, took) = timed(core, || core.local.store().ping(&core.redis.step()));
    core.seen.lock().local = StoreHealth::of(&answer, took);
}

/// Asks twice: a probe that fails once may have met an accident.
fn probe_redis(core: &Core) {
    let Some(redis) = core.redis.current() else { return };
    let mut until = core.clock.now();
    let mut probed = || {
        until = core.clock.now() + core.settings.health.timeout;
        probe(core, &*redis, until)
    };
    if let Err(error) = probed().or_else(|_| probed()) {
        // A Redis that is slow decides better than a local store that cannot. Whoever waits for one that hangs opens the breaker. A new
        // connection that is not made in time has another error than a question that is not answered.
        let took_too_long = is_late(&error) || core.clock.now() >= until;
        if took_too_long && core.is_starved() {
            mark!("fallback: a probe is late for want of a processor");
        } else if !took_too_long || core.would_grant() {
            mark!("fallback: a probe fails");
            core.begin_fallback(error);
        }
        return;
    }
    if core.arming.has_lost() {
        mark!("fallback: Redis does not know this server");
        core.fall_back_for_data_loss("it does not know this server any more");
    } else if !core.in_fallback() {
        // The next announcement says so, and a Redis that has lost data in between does not believe it.
        core.presence.probed(core.arming.record().announced);
    }
}

/// Whether Redis answers and takes writes, in the time that a probe has; and whether it still knows this server, and others.
fn probe(core: &Core, redis: &dyn SharedStore, until: Instant) -> Result<()> {
    let call = core.redis.step_until(until);
    let (answer, took) = timed(core, || announce(core, redis, &call));
    core.seen.lock().redis = StoreHealth::of(&answer, took);
    answer
}

fn timed<T>(core: &Core, f: impl FnOnce() -> T) -> (T, Duration) {
    let started = core.clock.now();
    let answer = f();
    (answer, core.clock.now().saturating_duration_since(started))
}

/// The barrier, then probes, then recovery.
fn try_to_recover(core: &Core, now: Instant) {
    const MARGIN: Duration = Duration::from_millis(50);
    if !core.authority.may_probe(now, core.redis.timeout + MARGIN) {
        return;
    }
    let reached = reach(core);
    let is_ready = core.authority.probed(reached.is_ok());
    let outcome = match reached {
        Ok(redis) if is_ready => recover(core, &redis).map(drop).inspect_err(|_| core.metrics.not_recovered()),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        mark!("recovery: fails");
        core.authority.probed(false);
        core.authority.set_cause(error);
    }
}

/// Redis, if it works. It reads the files with password and certificates at each new connection.
fn reach(core: &Core) -> Result<Arc<dyn SharedStore>> {
    let redis = match core.redis.current() {
        Some(redis) => redis,
        None => {
            let failed = |error: &Error| core.seen.lock().redis = StoreHealth::of(&Err::<(), _>(error.clone()), Duration::ZERO);
            let redis = core.redis.connect().inspect_err(failed)?;
            core.redis.replace(Some(Arc::clone(&redis)));
            redis
        }
    };
    probe(core, &*redis, core.clock.now() + core.settings.health.timeout)?;
    Ok(redis)
}

//! Redis is away, slow, or comes back: who decides meanwhile, and from when Redis decides again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{apply, gone, grant, one_server, restart};
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::config::Durability;
use crate::error::{Code, Error};
use crate::hybrid::core::Asked;
use crate::hybrid::simulation::PATIENCE;
use crate::store::contract::local::{Change, Held, MAX_VALUE_BYTES};
use crate::store::{Granted, Store};
use crate::sync::spawn;
use crate::sync::tasks::give_way;

/// Until what was sent to Redis can no longer be made there, nobody takes what Redis has for the last word.
#[test]
fn a_recovery_waits_for_what_is_on_its_way() {
    one_server(Durability::Sync, |world, instance| {
        instance.core.begin_fallback(gone());
        // Redis may be probed again by now, but not yet believed.
        world.clock.advance(Duration::from_millis(900));
        (0..4).for_each(|_| world.tick(0));
        assert!(instance.core.in_fallback());
        world.clock.advance(Duration::from_millis(200));
        (0..4).for_each(|_| world.tick(0));
        assert!(!instance.core.in_fallback());
    });
}

/// After a crash nobody knows what is on its way: an intent may not have reached the disk.
#[test]
fn a_start_after_a_crash_waits_for_what_is_on_its_way() {
    one_server(Durability::Sync, |world, instance| {
        let patience = instance.core.redis.timeout;
        drop(instance);
        let before = world.clock.now();
        restart(&world);
        assert!(world.clock.now() - before >= patience);
    });
}

/// Nobody here knows what native mode had on its way to Redis when it ended.
#[test]
fn a_start_after_native_mode_waits_for_what_is_on_its_way() {
    one_server(Durability::Sync, |world, instance| {
        let patience = instance.core.redis.timeout;
        let deadline = world.clock.now() + PATIENCE;
        instance.store.close().expect("closes");
        drop(instance);
        let before = world.clock.now();
        let instance = restart(&world);
        assert!(world.clock.now() - before < patience, "it was closed");
        instance.core.write_record(|record| record.handed_over = true, deadline + PATIENCE).expect("is written");
        instance.store.close().expect("closes");
        drop(instance);
        let before = world.clock.now();
        restart(&world);
        assert!(world.clock.now() - before >= patience);
    });
}

/// What was asked for before a crash may have been granted: without Redis nobody grants it again.
#[test]
fn a_lock_that_was_asked_for_before_a_crash_is_not_granted_without_redis() {
    one_server(Durability::Sync, |world, instance| {
        let held = Held { value: b"{}".to_vec(), token: instance.core.redis.next_token() };
        instance.core.local.write(vec![Change::Intend(apply(), Some(held))], world.clock.now() + PATIENCE).expect("is written");
        drop(instance);
        world.network.is_up.store(false, Ordering::SeqCst);
        let instance = restart(&world);
        assert_eq!(instance.core.arming.unarmed(), None, "it may grant other locks");
        let error = grant(&world, &instance, b"{}").expect_err("is refused");
        assert!(error.code() == Code::Degraded && error.message().contains("Redis alone knows"), "{error}");
    });
}

/// One call that waits for Redis's whole time is enough: it goes on here, though it began a moment before its question.
#[test]
fn a_call_that_redis_keeps_waiting_is_decided_here() {
    one_server(Durability::Sync, |world, instance| {
        let call = Call::new(RequestId::from_text("hangs"), world.clock.now() + instance.core.redis.timeout + PATIENCE);
        world.clock.advance(Duration::from_millis(5));
        let asked = instance.core.ask(&call, &mut None, |_, attempt| {
            world.clock.advance(attempt.deadline.saturating_duration_since(world.clock.now()));
            Err::<(), _>(Error::new(Code::OutcomeUnknown, "no reply came before the deadline"))
        });
        assert!(matches!(asked, Asked::Unavailable) && instance.core.in_fallback());
    });
}

/// Who decides here while recovery looks at the last keys is heard as well.
#[test]
fn what_is_decided_during_a_recovery_reaches_redis() {
    one_server(Durability::Sync, |world, instance| {
        instance.core.begin_fallback(gone());
        world.clock.advance(Duration::from_secs(2));
        let (for_grant, weak) = (Arc::clone(&instance), Arc::downgrade(&world));
        *world.network.after_command.lock() = Some(Box::new(move |command| {
            // The last of the names that recovery looks for.
            let is_last = command[0] == b"SCAN" && command[3] == b"*::*::*";
            if is_last {
                let world = weak.upgrade().expect("goes on");
                grant(&world, &for_grant, b"{}").expect("is granted");
            }
            is_last
        }));
        (0..4).for_each(|_| world.tick(0));
        assert!(!instance.core.in_fallback());
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"{}"[..]));
    });
}

/// Redis decides again at a moment in which nobody decides here.
#[test]
fn a_recovery_ends_while_nobody_decides_here() {
    one_server(Durability::Sync, |world, instance| {
        instance.core.begin_fallback(gone());
        world.clock.advance(Duration::from_secs(2));
        let core = Arc::clone(&instance.core);
        let deciding = spawn("decides", move || {
            let call = Call::new(RequestId::from_text("h"), core.clock.now() + PATIENCE);
            let gate = core.local_turn(&call).expect("decides").expect("here");
            // The recovery could end meanwhile.
            core.clock.sleep(PATIENCE / 2);
            let is_still_here = core.in_fallback();
            drop(gate);
            assert!(is_still_here, "Redis decides while somebody decides here");
        });
        give_way();
        (0..4).for_each(|_| world.tick(0));
        deciding.expect("starts").join().expect("ends");
        assert!(!instance.core.in_fallback());
    });
}

/// A Redis that is slow decides, if the local store could not; and not, if it could.
#[test]
fn a_slow_redis_decides_where_the_local_store_cannot() {
    for (may_decide, expected) in [(true, true), (false, false)] {
        one_server(Durability::Async, move |world, instance| {
            if !may_decide {
                instance.core.arming.fell_behind(&Error::new(Code::StoreFailed, "no space left"));
            }
            for _ in 0..50 {
                let started = world.clock.now();
                world.clock.advance(instance.core.settings.breaker.slow_call * 2);
                instance.core.record(&Ok(()), started, false);
            }
            assert_eq!(instance.core.in_fallback(), expected);
            if !may_decide {
                world.network.hangs.store(true, Ordering::SeqCst);
                world.clock.advance(instance.core.settings.health.interval);
                world.tick(0);
                world.network.hangs.store(false, Ordering::SeqCst);
                assert!(
                    !instance.core.in_fallback(),
                    "a probe that is late takes the decision away: {:?}",
                    instance.core.authority.cause()
                );
            }
            // One that answers no more does not decide.
            for _ in 0..5 {
                instance.core.record(&Err::<(), _>(gone()), world.clock.now(), false);
            }
            assert!(instance.core.in_fallback());
        });
    }
}

/// What another program stored in the place of a lock that was decided here, and nobody reads, keeps no other key from being recovered.
#[test]
fn an_entry_that_is_too_large_stands_in_nobodys_way() {
    one_server(Durability::Sync, |world, instance| {
        instance.core.begin_fallback(gone());
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        let huge = vec![b'x'; MAX_VALUE_BYTES + 1];
        world.redis.execute(&[b"SET".to_vec(), b"global/apply/lock".to_vec(), huge], world.clock.unix_micros());
        world.clock.advance(Duration::from_secs(2));
        (0..8).for_each(|_| world.tick(0));
        assert!(!instance.core.in_fallback(), "{:?}", instance.core.authority.cause());
        assert!(instance.core.arming.is_set_aside(&apply()));
        let refused = grant(&world, &instance, b"{}").expect_err("nobody knows what is there");
        assert_eq!(refused.code(), Code::EntryUnreadable, "{refused}");
        let known = instance.core.known(&apply()).expect("is read");
        assert!(known.value.is_some(), "what was decided here is not forgotten");
    });
}

/// While this process waits for a processor, answers and probes that are late say nothing of Redis. One that answers nobody is found.
#[test]
fn what_is_slow_for_want_of_a_processor_is_not_redis_fault() {
    for (late, expected) in [(Duration::from_millis(200), false), (Duration::from_millis(1), true)] {
        one_server(Durability::Sync, move |world, instance| {
            world.clock.late_micros.store(late.as_micros() as u64, Ordering::SeqCst);
            for _ in 0..50 {
                let started = world.clock.now();
                world.clock.advance(instance.core.settings.breaker.slow_call * 2);
                instance.core.record(&Ok(()), started, false);
            }
            assert_eq!(instance.core.in_fallback(), expected, "answers");
        });
        one_server(Durability::Sync, move |world, instance| {
            world.clock.late_micros.store(late.as_micros() as u64, Ordering::SeqCst);
            world.network.hangs.store(true, Ordering::SeqCst);
            world.clock.advance(instance.core.settings.health.interval);
            world.tick(0);
            assert_eq!(instance.core.in_fallback(), expected, "a probe");
            let started = world.clock.now();
            world.clock.advance(instance.core.redis.timeout);
            instance.core.record(&Err::<(), _>(Error::new(Code::Timeout, "it did not answer in time")), started, false);
            assert!(instance.core.in_fallback(), "a caller waited its whole time");
        });
    }
}

/// What failed before Redis was away, and is told after it is back, says nothing of Redis now.
#[test]
fn an_answer_from_before_the_outage_does_not_count_after_it() {
    one_server(Durability::Sync, |world, instance| {
        let before = world.clock.now();
        instance.core.begin_fallback(gone());
        world.clock.advance(Duration::from_secs(2));
        (0..4).for_each(|_| world.tick(0));
        assert!(!instance.core.in_fallback());
        instance.core.record(&Err::<(), _>(Error::new(Code::OutcomeUnknown, "late")), before, false);
        assert!(!instance.core.in_fallback());
        let now = world.clock.now();
        world.clock.advance(instance.core.redis.timeout);
        instance.core.record(&Err::<(), _>(Error::new(Code::OutcomeUnknown, "hangs")), now, false);
        assert!(instance.core.in_fallback());
    });
}

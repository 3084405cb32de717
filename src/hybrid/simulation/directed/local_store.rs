//! Whether the local store has what it must have before it decides, and what it remembers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{apply, gone, grant, one_server, other_takes, server_of};
use crate::clock::Clock;
use crate::config::Durability;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error};
use crate::hybrid::core::Asked;
use crate::hybrid::recovery::compare;
use crate::hybrid::simulation::disk::Trouble;
use crate::hybrid::simulation::{PATIENCE, Plan, plans};
use crate::store::contract::local::{Change, EntryKey, Held, SyncState};
use crate::store::{Granted, LockKey, Release, Store};
use crate::sync::spawn;
use crate::sync::tasks::give_way;

/// A disk that was too slow once does not leave the server unarmed until Redis fails.
#[test]
fn a_local_store_that_fell_behind_is_brought_up_to_date() {
    server_of(plans(1)[0].0, |world, instance| {
        world.tick(0);
        assert_eq!(instance.core.arming.unarmed(), None);
        let key = EntryKey::Command("apply".to_owned());
        let command = [&b"SET"[..], b"global/apply/lock", b"lock"].map(<[u8]>::to_vec);
        world.redis.execute(&command, world.clock.unix_micros());
        instance.core.arming.fell_behind(&Error::new(Code::Timeout, "slow"));
        assert!(instance.core.arming.unarmed().is_some());
        world.clock.advance(instance.core.settings.health.compare);
        world.tick(0);
        assert_eq!(instance.core.known(&key).expect("is read").value.map(|held| held.value), Some(b"lock".to_vec()));
        assert!(instance.core.arming.is_complete());
    });
}

/// What was told counts while the local store makes it, too: whoever asks meets every moment of that.
#[test]
fn what_was_told_is_known_while_it_is_being_made() {
    let (plan, _) = plans(1)[0];
    server_of(Plan { durability: Durability::Async, ..plan }, |world, instance| {
        let core = Arc::clone(&instance.core);
        let key = EntryKey::Command("apply".to_owned());
        let is_over = Arc::new(AtomicBool::new(false));
        let (flushed, until) = (Arc::clone(&core), Arc::clone(&is_over));
        let flushing = spawn("flushes", move || {
            while !until.load(Ordering::SeqCst) {
                flushed.local.flush(flushed.clock.now() + PATIENCE).expect("settles");
                give_way();
            }
        });
        let stale = (1..500).find(|token| {
            let held = Held { value: token.to_string().into_bytes(), token: FencingToken::new(*token) };
            core.local.enqueue(Change::Set(key.clone(), Some(held.clone())));
            (0..5).any(|_| {
                give_way();
                core.known(&key).expect("is read").value.as_ref() != Some(&held)
            })
        });
        is_over.store(true, Ordering::SeqCst);
        flushing.expect("starts").join().expect("ends");
        assert_eq!(stale, None);
        drop(world);
    });
}

/// Redis takes no more than its part of a call's time, and the local store is not blamed for what Redis took.
#[test]
fn redis_does_not_spend_the_local_stores_time() {
    one_server(Durability::Sync, |world, instance| {
        let call = world.call();
        let mut until = None;
        let asked = instance.core.ask(&call, &mut None, |_, attempt| {
            until = Some(attempt.deadline);
            Ok(())
        });
        assert!(matches!(asked, Asked::Answer(())));
        let asked_long = instance.core.ask_long(&call, |_, attempt| {
            assert_eq!(attempt.deadline, call.deadline - PATIENCE, "the rest is the local store's");
            Ok(())
        });
        assert!(matches!(asked_long, Asked::Answer(())) && until.expect("was asked") <= call.deadline - PATIENCE);
        let held = Held { value: b"{}".to_vec(), token: FencingToken::new(1) };
        instance.core.local.enqueue(Change::Set(apply(), Some(held)));
        *world.disks.next.lock() = Some(Trouble::Late(10 * PATIENCE));
        let error = instance.core.local.flush(world.clock.now()).expect_err("the disk is late");
        assert!(matches!(error.code(), Code::Timeout | Code::OutcomeUnknown), "{error}");
        assert_eq!(instance.core.arming.unarmed(), None, "it still will have everything");
    });
}

/// A disk that is late kept from the local store that Redis released a lock. When Redis has forgotten that, too, the lock stays
/// released.
#[test]
fn what_a_late_disk_kept_from_the_local_store_is_not_put_back() {
    one_server(Durability::Async, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        let deadline = || world.clock.now() + PATIENCE;
        instance.core.local.flush(deadline()).expect("works");
        *world.disks.next.lock() = Some(Trouble::Late(10 * PATIENCE));
        let release = Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None };
        assert!(instance.store.release(&release, &world.call()).expect("is released").is_some());
        instance.core.local.flush(deadline()).expect_err("the disk is late");
        world.clock.advance(Duration::from_secs(2 * 3600));
        world.tick(0);
        assert_eq!(instance.core.known(&apply()).expect("is read").value, None);
        assert!(world.value(&apply()).is_none());
    });
}

/// A machine stands still for hours in the middle of a release. Redis is away afterwards, and the release is decided here: Redis, which never
/// heard of it, does not bring the lock back.
#[test]
fn a_call_that_stands_still_for_hours_is_not_forgotten() {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        let core = &instance.core;
        let guard = core.key_locks.take(&[apply()], world.clock.now()).expect("is free");
        core.local.write(vec![Change::Intend(apply(), None)], world.clock.now() + PATIENCE).expect("is written");
        world.clock.advance(Duration::from_secs(2 * 3600));
        (0..2).for_each(|_| world.tick(0));
        core.begin_fallback(gone());
        core.local.write(vec![Change::Decide(apply())], world.clock.now() + PATIENCE).expect("is written");
        core.unsynced.add_decided(&apply());
        drop(guard);
        for _ in 0..20 {
            world.clock.advance(Duration::from_secs(1));
            world.tick(0);
        }
        assert!(!core.in_fallback());
        assert!(world.value(&apply()).is_none());
    });
}

/// What Redis has to learn of is remembered until Redis knows it.
#[test]
fn what_was_decided_or_asked_for_is_not_forgotten() {
    one_server(Durability::Sync, |world, instance| {
        let deadline = world.clock.now() + PATIENCE;
        let held = |token| Some(Held { value: b"{}".to_vec(), token: FencingToken::new(token) });
        let key = |name: &str| EntryKey::Command(name.to_owned());
        let changes = vec![
            Change::SetHere(key("decided"), held(1)),
            Change::SetHere(key("released"), held(2)),
            Change::SetHere(key("released"), None),
            Change::Intend(key("asked"), held(3)),
            Change::Set(key("settled"), held(4)),
            Change::Intend(key("settled"), None),
            Change::Set(key("settled"), None),
            Change::Forget(u64::MAX, BTreeSet::new()),
        ];
        instance.core.local.write(changes, deadline).expect("is written");
        let state = |name: &str| instance.core.local.store().local(&key(name)).expect("is read");
        assert_eq!(state("decided").state, SyncState::Decided);
        assert_eq!(state("released").state, SyncState::Decided);
        assert_eq!(state("asked").state, SyncState::Pending);
        assert_eq!(state("settled").tombstones, [], "that is forgotten");
    });
}

/// What this server took in Redis may have been acknowledged, if the local store may lack it: it is not overwritten.
#[test]
fn a_lock_of_this_server_that_the_local_store_may_lack_is_not_overwritten() {
    one_server(Durability::Async, |world, instance| {
        let token = world.clock.unix_micros();
        let here = Held { value: b"1".to_vec(), token: FencingToken::new(token - 1000) };
        instance.core.local.write(vec![Change::SetHere(apply(), Some(here))], world.clock.now() + PATIENCE).expect("is written");
        let name = instance.core.arming.server_name();
        other_takes(&world, &name, &apply(), b"2", token);
        instance.core.arming.fell_behind(&Error::new(Code::StoreFailed, "no space left"));
        compare(&instance.core).expect("compares");
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"2"[..]));
        assert_eq!(instance.core.conflicts.all().len(), 1);
    });
}

//! Single courses of events, on the simulated Redis, disk and clock: each is what one line of hybrid mode is there for.

use super::*;
use crate::hybrid::core::Asked;
use crate::store::contract::local::SyncState;

/// One server, alone, armed, with a Redis that works.
fn one_server(durability: Durability) -> (Arc<Sim>, Arc<Instance>) {
    let (plan, _) = plans(0)[0];
    let sim = simulation(Plan { durability, ahead: [0, 0], ..plan }, 1);
    sim.depth.store(1, Ordering::SeqCst);
    sim.begin(0);
    sim.tick(0);
    let instance = sim.instances.read()[0].clone().expect("lives");
    assert_eq!(instance.core.arming.unarmed(), None);
    (sim, instance)
}

fn apply() -> EntryKey {
    EntryKey::Command("apply".to_owned())
}

fn grant(sim: &Sim, instance: &Instance, value: &[u8]) -> Result<Granted> {
    let grant = Grant { key: LockKey::Command("apply"), pull: None, value };
    instance.store.grant(&grant, &sim.call())
}

fn gone() -> Error {
    Error::new(Code::Unreachable, "gone")
}

/// The server dies, its lock is released by somebody else, and Redis has forgotten that when the server begins again.
fn assert_stays_released_though_redis_forgets_it(sim: &Arc<Sim>, by: &str) {
    sim.crash(0);
    let release = Question::Release { key: apply(), pull: None };
    sim.data.lock().execute(&release, by, false, sim.clock.unix_micros());
    sim.clock.advance(Duration::from_secs(2 * 3600));
    sim.begin(0);
    let instance = sim.instances.read()[0].clone().expect("lives");
    assert_eq!(instance.core.known(&apply()).expect("is read").value, None);
    assert!(!sim.data.lock().entries.contains_key(&apply()));
}

/// The server dies, and another process begins on its disk.
fn restart(sim: &Arc<Sim>) -> Arc<Instance> {
    sim.crash(0);
    sim.begin(0);
    sim.instances.read()[0].clone().expect("lives")
}

/// A disk that was too slow once does not leave the server unarmed until Redis fails.
#[test]
fn a_local_store_that_fell_behind_is_brought_up_to_date() {
    let (plan, _) = plans(1)[0];
    let sim = simulation(plan, 1);
    sim.depth.store(1, Ordering::SeqCst);
    sim.begin(0);
    sim.tick(0);
    let instance = sim.instances.read()[0].clone().expect("lives");
    assert_eq!(instance.core.arming.unarmed(), None);
    let key = EntryKey::Command("apply".to_owned());
    sim.data.lock().entries.insert(key.clone(), b"lock".to_vec());
    instance.core.arming.fell_behind(&Error::new(Code::Timeout, "slow"));
    assert!(instance.core.arming.unarmed().is_some());
    sim.clock.advance(instance.core.settings.health.compare);
    sim.tick(0);
    assert_eq!(instance.core.known(&key).expect("is read").value.map(|held| held.value), Some(b"lock".to_vec()));
    assert!(instance.core.arming.is_complete());
}

/// What was told counts while the local store makes it, too, and by real threads: whoever asks meets every moment of that.
#[test]
fn what_was_told_is_known_while_it_is_being_made() {
    let (plan, _) = plans(1)[0];
    let sim = simulation(Plan { durability: Durability::Async, ..plan }, 1);
    sim.depth.store(1, Ordering::SeqCst);
    sim.begin(0);
    let core = Arc::clone(&sim.instances.read()[0].as_ref().expect("lives").core);
    let key = EntryKey::Command("apply".to_owned());
    let deadline = core.clock.now() + PATIENCE;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                core.local.flush(deadline).expect("settles");
            }
        });
        let stale = (1..5000).find(|token| {
            let held = Held { value: token.to_string().into_bytes(), token: *token };
            core.local.enqueue(Change::Set(key.clone(), Some(held.clone())));
            (0..5).any(|_| core.known(&key).expect("is read").value.as_ref() != Some(&held))
        });
        is_over.store(true, Ordering::SeqCst);
        assert_eq!(stale, None);
    });
}

/// Until what was sent to Redis can no longer be made there, nobody takes what Redis has for the last word.
#[test]
fn a_recovery_waits_for_what_is_on_its_way() {
    let (sim, instance) = one_server(Durability::Sync);
    instance.core.begin_fallback(gone());
    // Redis may be probed again by now, but not yet believed.
    sim.clock.advance(Duration::from_millis(900));
    (0..4).for_each(|_| sim.tick(0));
    assert!(instance.core.in_fallback());
    sim.clock.advance(Duration::from_millis(200));
    (0..4).for_each(|_| sim.tick(0));
    assert!(!instance.core.in_fallback());
}

/// After a crash nobody knows what is on its way: an intent may not have reached the disk.
#[test]
fn a_start_after_a_crash_waits_for_what_is_on_its_way() {
    let (sim, instance) = one_server(Durability::Sync);
    let patience = instance.core.redis.timeout;
    drop(instance);
    let before = sim.clock.now();
    restart(&sim);
    assert!(sim.clock.now() - before >= patience);
}

/// What was asked for before a crash may have been granted: without Redis nobody grants it again.
#[test]
fn a_lock_that_was_asked_for_before_a_crash_is_not_granted_without_redis() {
    let (sim, instance) = one_server(Durability::Sync);
    let held = Held { value: b"{}".to_vec(), token: instance.core.redis.next_token() };
    instance.core.local.write(vec![Change::Intend(apply(), Some(held))], sim.clock.now() + PATIENCE).expect("is written");
    drop(instance);
    *sim.up.lock() = false;
    let instance = restart(&sim);
    assert_eq!(instance.core.arming.unarmed(), None, "it may grant other locks");
    let error = grant(&sim, &instance, b"{}").expect_err("is refused");
    assert!(error.code() == Code::Degraded && error.message().contains("before a crash"), "{error}");
}

/// Who decides here while recovery looks at the last keys is heard as well.
#[test]
fn what_is_decided_during_a_recovery_reaches_redis() {
    let (sim, instance) = one_server(Durability::Sync);
    instance.core.begin_fallback(gone());
    sim.clock.advance(Duration::from_secs(2));
    let (for_grant, weak) = (Arc::clone(&instance), Arc::downgrade(&sim));
    let disk = Arc::clone(&sim.disks.lock()[0]);
    *disk.at_pull_releases.lock() = Some(Box::new(move || {
        let sim = weak.upgrade().expect("goes on");
        grant(&sim, &for_grant, b"{}").expect("is granted");
    }));
    (0..4).for_each(|_| sim.tick(0));
    assert!(!instance.core.in_fallback());
    assert_eq!(sim.data.lock().entries.get(&apply()).map(Vec::as_slice), Some(&b"{}"[..]));
}

/// Redis decides again at a moment in which nobody decides here.
#[test]
fn a_recovery_ends_while_nobody_decides_here() {
    let (sim, instance) = one_server(Durability::Sync);
    instance.core.begin_fallback(gone());
    sim.clock.advance(Duration::from_secs(2));
    let (decides, begun) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let core = &instance.core;
        scope.spawn(move || {
            let gate = core
                .local_turn(&Call::new(RequestId::from_text("h"), core.clock.now() + PATIENCE))
                .expect("decides")
                .expect("here");
            decides.send(()).expect("is awaited");
            std::thread::sleep(Duration::from_millis(200));
            let is_still_here = core.in_fallback();
            drop(gate);
            assert!(is_still_here, "Redis decides while somebody decides here");
        });
        begun.recv().expect("decides");
        (0..4).for_each(|_| sim.tick(0));
    });
    assert!(!instance.core.in_fallback());
}

/// A Redis that is slow decides, if the local store could not; and not, if it could.
#[test]
fn a_slow_redis_decides_where_the_local_store_cannot() {
    for (may_decide, expected) in [(true, true), (false, false)] {
        let (sim, instance) = one_server(Durability::Async);
        if !may_decide {
            instance.core.arming.fell_behind(&Error::new(Code::StoreFailed, "no space left"));
        }
        for _ in 0..50 {
            let started = sim.clock.now();
            sim.clock.advance(instance.core.settings.breaker.slow_call * 2);
            instance.core.record(&Ok(()), started, false);
        }
        assert_eq!(instance.core.in_fallback(), expected);
        if !may_decide {
            sim.hangs.store(true, Ordering::SeqCst);
            sim.clock.advance(instance.core.settings.health.interval);
            sim.tick(0);
            sim.hangs.store(false, Ordering::SeqCst);
            assert!(!instance.core.in_fallback(), "a probe that is late takes the decision away");
        }
        // One that answers no more does not decide.
        for _ in 0..5 {
            instance.core.record(&Err::<(), _>(gone()), sim.clock.now(), false);
        }
        assert!(instance.core.in_fallback());
    }
}

/// What failed before Redis was away, and is told after it is back, says nothing of Redis now.
#[test]
fn an_answer_from_before_the_outage_does_not_count_after_it() {
    let (sim, instance) = one_server(Durability::Sync);
    let before = sim.clock.now();
    instance.core.begin_fallback(gone());
    sim.clock.advance(Duration::from_secs(2));
    (0..4).for_each(|_| sim.tick(0));
    assert!(!instance.core.in_fallback());
    instance.core.record(&Err::<(), _>(Error::new(Code::OutcomeUnknown, "late")), before, false);
    assert!(!instance.core.in_fallback());
    let now = sim.clock.now();
    sim.clock.advance(instance.core.redis.timeout);
    instance.core.record(&Err::<(), _>(Error::new(Code::OutcomeUnknown, "hangs")), now, false);
    assert!(instance.core.in_fallback());
}

/// Redis takes no more than its part of a call's time, and the local store is not blamed for what Redis took.
#[test]
fn redis_does_not_spend_the_local_stores_time() {
    let (sim, instance) = one_server(Durability::Sync);
    let call = sim.call();
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
    instance.core.local.enqueue(Change::Set(apply(), None));
    *sim.next_disk.lock() = Some(Disk::ConfirmsLate);
    let error = instance.core.local.flush(sim.clock.now()).expect_err("the disk is late");
    assert!(matches!(error.code(), Code::Timeout | Code::OutcomeUnknown), "{error}");
    assert_eq!(instance.core.arming.unarmed(), None, "it still will have everything");
}

/// The server was up for long, then both die, and Redis comes back as it was: what it never had is put back, however long that took.
#[test]
fn what_an_older_redis_never_had_is_put_back_after_any_time() {
    let (sim, instance) = one_server(Durability::Sync);
    sim.clock.advance(Duration::from_secs(3600));
    sim.tick(0);
    let snapshot = sim.data.lock().clone();
    assert!(matches!(grant(&sim, &instance, b"{}"), Ok(Granted::Yes { .. })));
    drop(instance);
    sim.crash(0);
    *sim.data.lock() = snapshot;
    sim.clock.advance(Duration::from_secs(2 * 3600));
    sim.begin(0);
    let instance = sim.instances.read()[0].clone().expect("lives");
    assert_eq!(instance.store.get(LockKey::Command("apply"), &sim.call()).expect("is read").as_deref(), Some(&b"{}"[..]));
    assert!(sim.data.lock().entries.contains_key(&apply()));
    // And so it is if that recovery is cut short, and made by another process.
    let now = sim.data.lock().instances.values().map(|(_, agreed)| *agreed).collect::<Vec<_>>();
    assert!(now.iter().all(|agreed| *agreed > 0), "{now:?}");
}

/// A lock that another server released is not put back once Redis has shown that it had it.
#[test]
fn what_another_server_released_is_not_put_back() {
    let (sim, instance) = one_server(Durability::Sync);
    assert!(matches!(grant(&sim, &instance, b"{}"), Ok(Granted::Yes { .. })));
    sim.clock.advance(instance.core.settings.health.compare * 2);
    // It was compared, and that is announced.
    (0..2).for_each(|_| {
        sim.tick(0);
        sim.clock.advance(instance.core.settings.health.interval);
    });
    sim.tick(0);
    drop(instance);
    assert_stays_released_though_redis_forgets_it(&sim, "other");
}

/// Redis itself moves the mark only if it remembers the announcement that belongs to it.
#[test]
fn a_redis_that_lost_data_does_not_believe_that_it_had_everything() {
    let mut data = Data::default();
    let mut announce = |presence, now| {
        let question = Question::Announce { instance: "i".to_owned(), lease: PATIENCE, presence };
        match data.execute(&question, "r", false, now) {
            Reply::Announced(announced) => announced.agreed,
            other => panic!("{other:?}"),
        }
    };
    announce(Presence::Here, 100);
    announce(Presence::Agreed(100), 200);
    assert_eq!(announce(Presence::Agreed(300), 400), 100, "it does not know of an announcement at 300");
    assert_eq!(announce(Presence::Here, 500), 100);
}

/// What Redis has to learn of is remembered until Redis knows it.
#[test]
fn what_was_decided_or_asked_for_is_not_forgotten() {
    let (sim, instance) = one_server(Durability::Sync);
    let deadline = sim.clock.now() + PATIENCE;
    let held = |token| Some(Held { value: b"{}".to_vec(), token });
    let key = |name: &str| EntryKey::Command(name.to_owned());
    let changes = vec![
        Change::SetHere(key("decided"), held(1)),
        Change::SetHere(key("released"), held(2)),
        Change::SetHere(key("released"), None),
        Change::Intend(key("asked"), held(3)),
        Change::Set(key("settled"), held(4)),
        Change::Intend(key("settled"), None),
        Change::Set(key("settled"), None),
        Change::Forget(u64::MAX),
    ];
    instance.core.local.write(changes, deadline).expect("is written");
    let state = |name: &str| instance.core.local.store().local(&key(name)).expect("is read");
    assert_eq!(state("decided").state, SyncState::Decided);
    assert_eq!(state("released").state, SyncState::Decided);
    assert_eq!(state("asked").state, SyncState::Pending);
    assert_eq!(state("settled").tombstones, [], "that is forgotten");
}

/// A grant finds that another server released the lock, and then fails: what is undone is the grant, not that release.
#[test]
fn what_somebody_else_released_is_not_brought_back_by_an_undo() {
    let (plan, _) = plans(0)[0];
    let sim = simulation(Plan { fallback: false, ahead: [0, 0], ..plan }, 1);
    sim.depth.store(1, Ordering::SeqCst);
    sim.begin(0);
    let instance = sim.instances.read()[0].clone().expect("lives");
    assert!(matches!(grant(&sim, &instance, b"{}"), Ok(Granted::Yes { .. })));
    let release = Question::Release { key: apply(), pull: None };
    sim.data.lock().execute(&release, "other", false, sim.clock.unix_micros());
    sim.goes_after_a_look.store(true, Ordering::SeqCst);
    assert_eq!(grant(&sim, &instance, b"{}").expect_err("Redis is away").code(), Code::Degraded);
    assert_eq!(instance.core.known(&apply()).expect("is read").value, None);
}

/// While a release by pull is made, another pull takes one of the locks, of which the local store did not know: it knows that then.
#[test]
fn whoever_takes_a_lock_during_a_release_by_pull_keeps_it() {
    let (sim, instance) = one_server(Durability::Sync);
    let key = EntryKey::Project("a/b/x/default/".to_owned());
    let [first, second] = [1, 2].map(|num| {
        let json = serde_json::json!({
            "Project": {"RepoFullName": "a/b", "Path": "x", "ProjectName": ""}, "Workspace": "default", "Pull": {"Num": num},
        });
        json.to_string().into_bytes()
    });
    // Another server took it.
    let token = sim.clock.unix_micros();
    let question = Question::Grant { key: key.clone(), value: first.clone(), token, name: "other".to_owned() };
    sim.data.lock().execute(&question, "other", false, token);
    sim.clock.has_threads.store(true, Ordering::SeqCst);
    let (for_taker, weak, value) = (Arc::clone(&instance), Arc::downgrade(&sim), second.clone());
    let (took, taken) = std::sync::mpsc::channel();
    *sim.after_change.lock() = Some(Box::new(move || {
        let done = took.clone();
        std::thread::spawn(move || {
            let sim = weak.upgrade().expect("goes on");
            let pull = PullRef { repo: "a/b", num: 2 };
            let grant = Grant { key: LockKey::Project("a/b/x/default/"), pull: Some(pull), value: &value };
            took.send(for_taker.store.grant(&grant, &sim.call())).expect("is awaited");
        });
        // It is to come in between, if that is possible.
        std::thread::sleep(Duration::from_millis(100));
        drop(done);
    }));
    let released = instance.store.release_by_pull(PullRef { repo: "a/b", num: 1 }, &sim.call()).expect("is released");
    assert_eq!(released.values().collect::<Vec<_>>(), [&first[..]]);
    let taken = taken.recv_timeout(Duration::from_secs(40)).expect("ends").expect("is answered");
    assert!(matches!(taken, Granted::Yes { .. }), "{taken:?}");
    assert_eq!(sim.data.lock().entries.get(&key), Some(&second));
    assert_eq!(instance.core.known(&key).expect("is read").value.map(|held| held.value), Some(second));
}

/// A probe finds a Redis that does not know this server any more, before any caller does.
#[test]
fn a_redis_that_forgot_this_server_has_lost_data() {
    let (sim, instance) = one_server(Durability::Sync);
    sim.clock.advance(instance.core.settings.health.interval * 2);
    *sim.data.lock() = Data::default();
    sim.tick(0);
    assert!(instance.core.in_fallback(), "the local store decides until what was lost is back");
}

/// What this server took in Redis may have been acknowledged, if the local store may lack it: it is not overwritten.
#[test]
fn a_lock_of_this_server_that_the_local_store_may_lack_is_not_overwritten() {
    let (sim, instance) = one_server(Durability::Async);
    let token = sim.clock.unix_micros();
    let here = Held { value: b"1".to_vec(), token: token - 1000 };
    instance.core.local.write(vec![Change::SetHere(apply(), Some(here))], sim.clock.now() + PATIENCE).expect("is written");
    let name = instance.core.arming.instance();
    sim.data.lock().execute(&Question::Grant { key: apply(), value: b"2".to_vec(), token, name }, "lost", false, token);
    instance.core.arming.fell_behind(&Error::new(Code::StoreFailed, "no space left"));
    compare(&instance.core).expect("compares");
    assert_eq!(sim.data.lock().entries.get(&apply()).map(Vec::as_slice), Some(&b"2"[..]));
    assert_eq!(instance.core.conflicts.all().len(), 1);
}

/// Native mode was in use since, and its releases are known to Redis alone, which forgets them after an hour.
#[test]
fn what_native_mode_released_is_not_put_back() {
    let (sim, instance) = one_server(Durability::Sync);
    assert!(matches!(grant(&sim, &instance, b"{}"), Ok(Granted::Yes { .. })));
    let deadline = sim.clock.now() + PATIENCE;
    instance.core.write_record(|link| link.handed_over = true, deadline).expect("is written");
    drop(instance);
    assert_stays_released_though_redis_forgets_it(&sim, "native");
}

/// Redis shows another server's lock from before this server's, of which this server never knew.
#[test]
fn an_older_lock_of_another_server_shows_that_redis_has_gone_back() {
    let (sim, instance) = one_server(Durability::Sync);
    let mut old = sim.data.lock().clone();
    let token = sim.clock.unix_micros();
    old.execute(&Question::Grant { key: apply(), value: b"old".to_vec(), token, name: "other".to_owned() }, "o", false, token);
    sim.clock.advance(Duration::from_millis(10));
    assert!(matches!(grant(&sim, &instance, b"{}"), Ok(Granted::Yes { .. })));
    // Within a moment: no probe comes in between.
    *sim.data.lock() = old.clone();
    let read = instance.store.get(LockKey::Command("apply"), &sim.call()).expect("is read");
    assert_eq!(read.as_deref(), Some(&b"{}"[..]), "the local store decides");
    assert!(instance.core.in_fallback());
    // The other may hold it, for all that is known: it stays, and that is told.
    sim.clock.advance(Duration::from_secs(2));
    (0..4).for_each(|_| sim.tick(0));
    assert_eq!(instance.core.conflicts.all().len(), 1);
    assert_eq!(sim.data.lock().entries.get(&apply()).map(Vec::as_slice), Some(&b"old"[..]));
}

/// A data folder that was copied to a second server: both announce themselves by one name.
#[test]
fn a_copy_of_the_data_folder_is_noticed() {
    let (sim, instance) = one_server(Durability::Sync);
    sim.clock.advance(instance.core.settings.health.interval * 2);
    let name = instance.core.arming.instance();
    let question = Question::Announce { instance: name, lease: PATIENCE, presence: Presence::Here };
    sim.data.lock().execute(&question, "copy", false, sim.clock.unix_micros());
    sim.clock.advance(instance.core.settings.health.interval * 2);
    sim.tick(0);
    let why = instance.core.arming.unarmed().expect("another has its name");
    assert!(why.contains("copy"), "{why}");
}

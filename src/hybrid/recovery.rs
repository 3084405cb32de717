//! Bringing both stores together again: after Redis was away, at the start, and now and then while others change Redis.
//!
//! Recovery: wait until nothing that was sent to Redis before can still be executed there (*barrier*: every change carries a time
//! after which Redis does not make it) → look at every key that the two do not agree on, and do what `resolve` says, with
//! scripts that change only what was seen (*replay, compare, put back*) → again, until nothing is left (*verify*) → let nobody decide
//! here, reconcile what was decided since, and close.
//!
//! It keeps no progress: what is left to do follows from the two stores, so it may be cut short anywhere and begin anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::announce::announce;
use super::core::Core;
use super::learn::adopt;
use super::reconcile::reconcile;
use super::redis_access::micros;
use super::status::Recovery;
use super::write_behind::is_of;
use crate::domain::lock::PullRef;
use crate::error::Result;
use crate::store::contract::local::{Change, EntryKey, KeyState, PullRelease, SyncState};
use crate::store::contract::shared::{HighWater, Put, Remote, SharedStore};
use crate::sync::mark;

/// Most looks at all keys.
const MAX_PASSES: u32 = 5;
/// How many keys are reconciled together: the local store's disk is waited for once for all of them, and callers of any of them
/// wait for the last.
const BATCH: usize = 64;
/// Longest time for reading all of Redis.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Makes the stores agree and lets Redis decide again.
pub(super) fn recover(core: &Core, redis: &Arc<dyn SharedStore>) -> Result<Recovery> {
    let started = core.clock.now();
    let mut done = Recovery { at: core.clock.unix_micros(), ..Recovery::default() };
    announce(core, &**redis, &core.redis.step())?;
    note_tokens_ahead(core, &**redis)?;
    let announced = last_announcement(core);
    for _ in 0..MAX_PASSES {
        if pass(core, &**redis, &mut done)? == 0 {
            break;
        }
        mark!("recovery: a pass found something");
    }
    // At the start the locks that others took may be from before.
    if done.taken > 0 && core.in_fallback() {
        mark!("recovery: others took locks");
        core.saw_other("it took locks in Redis meanwhile".to_owned());
    }
    release_pulls(core, &**redis, true)?;
    // From here on nobody has decided who waits for the gate, and what was sent to Redis before is over: no key's lock is needed,
    // and whoever has one may be waiting for us.
    let gate = core.authority.close_gate();
    release_pulls(core, &**redis, false)?;
    let dirty = core.unsynced.take_dirty();
    if !dirty.is_empty() {
        mark!("recovery: decided since the last pass");
    }
    reconcile_dirty(core, &**redis, &dirty, &mut done).inspect_err(|_| core.unsynced.add_dirty(dirty))?;
    agree(core, started, announced)?;
    core.unsynced.all_synced();
    core.redis.replace(Some(Arc::clone(redis)));
    core.authority.end_fallback();
    drop(gate);
    mark!("recovery: ends");
    done.duration_ms = u64::try_from(core.clock.now().saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX);
    core.seen.lock().last_recovery = Some(done.clone());
    core.authority.recovered(&done);
    core.metrics.recovered(Duration::from_millis(done.duration_ms));
    core.audit.recovery(&done);
    Ok(done)
}

/// A clock that was ahead while Redis was away gave tokens that are larger than those that Redis gives next, for as long as Redis's clock is
/// behind them: their order says nothing.
fn note_tokens_ahead(core: &Core, redis: &dyn SharedStore) -> Result<()> {
    /// Half of how far ahead Redis takes a token that is wished for (`grant.lua`).
    const AHEAD: u64 = 30_000_000;
    let is_ahead = core.redis.last_token().get() > redis.clock_micros().saturating_add(AHEAD);
    if !is_ahead || !core.arming.never_granted_blindly() {
        return Ok(());
    }
    mark!("recovery: tokens were given that are ahead of Redis's clock");
    core.write_record(|record| record.granted_blindly = true, core.redis.soon())
}

/// What was decided since the last look.
fn reconcile_dirty(core: &Core, redis: &dyn SharedStore, dirty: &BTreeSet<EntryKey>, done: &mut Recovery) -> Result<()> {
    core.local.flush(core.redis.soon())?;
    dirty.iter().try_for_each(|key| reconcile(core, redis, key, done).map(drop))
}

/// The start: what was asked for before cannot be executed any more once a change's longest time has passed since. After a crash
/// nobody knows when and what that was: an intent may not have reached the disk.
pub(super) fn begin(core: &Core, everything: Vec<(EntryKey, KeyState)>, was_closed: bool) -> Result<()> {
    let mut last = 0;
    for (key, known) in everything {
        if known.state == SyncState::Pending {
            last = last.max(known.at);
            if known.value.is_some() {
                mark!("start: an intent was left");
                core.unsynced.doubt(&key);
            }
        }
        if known.state == SyncState::Decided || (known.state == SyncState::Pending && known.value.is_some()) {
            core.unsynced.add_decided_before(key);
        }
    }
    let redis = core.redis.connect()?;
    let timeout = micros(core.redis.timeout);
    let since_last = last.saturating_add(timeout).saturating_sub(core.clock.unix_micros()).min(timeout);
    // So it is after native mode, which leaves no word here of how it ended.
    let wait = if was_closed && !core.arming.record().handed_over { since_last } else { timeout };
    core.clock.sleep(Duration::from_micros(wait));
    recover(core, &redis).map(drop)
}

/// Looks at all keys while Redis decides: others may have changed it, or the local store may not have made what it was handed.
pub(super) fn compare(core: &Core) -> Result<()> {
    let Some(redis) = core.redis.current() else { return Ok(()) };
    let (mut done, started) = (Recovery::default(), core.clock.now());
    let (before, announced) = (core.arming.times_behind(), last_announcement(core));
    pass(core, &*redis, &mut done)?;
    core.local.flush(core.redis.soon())?;
    if !core.in_fallback()
        && let Some(has_all) = core.arming.compared(before)
    {
        core.presence.compared(Some(announced.at).filter(|_| has_all), announced.replication_id);
        if has_all {
            core.arming.saw_agreement(started, &*core.clock);
        }
    }
    core.remember();
    // What was announced since the last time is on disk now, at the latest.
    core.write_record(|_| (), core.redis.soon())?;
    if done.taken > 0 {
        core.saw_other("it took locks in Redis".to_owned());
    }
    if done.restored > 0 || done.conflicts > 0 {
        core.seen.lock().last_recovery = Some(Recovery { at: core.clock.unix_micros(), ..done });
    }
    Ok(())
}

/// One look at all keys; returns how many had to be reconciled.
fn pass(core: &Core, redis: &dyn SharedStore, done: &mut Recovery) -> Result<u32> {
    core.err_if_stopping()?;
    core.unsynced.forget_dirty();
    core.local.flush(core.redis.soon())?;
    let keys = differing(core, redis)?;
    let mut reconciled = 0;
    for batch in keys.chunks(BATCH) {
        core.err_if_stopping()?;
        // One after the other: with many callers there may be no moment in which all are free. Nobody else waits for a key's lock
        // while having one.
        let deadline = core.redis.soon();
        let guard = |key| core.key_locks.take(std::slice::from_ref(key), deadline);
        let _guards = batch.iter().map(guard).collect::<Result<Vec<_>>>()?;
        core.local.flush(core.redis.soon())?;
        for key in batch {
            reconciled += u32::from(reconcile(core, redis, key, done)?);
        }
    }
    Ok(reconciled)
}

/// The keys on which the two stores differ, or of which the local store does not know that they agree.
fn differing(core: &Core, redis: &dyn SharedStore) -> Result<Vec<EntryKey>> {
    let started = core.clock.now();
    let snapshot = redis.snapshot(core.settings.priority_queue.enabled, &core.redis.step_until(started + LONG));
    // What fails here for others' sake says nothing of Redis.
    core.record(&snapshot, started, true);
    let remote: BTreeMap<EntryKey, Vec<u8>> = snapshot?.into_iter().collect();
    core.arming.replace_set_aside(redis.set_aside());
    let local: BTreeMap<EntryKey, KeyState> = core.local.store().everything()?.into_iter().collect();
    let keys: BTreeSet<&EntryKey> = remote.keys().chain(local.keys()).collect();
    let differ = |key: &&EntryKey| {
        let (ours, theirs) = (local.get(*key), remote.get(*key));
        let agreed = ours.and_then(|local| local.value.as_ref()).map(|held| &held.value) == theirs;
        !agreed || !ours.is_none_or(is_done)
    };
    Ok(keys.into_iter().filter(differ).cloned().collect())
}

/// Releases by pull that were made while Redis was away, of locks that the local store did not know. `others_decide`: while
/// nobody can decide here, nobody needs a key's lock.
fn release_pulls(core: &Core, redis: &dyn SharedStore, others_decide: bool) -> Result<()> {
    // Those that are done are not to be looked for once more.
    core.local.flush(core.redis.soon())?;
    let releases = core.local.store().pull_releases()?;
    if releases.is_empty() {
        return Ok(());
    }
    let held = redis.snapshot(false, &core.redis.step_until(core.clock.now() + LONG))?;
    for release in releases {
        let pull = PullRef { repo: &release.repo, num: release.num };
        for (key, value) in &held {
            if matches!(key, EntryKey::Project(_)) && is_of(value, pull) {
                let guard = || core.key_locks.take(std::slice::from_ref(key), core.redis.soon());
                let _guard = others_decide.then(guard).transpose()?;
                release_late(core, redis, key, value, &release)?;
            }
        }
        core.local.enqueue(Change::ReleasedPull(release));
    }
    Ok(())
}

/// Releases the lock with this value if it was taken before its pull was released.
fn release_late(core: &Core, redis: &dyn SharedStore, key: &EntryKey, value: &[u8], release: &PullRelease) -> Result<()> {
    let remote = redis.remote(key, &core.redis.step())?;
    mark!("recovery: a release by pull finds a lock");
    // Of a stock server's lock nobody knows whether it is from before.
    if remote.value.as_deref() != Some(value) || remote.token.is_none() || remote.token >= release.up_to {
        return Ok(());
    }
    if redis.put(key, Some(value), None, &core.redis.step())? == Put::Changed {
        // It is another lock.
        mark!("recovery: a late release meets another lock");
        core.unsynced.add_dirty([key.clone()]);
        return Ok(());
    }
    mark!("recovery: a late release is made");
    // The local store may not have known it: it must not come back either.
    adopt(core, key, &remote);
    adopt(core, key, &Remote { value: None, ..remote });
    Ok(())
}

/// When this server last announced itself, and to which Redis.
fn last_announcement(core: &Core) -> HighWater {
    HighWater { at: core.arming.record().announced, replication_id: core.presence.replication_id() }
}

/// The two agree since this server `announced` itself, and the local store has that on its disk.
fn agree(core: &Core, since: Instant, announced: HighWater) -> Result<()> {
    let (before, record) = core.arming.agree(since, &*core.clock);
    core.local.write(vec![Change::Redis(record)], core.redis.soon()).inspect_err(|_| core.arming.restore(before))?;
    core.arming.complete();
    core.presence.agree(announced);
    Ok(())
}

/// Nothing is left to do for a key on whose value both agree.
fn is_done(local: &KeyState) -> bool {
    match local.state {
        SyncState::Synced => true,
        // It was released: that is remembered for a while.
        SyncState::Pending => local.value.is_none(),
        SyncState::Decided => false,
    }
}

//! Bringing both stores together again: after Redis was away, at the start, and now and then while others change Redis.
//!
//! Recovery: wait until nothing that was sent to Redis before can still be executed there (*barrier*: every change carries a time
//! after which Redis does not make it) → look at every key that the two do not agree on, and do what `resolve` says, with
//! scripts that change only what was seen (*replay, compare, put back*) → again, until nothing is left (*verify*) → let nobody decide
//! here, settle what was decided since, and close.
//!
//! It keeps no progress: what is left to do follows from the two stores, so it may be cut short anywhere and begin anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::core::{Condition, Core, is_of};
use super::report::Recovery;
use super::resolve::{Action, Evidence, resolve};
use super::watch::LEASE;
use crate::call::Call;
use crate::domain::lock::PullRef;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Change, Conflict, EntryKey, KeyState, MAX_VALUE_BYTES, SyncState};
use crate::store::contract::shared::{Announced, Presence, Put, Remote, SharedStore};

/// Most looks at all keys.
const MOST_PASSES: u32 = 5;
/// How many keys are settled together: the local store's disk is waited for once for all of them, and callers of any of them
/// wait for the last.
const BATCH: usize = 64;
/// Longest time between two announcements after which the silence of others still says something: in a longer one they may have
/// been cut off from Redis as well.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
/// Longest time that one announcement waits for another.
const LONGEST_ANNOUNCEMENT: Duration = Duration::from_secs(1);
/// How often a key may change in Redis while it is being settled.
const MOST_TRIES: u32 = 5;

impl Core {
    /// Makes the stores agree and lets Redis decide again.
    pub(super) fn recover(&self, redis: &Arc<dyn SharedStore>) -> Result<Recovery> {
        let started = self.clock.now();
        let mut done = Recovery { at: self.clock.unix_micros(), ..Recovery::default() };
        self.announce(&**redis, &self.step())?;
        let announced = self.condition.lock().link.announced;
        for _ in 0..MOST_PASSES {
            if self.pass(&**redis, &mut done)? == 0 {
                break;
            }
        }
        // At the start they may be from before.
        if done.taken > 0 && self.in_fallback() {
            self.seen_other("it took locks in Redis meanwhile".to_owned());
        }
        self.release_pulls(&**redis, true)?;
        // From here on nobody has decided who waits for the gate, and what was sent to Redis before is over: no turns are needed,
        // and whoever has one may be waiting for us.
        let gate = self.gate.write();
        self.release_pulls(&**redis, false)?;
        // What was decided since the last look.
        let touched: BTreeSet<EntryKey> = self.touched.lock().drain().collect();
        let mut settle_touched = || -> Result<()> {
            self.settle(self.clock.now() + self.patience)?;
            touched.iter().try_for_each(|key| self.settle_told(&**redis, key, &mut done).map(drop))
        };
        settle_touched().inspect_err(|_| self.touched.lock().extend(touched.iter().cloned()))?;
        self.agree(announced)?;
        self.journal.lock().clear();
        *self.shared.write() = Some(Arc::clone(redis));
        self.breaker.lock().close(self.clock.now());
        self.closed();
        drop(gate);
        done.duration_ms = u64::try_from(self.clock.now().saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX);
        {
            let mut condition = self.condition.lock();
            condition.last_recovery = Some(done.clone());
            let until = condition.since;
            condition.fallbacks.end(until, &done);
        }
        self.recovered(&done);
        Ok(done)
    }

    /// The start: what was asked for before cannot be executed any more once `patience` has passed since. After a crash nobody
    /// knows when and what that was: an intent may not have reached the disk.
    pub(super) fn begin(&self, everything: Vec<(EntryKey, KeyState)>, was_closed: bool) -> Result<()> {
        let mut last = 0;
        for (key, known) in everything {
            if known.state == SyncState::Pending {
                last = last.max(known.at);
                if known.value.is_some() {
                    self.unsure.lock().insert(key.clone());
                }
            }
            if known.state == SyncState::Decided || (known.state == SyncState::Pending && known.value.is_some()) {
                self.journal.lock().insert(key);
            }
        }
        let redis = self.connect()?;
        let patience = u64::try_from(self.patience.as_micros()).unwrap_or(u64::MAX);
        let since_last = last.saturating_add(patience).saturating_sub(self.clock.unix_micros()).min(patience);
        let wait = if was_closed { since_last } else { patience };
        self.clock.sleep(std::time::Duration::from_micros(wait));
        self.recover(&redis).map(drop)
    }

    /// Looks at all keys while Redis decides: others may have changed it, or the local store may not have made what it was told.
    pub(super) fn compare(&self) -> Result<()> {
        let Some(redis) = self.shared.read().clone() else { return Ok(()) };
        let mut done = Recovery::default();
        let (before, announced) = {
            let condition = self.condition.lock();
            (condition.fell_behind, condition.link.announced)
        };
        self.pass(&*redis, &mut done)?;
        self.settle(self.clock.now() + self.patience)?;
        {
            let mut condition = self.condition.lock();
            if condition.fell_behind == before && !self.in_fallback() {
                condition.incomplete = None;
                condition.had_all_at = Some(announced).filter(|_| !condition.link.lost);
            }
        }
        self.remember();
        // What was announced since the last time is on disk now, at the latest.
        self.write_link(|_| (), self.clock.now() + self.patience)?;
        if done.taken > 0 {
            self.seen_other("it took locks in Redis".to_owned());
        }
        if done.restored > 0 || done.conflicts > 0 {
            self.condition.lock().last_recovery = Some(Recovery { at: self.clock.unix_micros(), ..done });
        }
        Ok(())
    }

    /// One look at all keys; tells how many had to be settled.
    pub(super) fn pass(&self, redis: &dyn SharedStore, done: &mut Recovery) -> Result<u32> {
        self.go_on()?;
        self.touched.lock().clear();
        self.settle(self.clock.now() + self.patience)?;
        let started = self.clock.now();
        let snapshot = redis.snapshot(&self.long_step());
        // What fails here for others' sake says nothing of Redis.
        self.record(&snapshot, started, true);
        let remote: BTreeMap<EntryKey, Vec<u8>> = snapshot?.into_iter().collect();
        self.condition.lock().set_aside = redis.set_aside().into_iter().collect();
        let local: BTreeMap<EntryKey, KeyState> = self.local.everything()?.into_iter().collect();
        let keys: BTreeSet<&EntryKey> = remote.keys().chain(local.keys()).collect();
        let differ = |key: &&EntryKey| {
            let (ours, theirs) = (local.get(*key), remote.get(*key));
            let agreed = ours.and_then(|local| local.value.as_ref()).map(|held| &held.value) == theirs;
            !agreed || !ours.is_none_or(is_done)
        };
        let keys: Vec<EntryKey> = keys.into_iter().filter(differ).cloned().collect();
        drop((remote, local));
        let mut settled = 0;
        for batch in keys.chunks(BATCH) {
            self.go_on()?;
            // One after the other: with many callers there may be no moment in which all are free. Nobody else waits for a turn
            // while having one.
            let deadline = self.clock.now() + self.patience;
            let turn = |key| self.turns.take(std::slice::from_ref(key), deadline);
            let _turns = batch.iter().map(turn).collect::<Result<Vec<_>>>()?;
            self.settle(self.clock.now() + self.patience)?;
            for key in batch {
                settled += u32::from(self.settle_told(redis, key, done)?);
            }
        }
        Ok(settled)
    }

    /// Releases by pull that were made while Redis was away, of locks that the local store did not know. `others_decide`: while
    /// nobody can decide here, nobody needs a key's turn.
    fn release_pulls(&self, redis: &dyn SharedStore, others_decide: bool) -> Result<()> {
        // Those that are done are not to be looked for once more.
        self.settle(self.clock.now() + self.patience)?;
        let releases = self.local.pull_releases()?;
        if releases.is_empty() {
            return Ok(());
        }
        let held = redis.snapshot(&self.long_step())?;
        for release in releases {
            let pull = PullRef { repo: &release.repo, num: release.num };
            for (key, value) in &held {
                let is_meant = matches!(key, EntryKey::Project(_)) && is_of(value, pull);
                if !is_meant {
                    continue;
                }
                let deadline = self.clock.now() + self.patience;
                let _turn = others_decide.then(|| self.turns.take(std::slice::from_ref(key), deadline)).transpose()?;
                let remote = redis.remote(key, &self.step())?;
                // Of a stock server's lock nobody knows whether it is from before.
                if remote.value.as_ref() == Some(value) && remote.token != 0 && remote.token < release.up_to {
                    if redis.put(key, Some(value), None, &self.step())? == Put::Changed {
                        // It is another lock.
                        self.touched.lock().insert(key.clone());
                        continue;
                    }
                    // The local store may not have known it: it must not come back either.
                    self.adopt(key, &remote);
                    self.adopt(key, &Remote { value: None, ..remote });
                }
            }
            self.later(Change::ReleasedPull(release));
        }
        Ok(())
    }

    /// Settles one key, by whoever has its turn, where the local store has made all that it was told of the key; tells whether there
    /// was anything to do.
    pub(super) fn settle_told(&self, redis: &dyn SharedStore, key: &EntryKey, done: &mut Recovery) -> Result<bool> {
        // At a recovery's begin it was asked.
        let mut knows_of_losses = self.in_fallback();
        for _ in 0..MOST_TRIES {
            let local = self.local.local(key)?;
            let remote = redis.remote(key, &self.step())?.seen_by(&local);
            let evidence = Evidence {
                is_mine: self.is_mine(&remote),
                has_all: self.has_all(),
                in_order: self.is_in_order(),
                recently: self.recently(),
                lost: self.may_be_lost(&local),
            };
            let action = resolve(key, &local, &remote, evidence);
            let drops_without_proof = action == Action::Adopt
                && remote.value.is_none()
                && local.value.as_ref().is_some_and(|held| held.token == 0 || remote.token < held.token);
            if drops_without_proof && !knows_of_losses {
                // Whether Redis has lost it is known once it said whether it still knows this server.
                self.announce(redis, &self.step())?;
                knows_of_losses = true;
                continue;
            }
            if self.act(redis, key, &local, &remote, action, done)? {
                return Ok(action != Action::Nothing);
            }
        }
        Err(Error::new(Code::Timeout, format!("the {key} keeps changing in Redis")))
    }

    /// Does it, unless Redis has changed meanwhile.
    fn act(
        &self,
        redis: &dyn SharedStore,
        key: &EntryKey,
        local: &KeyState,
        remote: &Remote,
        action: Action,
        done: &mut Recovery,
    ) -> Result<bool> {
        match action {
            Action::Nothing => {
                let token = if local.value.is_some() { remote.token } else { 0 };
                if local.state != SyncState::Synced {
                    self.confirm(key, token);
                }
            }
            Action::Adopt => {
                done.adopted += 1;
                done.taken += u64::from(remote.value.is_some() && key.lock().is_some() && !self.is_mine(remote));
                self.adopt(key, remote);
            }
            Action::Push | Action::Restore => {
                let Put::Done { token } = redis.put(key, remote.value.as_deref(), local.value.as_ref(), &self.step())? else {
                    return Ok(false);
                };
                if action == Action::Push {
                    done.pushed += 1
                } else {
                    done.restored += 1
                }
                self.confirm(key, token);
            }
            Action::Conflict => {
                let (Some(local), Some(remote)) = (local.value.clone(), remote.held()) else { return Ok(false) };
                if remote.value.len() > MAX_VALUE_BYTES {
                    // No lock, and nothing that the local store can keep: both stay as they are.
                    self.condition.lock().set_aside.insert(key.clone());
                    return Ok(true);
                }
                done.conflicts += 1;
                done.taken += 1;
                self.events.conflict(key, &local, &remote);
                self.later(Change::Conflict(key.clone(), remote.clone()));
                self.conflicts.lock().push(Conflict { key: key.clone(), local, remote, at: self.clock.unix_micros() });
            }
        }
        Ok(true)
    }

    /// The two agree since this server `announced` itself, and the local store has that on its disk.
    fn agree(&self, announced: u64) -> Result<()> {
        let now = self.clock.unix_micros();
        let agreed = |condition: &mut Condition| {
            condition.link.handed_over = false;
            condition.link.lost = false;
            condition.link.granted_blindly = false;
            condition.link.agreed_at = now;
            condition.link.redis = self.settings.redis.name();
            condition.link.not_alone = self.has_others(condition);
            condition.link.lacks = String::new();
            condition.link.clone()
        };
        let (before, link) = {
            let mut condition = self.condition.lock();
            (condition.link.clone(), agreed(&mut condition))
        };
        if let Err(error) = self.write(vec![Change::Redis(link)], self.clock.now() + self.patience) {
            self.condition.lock().link = before;
            return Err(error);
        }
        let mut condition = self.condition.lock();
        condition.incomplete = None;
        condition.lacked = false;
        condition.remembers = None;
        condition.had_all_at = Some(announced);
        Ok(())
    }

    /// Says that this server uses Redis, and learns who else does, and whether Redis still knows of it.
    pub(super) fn announce(&self, redis: &dyn SharedStore, call: &Call) -> Result<()> {
        // One at a time: each answer is compared with the one before.
        let Some(_turn) = self.announcements.try_lock_for(LONGEST_ANNOUNCEMENT) else {
            return Err(Error::new(Code::Degraded, "another announcement to Redis is under way: try again"));
        };
        let (instance, presence, is_unsure) = {
            let mut condition = self.condition.lock();
            // Once: said again, it might be said to a Redis that has lost data in between.
            let presence = condition.had_all_at.take().map_or(Presence::Here, Presence::Agreed);
            let is_unsure = condition.announcing || self.clock.now() < condition.unsure_until;
            condition.announcing = true;
            (condition.link.instance.clone(), presence, is_unsure)
        };
        let announced = redis.announce(&instance, LEASE, presence, call);
        if announced.is_err() {
            // It may be made until its time is over.
            self.condition.lock().unsure_until = call.deadline + self.patience;
        }
        let Announced { before, agreed, now, repeated, others } = announced?;
        let (has_lost, is_copied) = {
            let mut condition = self.condition.lock();
            let last = std::mem::replace(&mut condition.link.announced, now);
            let here = i64::try_from(self.clock.unix_micros()).unwrap_or(i64::MAX);
            condition.link.clock_ahead = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(here);
            condition.announcing = false;
            let now = self.clock.now();
            if now.saturating_duration_since(std::mem::replace(&mut condition.announced_at, now)) > LONGEST_SILENCE
                && let Some((_, until)) = &mut condition.others
            {
                *until = now + LEASE;
            }
            condition.others.take_if(|(_, until)| others.is_empty() && *until <= now);
            condition.remembers = condition.remembers.map(|remembered| remembered.min(agreed));
            (before < last, before > last && !is_unsure && !repeated)
        };
        if let Some(other) = others.first() {
            self.seen_other(format!("instance {other} announced itself"));
        }
        if is_copied {
            self.seen_other(
                "another server announces itself by the name of this one: its data_dir is a copy of this one's".to_owned(),
            );
        }
        if has_lost {
            self.note_lost();
            // On disk before anything rests on what Redis has now.
            self.settle(self.clock.now() + self.patience)?;
        }
        self.remember();
        Ok(())
    }

    /// A call for reading all of Redis.
    fn long_step(&self) -> Call {
        let step = self.step();
        Call::new(step.request, self.clock.now() + super::watch::LONG)
    }
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

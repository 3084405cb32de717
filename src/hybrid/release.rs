//! Releasing one lock.
//!
//! Invariant: what a caller is told was released does not come back: neither by a crash, nor from Redis's past. Where nobody knows
//! whether Redis released it, the caller is told so.

use std::time::Instant;

use super::core::{Asked, Core};
use super::data_loss::{Absence, fall_back_if_gone_back, fall_back_if_old, look_for_absence};
use super::flow::{Flow, run};
use super::intent::{make_decision, make_sure, may_have_happened, undo_or_doubt};
use super::key_locks::KeyGuard;
use super::learn::{release_of, released_unwritten};
use super::write_behind::Submitted;
use crate::call::Call;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Change, EntryKey, Held, KeyState};
use crate::store::contract::shared::{Remote, SharedStore};
use crate::store::{LockKey, Release};
use crate::sync::mark;

/// Releases the lock if it is the one meant, and returns its value.
pub(super) fn release(core: &Core, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
    one(
        core,
        release.key,
        call,
        |value| release.admits(value),
        |redis, attempt| redis.release_as(release, attempt),
        || core.local.store().release(release, call),
    )
}

/// Removes whatever is at the key, and returns it.
pub(super) fn discard(core: &Core, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
    let in_redis = |redis: &dyn SharedStore, attempt: &Call| redis.discard_as(key, attempt);
    one(core, key, call, |_| Ok(true), in_redis, || core.local.store().discard(key, call))
}

/// `admits` says whether a lock is the one meant, `in_redis` releases it there, `here` in the local store.
fn one(
    core: &Core,
    key: LockKey<'_>,
    call: &Call,
    admits: impl Fn(&[u8]) -> Result<bool>,
    in_redis: impl Fn(&dyn SharedStore, &Call) -> Result<Option<Held>>,
    here: impl Fn() -> Result<Option<Vec<u8>>>,
) -> Result<Option<Vec<u8>>> {
    let key = EntryKey::from(key);
    let guard = core.key_locks.take(std::slice::from_ref(&key), call.deadline)?;
    let mut releasing = Releasing {
        core,
        key: &key,
        guard: &guard,
        admits,
        in_redis,
        here,
        before: None,
        submitted: None,
        unanswered_since: None,
    };
    run(core, &mut releasing, call)
}

/// The release of one lock, under way.
struct Releasing<'a, Admits, InRedis, Here> {
    core: &'a Core,
    key: &'a EntryKey,
    guard: &'a KeyGuard<'a>,
    admits: Admits,
    in_redis: InRedis,
    here: Here,
    /// What the local store had, once the release was intended.
    before: Option<KeyState>,
    submitted: Option<Submitted<'a>>,
    /// When Redis was first asked, if the answer was lost.
    unanswered_since: Option<Instant>,
}

impl<Admits, InRedis, Here> Flow for Releasing<'_, Admits, InRedis, Here>
where
    Admits: Fn(&[u8]) -> Result<bool>,
    InRedis: Fn(&dyn SharedStore, &Call) -> Result<Option<Held>>,
    Here: Fn() -> Result<Option<Vec<u8>>>,
{
    type Answer = Option<Vec<u8>>;

    fn intend(&mut self, call: &Call) -> Result<Option<Self::Answer>> {
        if self.before.is_some() {
            return Ok(None);
        }
        make_sure(self.core, self.key, call)?;
        let local = self.core.known(self.key)?;
        // A lock that cannot be read is not released: Redis will say so. Where the local store knows no lock, the release is intended
        // all the same: after a crash, the start waits until it cannot meet a later holder any more.
        if local.value.as_ref().is_none_or(|held| (self.admits)(&held.value).unwrap_or(false)) {
            local.value.iter().for_each(|held| self.guard.releases(self.key, &held.value));
            let intent = Change::Intend(self.key.clone(), None);
            self.submitted = Some(self.core.local.submit(vec![intent], call.deadline)?);
            self.before = Some(local);
        }
        Ok(None)
    }

    fn ask(&mut self, call: &Call) -> Asked<Self::Answer> {
        match self.core.ask(call, &mut self.unanswered_since, &self.in_redis) {
            Asked::Answer(Some(was)) => match self.released(was, call) {
                Ok(released) => Asked::Answer(released),
                Err(error) => Asked::Failed(error),
            },
            Asked::Answer(None) => self.nothing_released(call),
            Asked::Failed(error) => Asked::Failed(self.give_up(error, call)),
            Asked::Unavailable => Asked::Unavailable,
        }
    }

    fn decide(&mut self, call: &Call) -> Result<Self::Answer> {
        let core = self.core;
        if let Some(KeyState { value: Some(held), .. }) = &self.before {
            if let (Some(_), Some(why)) = (self.unanswered_since, core.arming.unarmed()) {
                mark!("release: an answer was lost, and it is not armed");
                // Whose lock it was, if it was released, Redis alone knows.
                return Err(undo_or_doubt(core, self.key, self.before.as_ref(), true, core.degraded(&why), call));
            }
            make_decision(core, &[self.key], None, call)?;
            return Ok(Some(held.value.clone()));
        }
        let released = (self.here)().map_err(|error| self.give_up(error, call))?;
        if released.is_some() {
            mark!("release: decided here");
            core.unsynced.add_decided(self.key);
            return Ok(released);
        }
        if let Some(value) = end_conflict(core, self.key, &self.admits) {
            return Ok(Some(value));
        }
        // Redis may have a lock unknown here, or had one until a try whose answer was lost.
        let Some(why) = core.arming.unarmed() else { return Ok(None) };
        Err(self.give_up(core.degraded(&format!("no such lock is known here; {why}")), call))
    }

    fn give_up(&mut self, error: Error, call: &Call) -> Error {
        undo_or_doubt(self.core, self.key, self.before.as_ref(), self.unanswered_since.is_some(), error, call)
    }
}

impl<Admits, InRedis, Here> Releasing<'_, Admits, InRedis, Here>
where
    Admits: Fn(&[u8]) -> Result<bool>,
{
    /// Redis has released a lock; returns what the caller is told was released.
    fn released(&mut self, was: Held, call: &Call) -> Result<Option<Vec<u8>>> {
        let core = self.core;
        let before = self.before.take();
        let held = before.as_ref().and_then(|local| local.value.as_ref());
        let mut is_past = false;
        let mut written = self.submitted.take().map_or(Ok(()), |submitted| submitted.wait(call.deadline));
        if held.is_none_or(|held| held.value != was.value) {
            let local = before.as_ref().map_or_else(|| core.known(self.key), |local| Ok(local.clone()))?;
            let shown = before_release(&was);
            is_past = fall_back_if_old(core, &local, &shown)
                || local.value.as_ref().is_some_and(|held| fall_back_if_gone_back(core, held, &shown));
            if !is_past {
                mark!("release: of a lock unknown here");
                let changes = release_of(self.key, was.clone()).into();
                written = written.and_then(|()| core.local.submit(changes, call.deadline)?.wait(call.deadline));
            }
        }
        written.map_err(|e| {
            released_unwritten(core, self.key, held, &was);
            let text = format!("Redis released the {}, but the local store could not write that down: {e}", self.key);
            Error::new(Code::OutcomeUnknown, text)
        })?;
        // What is released is what was held last, not what came back.
        Ok(if is_past { before.and_then(|local| local.value).map(|held| held.value) } else { Some(was.value) })
    }

    /// Redis has no such lock, though the local store may have had one: it is as Redis says, unless that has lost data.
    fn nothing_released(&mut self, call: &Call) -> Asked<Option<Vec<u8>>> {
        let core = self.core;
        let held = self.before.as_ref().and_then(|local| local.value.as_ref());
        let released = match held.map_or(Asked::Answer(Absence::No), |held| look_for_absence(core, self.key, held, call)) {
            Asked::Answer(Absence::Lost) => mark!("release: Redis has lost it", held).map(|held| held.value.clone()),
            Asked::Answer(Absence::Released | Absence::No) => end_conflict(core, self.key, &self.admits),
            Asked::Failed(error) => {
                core.unsynced.doubt(self.key);
                return Asked::Failed(may_have_happened(error));
            }
            Asked::Unavailable => return Asked::Unavailable,
        };
        if let (Some(_), Some(submitted)) = (&released, self.submitted.take())
            && let Err(error) = submitted.wait(call.deadline)
        {
            return Asked::Failed(may_have_happened(error));
        }
        Asked::Answer(released)
    }
}

/// `was` as Redis showed it before; its holder is not known any more.
pub(super) fn before_release(was: &Held) -> Remote {
    Remote { value: Some(was.value.clone()), token: was.token, ..Remote::default() }
}

/// The one whose lock was overruled in a conflict gives it up.
pub(super) fn end_conflict(core: &Core, key: &EntryKey, admits: impl Fn(&[u8]) -> Result<bool>) -> Option<Vec<u8>> {
    let ended = core.conflicts.end(key, admits, || core.local.enqueue(Change::EndConflict(key.clone())))?;
    Some(ended.local.value)
}

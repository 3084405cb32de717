//! Every operation of a store, in hybrid mode: asked of Redis while that answers, decided by the local store otherwise.
//!
//! A change goes: its key's turn is taken; the local store is told what is intended; Redis is asked; the local store is told what
//! became of it. Where Redis does not answer and the breaker opens, the intent becomes the local store's decision, whatever
//! Redis made of it: nobody else can have changed the key, and recovery settles it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{RwLock, RwLockReadGuard};

use super::core::{Asked, Core, Telling};
use super::report::Recovery;
use super::resolve::{has_gone_back, is_over, was_lost};
use crate::call::{AnsweredBy, Call};
use crate::domain::lock::PullRef;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Change, EntryKey, Held, KeyState, LocalStore, MAX_VALUE_BYTES, SyncState};
use crate::store::contract::shared::{Presence, Put, Remote, SharedStore};
use crate::store::{Expected, Grant, Granted, Listing, Location, LockInfo, LockKey, Release, Store, Swap};

/// Both stores as one. Safe from any thread.
pub struct HybridStore {
    core: Arc<Core>,
    closed: AtomicBool,
    /// Held for reading by each operation, so that what they tell the local store is told when it is closed.
    under_way: RwLock<()>,
}

/// Whether a lock that the local store knew is in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It, or another, is there; or nobody knows.
    No,
    /// It was released.
    Released,
    /// Redis has lost it.
    Lost,
}

/// A lock that is being asked for.
struct Asking<'a> {
    key: &'a EntryKey,
    /// What the local store had before.
    local: KeyState,
    telling: Option<Telling<'a>>,
    /// When it was first sent, if the answer was lost.
    lost: Option<Instant>,
}

impl HybridStore {
    pub(super) fn new(core: Arc<Core>) -> HybridStore {
        HybridStore { core, closed: AtomicBool::new(false), under_way: RwLock::default() }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// An operation begins: the store is not closed before it ends.
    fn begin(&self) -> Result<RwLockReadGuard<'_, ()>> {
        // Whoever closes it has said so before.
        let under_way = self.under_way.try_read_recursive().filter(|_| !self.closed.load(Ordering::SeqCst));
        under_way.ok_or_else(|| Error::new(Code::Closed, "the locking layer is closed"))
    }

    /// Reads from Redis, or here.
    fn read<T>(
        &self,
        call: &Call,
        mut from_redis: impl FnMut(&dyn SharedStore, &Call) -> Result<T>,
        here: impl Fn(&dyn LocalStore) -> Result<T>,
    ) -> Result<T> {
        self.read_with(|| self.core.ask(call, &mut None, &mut from_redis), here, call)
    }

    /// The same, asked by `ask`.
    fn read_with<T>(
        &self,
        mut ask: impl FnMut() -> Asked<T>,
        here: impl Fn(&dyn LocalStore) -> Result<T>,
        call: &Call,
    ) -> Result<T> {
        let _under_way = self.begin()?;
        loop {
            match ask() {
                Asked::Answer(answer) => {
                    call.answered(AnsweredBy::Enhanced);
                    return Ok(answer);
                }
                Asked::Failed(error) => return Err(error),
                Asked::Away => {}
            }
            if let Some(_gate) = self.core.here(&self.core.within_patience(call))? {
                call.answered(AnsweredBy::Fallback);
                return here(&*self.core.local);
            }
        }
    }

    /// What Redis has at a key.
    fn look(&self, key: &EntryKey, call: &Call) -> Asked<Remote> {
        self.core.ask(call, &mut None, |redis, attempt| redis.remote(key, attempt))
    }

    pub(super) fn touched(&self, key: &EntryKey) {
        self.core.touched.lock().insert(key.clone());
        self.core.journal.lock().insert(key.clone());
    }

    /// Finds out what Redis made of the last change of a key, if nobody knows that, and carries it on.
    pub(super) fn make_sure(&self, key: &EntryKey, call: &Call) -> Result<()> {
        if !self.core.unsure.lock().contains(key) {
            return Ok(());
        }
        self.core.settle(call.deadline.min(self.core.clock.now() + self.core.patience))?;
        match self.core.ask(call, &mut None, |redis, _| self.core.settle_told(redis, key, &mut Recovery::default())) {
            Asked::Answer(_) => {
                self.core.unsure.lock().remove(key);
                Ok(())
            }
            Asked::Failed(error) => Err(error),
            Asked::Away => Ok(()),
        }
    }

    pub(super) fn unsure(&self, key: &EntryKey) {
        self.core.unsure.lock().insert(key.clone());
    }

    /// Makes what was intended the local store's decision: that these locks, or statuses, are `to`.
    ///
    /// If that fails, recovery may still carry it on. With `durability: async` the local store may lack the intent, if its queue
    /// was full when it was to be handed over.
    pub(super) fn decide(&self, keys: &[&EntryKey], to: Option<&[u8]>, call: &Call) -> Result<()> {
        let decisions = keys.iter().map(|&key| Change::Decide(key.clone())).collect();
        let decided = self.all_intended(keys, to).and_then(|()| self.core.write(decisions, call.deadline));
        for key in keys {
            match decided {
                Ok(()) => {
                    self.core.unsure.lock().remove(key);
                    self.touched(key);
                }
                Err(_) => self.unsure(key),
            }
        }
        decided.map_err(may_have_happened)
    }

    fn all_intended(&self, keys: &[&EntryKey], to: Option<&[u8]>) -> Result<()> {
        keys.iter().try_for_each(|key| {
            let known = self.core.local.local(key)?;
            if known.state == SyncState::Pending && known.value.as_ref().map(|held| &*held.value) == to {
                return Ok(());
            }
            Err(self.core.degraded(&format!("it does not know what was intended at the {key}")))
        })
    }

    /// An operation on Redis failed. What was intended, if `before` is what was there before, did not happen; or nobody knows.
    fn give_up(&self, key: &EntryKey, before: Option<&KeyState>, unknown: bool, error: Error, call: &Call) -> Error {
        match before {
            Some(before) if !unknown => match self.core.undo(key, before.value.clone(), call.deadline) {
                Ok(()) => error,
                Err(e) => {
                    self.unsure(key);
                    Error::new(Code::OutcomeUnknown, format!("it may still be carried out: {error}; and {e}"))
                }
            },
            None if !unknown => error,
            _ => {
                self.unsure(key);
                may_have_happened(error)
            }
        }
    }

    /// Whether Redis still has the lock that the local store believes to be held: its value then. `None`: it may be asked for,
    /// of Redis or, if that has lost data, here.
    fn still_held(&self, key: &EntryKey, local: &KeyState, call: &Call) -> Result<Option<Vec<u8>>> {
        let Some(held) = &local.value else { return Ok(None) };
        let remote = match self.look(key, call) {
            Asked::Answer(remote) => remote.seen_by(local),
            Asked::Failed(error) => return Err(error),
            Asked::Away => return Ok(None),
        };
        match &remote.value {
            None => match self.has_lost(key, held, &remote, call) {
                Asked::Answer(true) => self.core.went_back("a lock that it had confirmed is gone"),
                // Somebody else released it.
                Asked::Answer(false) => self.core.adopt(key, &remote),
                Asked::Failed(error) => return Err(error),
                Asked::Away => {}
            },
            Some(value) if *value == held.value => return Ok(remote.value),
            Some(_) if self.is_old(local, &remote) || self.goes_back(held, &remote) => {}
            Some(_) => {
                self.took_other(key, &remote);
                return Ok(remote.value);
            }
        }
        Ok(None)
    }

    /// Whether Redis has lost a lock in whose place it shows this; nobody has the key's turn.
    fn is_lost(&self, key: &EntryKey, shown: Option<&[u8]>, call: &Call) -> Result<bool> {
        if self.core.known(key)?.value.is_none_or(|held| Some(&*held.value) == shown) {
            return Ok(false);
        }
        let _turn = self.core.turns.take(std::slice::from_ref(key), call.deadline)?;
        let local = self.core.known(key)?;
        self.still_held(key, &local, call)?;
        // Then the local store answers.
        Ok(self.core.in_fallback())
    }

    /// Redis holds a lock that nobody here took.
    fn took_other(&self, key: &EntryKey, remote: &Remote) {
        self.core.adopt(key, remote);
        self.core.seen_other(format!("it took the {key}"));
    }

    /// Asks Redis for a lock that the local store believes to be free. What a caller is told is on the local store's disk.
    fn grant_by_redis(&self, asking: &mut Asking<'_>, grant: &Grant<'_>, held: &Held, call: &Call) -> Asked<Granted> {
        let answer = self.core.ask(call, &mut asking.lost, |redis, attempt| redis.grant_with(grant, held.token, attempt));
        let answer = match answer {
            Asked::Answer(Granted::Held { value }) => self.refused(asking, value, call),
            answer => answer,
        };
        let Asked::Answer(Granted::Yes { token }) = answer else { return answer };
        if let Some(Err(error)) = asking.telling.take().map(|telling| telling.wait(call.deadline)) {
            return Asked::Failed(self.take_back(asking.key, held, &error));
        }
        self.core.confirm(asking.key, token);
        Asked::Answer(Granted::Yes { token })
    }

    /// Redis says that somebody holds the lock that the local store believed to be free.
    fn refused(&self, asking: &Asking<'_>, value: Vec<u8>, call: &Call) -> Asked<Granted> {
        match self.look(asking.key, call) {
            Asked::Answer(remote) => {
                let remote = remote.seen_by(&asking.local);
                match &remote.value {
                    Some(_) if self.is_old(&asking.local, &remote) => return Asked::Away,
                    Some(_) => self.took_other(asking.key, &remote),
                    // Released in between.
                    None => self.core.adopt(asking.key, &remote),
                }
            }
            // That somebody holds it was said all the same, and the local store must not decide otherwise.
            Asked::Failed(_) | Asked::Away => {
                // Without its token it cannot be written down.
                self.core.adopt(asking.key, &Remote::default());
                if !asking.local.tombstones.iter().any(|old| old.is(&value, old.token)) {
                    self.core.seen_other(format!("it took the {}", asking.key));
                }
            }
        }
        // The intent is on disk: a crash must not carry it on once the caller was told.
        match self.core.settle(call.deadline) {
            Ok(()) => Asked::Answer(Granted::Held { value }),
            Err(error) => Asked::Failed(error),
        }
    }

    /// Redis granted what the local store could not write down.
    fn take_back(&self, key: &EntryKey, held: &Held, cause: &Error) -> Error {
        let shared = self.core.shared.read().clone();
        let back = shared.map(|redis| redis.put(key, Some(&held.value), None, &self.core.step()));
        match back {
            Some(Ok(Put::Done { .. })) => cause.clone().context("the lock was taken back: the local store could not keep it"),
            _ => Error::new(
                Code::OutcomeUnknown,
                format!("the local store could not keep the lock, and taking it back failed: it may be held. {cause}"),
            ),
        }
    }

    /// The local store grants, if it may.
    fn grant_here(
        &self,
        grant: &Grant<'_>,
        key: &EntryKey,
        intended: Option<&Held>,
        unknown: bool,
        call: &Call,
    ) -> Result<Granted> {
        call.answered(AnsweredBy::Fallback);
        if let Some(why) = self.core.unarmed() {
            let before = intended.map(|_| KeyState::default());
            return Err(self.give_up(key, before.as_ref(), unknown, self.core.degraded(&why), call));
        }
        if let Some(held) = intended {
            self.decide(&[key], Some(&held.value), call)?;
            return Ok(Granted::Yes { token: held.token });
        }
        if self.core.in_doubt(key)? {
            return Err(self
                .core
                .degraded("the lock was asked for before a crash, and Redis alone knows whether it was granted"));
        }
        if self.core.condition.lock().set_aside.contains(key) {
            return Err(self.core.degraded("Redis has an entry at the key that the local store cannot keep"));
        }
        let known = self.core.known(key)?;
        let token = self.core.next_token_of(&known);
        if let Some(held) = known.value {
            return Ok(Granted::Held { value: held.value });
        }
        // The token is by Redis's clock, as those of other servers are: the local store's own would be by this machine's.
        let held = Held { value: grant.value.to_vec(), token };
        self.core.write(vec![Change::SetHere(key.clone(), Some(held))], call.deadline)?;
        self.touched(key);
        Ok(Granted::Yes { token })
    }

    /// One lock is released: by `admits` if it is the one meant, by `ask` in Redis, by `here` in the local store.
    fn release_one(
        &self,
        key: &EntryKey,
        call: &Call,
        admits: impl Fn(&[u8]) -> Result<bool>,
        mut ask: impl FnMut(&dyn SharedStore, &Call) -> Result<Option<Held>>,
        here: impl Fn() -> Result<Option<Vec<u8>>>,
    ) -> Result<Option<Vec<u8>>> {
        let _under_way = self.begin()?;
        let _turn = self.core.turns.take(std::slice::from_ref(key), call.deadline)?;
        let mut intended: Option<KeyState> = None;
        let (mut telling, mut lost) = (None, None);
        loop {
            if !self.core.in_fallback() && intended.is_none() {
                self.make_sure(key, call)?;
                let local = self.core.known(key)?;
                // What cannot be read is not released; Redis will say so. If nothing is known, that is intended all the same: after
                // a crash, the start waits until the release cannot meet a later holder any more.
                if local.value.as_ref().is_none_or(|held| admits(&held.value).unwrap_or(false)) {
                    telling = Some(self.core.tell(vec![Change::Intend(key.clone(), None)], call.deadline)?);
                    intended = Some(local);
                }
            }
            match self.core.ask(call, &mut lost, &mut ask) {
                Asked::Answer(Some(was)) => {
                    let released = self.released(key, was, intended, telling, call)?;
                    call.answered(AnsweredBy::Enhanced);
                    return Ok(released);
                }
                Asked::Answer(None) => match self.nothing_to_release(key, intended.as_ref(), &admits, call) {
                    Asked::Answer(released) => {
                        if let (Some(_), Some(telling)) = (&released, telling) {
                            telling.wait(call.deadline).map_err(may_have_happened)?;
                        }
                        call.answered(AnsweredBy::Enhanced);
                        return Ok(released);
                    }
                    Asked::Failed(error) => {
                        self.unsure(key);
                        return Err(may_have_happened(error));
                    }
                    Asked::Away => {}
                },
                Asked::Failed(error) => {
                    return Err(self.give_up(key, intended.as_ref(), lost.is_some(), error, call));
                }
                Asked::Away => {}
            }
            let gate = self.core.here(call);
            let gate = gate.map_err(|e| self.give_up(key, intended.as_ref(), lost.is_some(), e, call))?;
            let Some(_gate) = gate else { continue };
            call.answered(AnsweredBy::Fallback);
            if let Some(KeyState { value: Some(held), .. }) = &intended {
                if let (Some(_), Some(why)) = (lost, self.core.unarmed()) {
                    // Whose lock it was, if it was released, Redis alone knows.
                    return Err(self.give_up(key, intended.as_ref(), true, self.core.degraded(&why), call));
                }
                self.decide(&[key], None, call)?;
                return Ok(Some(held.value.clone()));
            }
            let released = here().map_err(|e| self.give_up(key, intended.as_ref(), lost.is_some(), e, call))?;
            if released.is_some() {
                self.touched(key);
                return Ok(released);
            }
            if let Some(value) = self.end_conflict(key, &admits) {
                return Ok(Some(value));
            }
            // Redis may have one that the local store does not know of, or may have had it until this try, whose answer was lost.
            let Some(why) = self.core.unarmed() else { return Ok(None) };
            let error = self.core.degraded(&format!("no such lock is known here; {why}"));
            return Err(self.give_up(key, intended.as_ref(), lost.is_some(), error, call));
        }
    }

    /// Redis has released a lock; what the caller is told was released.
    fn released(
        &self,
        key: &EntryKey,
        was: Held,
        intended: Option<KeyState>,
        telling: Option<Telling<'_>>,
        call: &Call,
    ) -> Result<Option<Vec<u8>>> {
        let held = intended.as_ref().and_then(|local| local.value.as_ref());
        let mut is_old = false;
        let mut written = telling.map_or(Ok(()), |telling| telling.wait(call.deadline));
        if held.is_none_or(|held| held.value != was.value) {
            let before = intended.as_ref().map_or_else(|| self.core.known(key), |local| Ok(local.clone()))?;
            let shown = before_release(&was);
            is_old = self.is_old(&before, &shown) || before.value.as_ref().is_some_and(|held| self.goes_back(held, &shown));
            if !is_old {
                let changes = learn_release(key, was.clone()).into();
                written = written.and_then(|()| self.core.tell(changes, call.deadline)?.wait(call.deadline));
            }
        }
        written.map_err(|e| {
            let text = format!("Redis released the {key}, but the local store could not write that down: {e}");
            Error::new(Code::OutcomeUnknown, text)
        })?;
        // What is released is what was held last, not what came back.
        Ok(if is_old { intended.and_then(|local| local.value).map(|held| held.value) } else { Some(was.value) })
    }

    /// Redis has no such lock, though the local store may have had one: it is as Redis says, unless that has lost data.
    fn nothing_to_release(
        &self,
        key: &EntryKey,
        intended: Option<&KeyState>,
        admits: impl Fn(&[u8]) -> Result<bool>,
        call: &Call,
    ) -> Asked<Option<Vec<u8>>> {
        let held = intended.and_then(|local| local.value.as_ref());
        match held.map_or(Asked::Answer(Gone::No), |held| self.is_gone(key, held, call)) {
            Asked::Answer(Gone::Lost) => Asked::Answer(held.map(|held| held.value.clone())),
            Asked::Answer(Gone::Released | Gone::No) => Asked::Answer(self.end_conflict(key, admits)),
            Asked::Failed(error) => Asked::Failed(error),
            Asked::Away => Asked::Away,
        }
    }

    /// Whether Redis does not have a lock any more that the local store knew.
    pub(super) fn is_gone(&self, key: &EntryKey, held: &Held, call: &Call) -> Asked<Gone> {
        let remote = match self.look(key, call) {
            Asked::Answer(remote) => remote,
            Asked::Failed(error) => return Asked::Failed(error),
            Asked::Away => return Asked::Away,
        };
        let local = match self.core.known(key) {
            Ok(local) => local,
            Err(error) => return Asked::Failed(error),
        };
        let remote = remote.seen_by(&local);
        let is_other = remote.value.as_ref().is_some_and(|value| *value != held.value);
        if is_other && (self.is_old(&local, &remote) || self.goes_back(held, &remote)) {
            return Asked::Answer(Gone::Lost);
        }
        if remote.value.is_some() {
            self.took_other(key, &remote);
            return Asked::Answer(Gone::No);
        }
        match self.has_lost(key, held, &remote, call) {
            Asked::Answer(true) => {
                self.core.went_back("a lock that it had confirmed is gone");
                Asked::Answer(Gone::Lost)
            }
            Asked::Answer(false) => {
                self.core.adopt(key, &remote);
                Asked::Answer(Gone::Released)
            }
            Asked::Failed(error) => Asked::Failed(error),
            Asked::Away => Asked::Away,
        }
    }

    /// Whether Redis, which shows nothing at the key, has lost this lock. If nobody has asked it for an hour, it is asked whether it
    /// still knows this server: of a release it would remember nothing any more.
    fn has_lost(&self, key: &EntryKey, held: &Held, remote: &Remote, call: &Call) -> Asked<bool> {
        let is_recent = self.core.recently();
        if is_recent || remote.token >= held.token {
            return Asked::Answer(was_lost(key, held, remote, is_recent, false));
        }
        match self.core.ask(call, &mut None, |redis, attempt| self.core.announce(redis, attempt)) {
            Asked::Answer(()) => Asked::Answer(was_lost(key, held, remote, false, self.core.condition.lock().link.lost)),
            Asked::Failed(error) => Asked::Failed(error),
            Asked::Away => Asked::Away,
        }
    }

    /// Whether Redis shows a lock from before the one that it had confirmed: it has lost data then.
    pub(super) fn goes_back(&self, held: &Held, remote: &Remote) -> bool {
        let goes_back = has_gone_back(held, remote);
        if goes_back {
            self.core.went_back("a lock from before the one that it had confirmed is there");
        }
        goes_back
    }

    /// The one whose lock was set aside in a conflict gives it up.
    pub(super) fn end_conflict(&self, key: &EntryKey, admits: impl Fn(&[u8]) -> Result<bool>) -> Option<Vec<u8>> {
        let mut conflicts = self.core.conflicts.lock();
        let place = conflicts.iter().position(|c| c.key == *key && admits(&c.local.value).unwrap_or(false))?;
        let ended = conflicts.remove(place);
        self.core.later(Change::EndConflict(key.clone()));
        Some(ended.local.value)
    }

    /// Whether a lock that Redis has, or had until now, was given up long ago: Redis has lost data then.
    pub(super) fn is_old(&self, local: &KeyState, remote: &Remote) -> bool {
        let is_old = is_over(local, remote, self.core.is_mine(remote), self.core.is_in_order());
        if is_old {
            self.core.went_back("a lock that was released is there again");
        }
        is_old
    }
}

/// The local store did not know a lock that Redis has released: it must learn what it is not to bring back.
pub(super) fn learn_release(key: &EntryKey, was: Held) -> [Change; 2] {
    // What no local store can keep is none that may come back as a lock.
    let was = Some(was).filter(|was| was.value.len() <= MAX_VALUE_BYTES);
    [Change::Set(key.clone(), was), Change::Intend(key.clone(), None)]
}

/// What Redis had until it released this lock; who took that is not known.
pub(super) fn before_release(was: &Held) -> Remote {
    Remote { value: Some(was.value.clone()), token: was.token, holder: String::new() }
}

pub(super) fn may_have_happened(error: Error) -> Error {
    if error.code() == Code::OutcomeUnknown {
        return error;
    }
    Error::new(Code::OutcomeUnknown, format!("it was asked for, and may have been made: {error}"))
}

impl Store for HybridStore {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        let _under_way = self.begin()?;
        let key = EntryKey::from(grant.key);
        let _turn = self.core.turns.take(std::slice::from_ref(&key), call.deadline)?;
        let mut asking = Asking { key: &key, local: KeyState::default(), telling: None, lost: None };
        let mut intended: Option<Held> = None;
        loop {
            // Redis is asked only for what is known to be free.
            let mut is_free = intended.is_some();
            if !self.core.in_fallback() && intended.is_none() {
                self.make_sure(&key, call)?;
                asking.local = self.core.known(&key)?;
                if let Some(value) = self.still_held(&key, &asking.local, call)? {
                    call.answered(AnsweredBy::Enhanced);
                    return Ok(Granted::Held { value });
                }
                // That somebody released it may be known only now: what is undone later must not bring it back.
                asking.local = self.core.known(&key)?;
                is_free = asking.local.value.is_none();
            }
            // It may have opened just now.
            if is_free && !self.core.in_fallback() {
                if intended.is_none() {
                    let held = Held { value: grant.value.to_vec(), token: self.core.next_token_of(&asking.local) };
                    asking.telling = Some(self.core.tell(vec![Change::Intend(key.clone(), Some(held.clone()))], call.deadline)?);
                    intended = Some(held);
                }
                let Some(held) = &intended else { continue };
                match self.grant_by_redis(&mut asking, grant, held, call) {
                    Asked::Answer(granted) => {
                        call.answered(AnsweredBy::Enhanced);
                        return Ok(granted);
                    }
                    Asked::Failed(error) => {
                        let unknown = asking.lost.is_some() || error.code() == Code::OutcomeUnknown;
                        return Err(self.give_up(&key, Some(&asking.local), unknown, error, call));
                    }
                    Asked::Away => {}
                }
            }
            let before = intended.as_ref().map(|_| &asking.local);
            let gate = self.core.here(call);
            let gate = gate.map_err(|e| self.give_up(&key, before, asking.lost.is_some(), e, call))?;
            if let Some(_gate) = gate {
                return self.grant_here(grant, &key, intended.as_ref(), asking.lost.is_some(), call);
            }
        }
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let key = EntryKey::from(release.key);
        self.release_one(
            &key,
            call,
            |value| release.admits(value),
            |redis, attempt| redis.release_as(release, attempt),
            || self.core.local.release(release, call),
        )
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let name = EntryKey::from(key);
        let (ask, here) =
            (|redis: &dyn SharedStore, attempt: &Call| redis.discard_as(key, attempt), || self.core.local.discard(key, call));
        self.release_one(&name, call, |_| Ok(true), ask, here)
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        loop {
            let value = self.read(call, |redis, attempt| redis.get(key, attempt), |local| local.get(key, call))?;
            // What Redis said just before it was found to have lost data is asked again, here.
            let is_final = call.answered_by() == Some(AnsweredBy::Fallback);
            if is_final || !(self.core.in_fallback() || self.is_lost(&EntryKey::from(key), value.as_deref(), call)?) {
                return Ok(value);
            }
        }
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        self.read_with(|| self.core.ask_long(call, |redis, attempt| redis.list(attempt)), |local| local.list(call), call)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let _under_way = self.begin()?;
        self.release_all_of(pull, call)
    }

    fn pull_status(&self, key: &str, call: &Call) -> Result<Option<Vec<u8>>> {
        self.read(call, |redis, attempt| redis.pull_status(key, attempt), |local| local.pull_status(key, call))
    }

    fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        let name = EntryKey::Status(key.to_owned());
        let _under_way = self.begin()?;
        let held = |value: &[u8]| Held { value: value.to_vec(), token: 0 };
        let _turn = self.core.turns.take(std::slice::from_ref(&name), call.deadline)?;
        let mut intended: Option<KeyState> = None;
        let (mut telling, mut lost) = (None, None);
        loop {
            if !self.core.in_fallback() && intended.is_none() {
                self.make_sure(&name, call)?;
                let local = self.core.known(&name)?;
                let current = local.value.as_ref().map(|held| held.value.as_slice());
                if expected.admits(current) && current != new {
                    telling = Some(self.core.tell(vec![Change::Intend(name.clone(), new.map(held))], call.deadline)?);
                    intended = Some(local);
                }
            }
            match self.core.ask(call, &mut lost, |redis, attempt| redis.swap_pull_status(key, expected, new, attempt)) {
                Asked::Answer(swapped) => {
                    call.answered(AnsweredBy::Enhanced);
                    let written = match (&swapped, telling) {
                        (Swap::Done, Some(telling)) => telling.wait(call.deadline).map(|()| self.core.confirm(&name, 0)),
                        (Swap::Done, None) => {
                            let told = self.core.tell(vec![Change::Set(name, new.map(held))], call.deadline);
                            told.and_then(|telling| telling.wait(call.deadline))
                        }
                        (Swap::Conflict(current), telling) => {
                            self.core.adopt(&name, &Remote { value: current.clone(), ..Remote::default() });
                            // If the intent is on disk, a crash must not carry it on once the caller was told.
                            telling.map_or(Ok(()), |_| self.core.settle(call.deadline))
                        }
                    };
                    written.map_err(may_have_happened)?;
                    return Ok(swapped);
                }
                Asked::Failed(error) => {
                    return Err(self.give_up(&name, intended.as_ref(), lost.is_some(), error, call));
                }
                Asked::Away => {}
            }
            let gate = self.core.here(call);
            let gate = gate.map_err(|e| self.give_up(&name, intended.as_ref(), lost.is_some(), e, call))?;
            let Some(_gate) = gate else { continue };
            call.answered(AnsweredBy::Fallback);
            if intended.is_some() {
                self.decide(&[&name], new, call)?;
                return Ok(Swap::Done);
            }
            let swapped = self.core.local.swap_pull_status(key, expected, new, call);
            let swapped = swapped.map_err(|e| self.give_up(&name, None, lost.is_some(), e, call))?;
            match &swapped {
                // Redis may have had another one, which the local store did not know or which Redis had lost, and have made the change.
                Swap::Conflict(_) if lost.is_some() => {
                    return Err(may_have_happened(self.core.degraded("the local store has another pull status")));
                }
                Swap::Conflict(_) => {}
                Swap::Done => self.touched(&name),
            }
            return Ok(swapped);
        }
    }

    fn lock_info(&self, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>> {
        call.answered(AnsweredBy::Legacy);
        let known = self.core.known(&EntryKey::from(key))?;
        let place = match known.state {
            SyncState::Synced => Location::Both,
            SyncState::Pending => Location::Pending,
            SyncState::Decided => Location::Legacy,
        };
        Ok(known.value.map(|held| LockInfo::new(held.token, place)))
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.read(call, |redis, attempt| redis.ping(attempt), |local| local.ping(call))
    }

    fn warnings(&self) -> Vec<String> {
        super::report::warnings(&self.core)
    }

    fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        // Each call under way has a deadline; one that takes longer is as one that a crash cut short: then it is not said that all is told.
        let none_under_way = self.under_way.try_write_for(2 * self.core.patience);
        // What is still to be told goes with the close of the local store.
        let told = match none_under_way {
            Some(_) => self.core.all_told(),
            None => self.core.settle(self.core.clock.now() + self.core.patience),
        };
        let mut closed = Ok(());
        let shared = self.core.shared.write().take();
        if let Some(shared) = shared {
            let instance = self.core.condition.lock().link.instance.clone();
            if !self.core.in_fallback() {
                // A courtesy: the lease ends by itself.
                let _ = shared.announce(&instance, super::watch::LEASE, Presence::Leaves, &self.core.step());
            }
            closed = shared.close();
        }
        let followed = self.core.follower.as_ref().map_or(Ok(()), super::follow::Follower::finish);
        self.core.local.close().and(told).and(followed).and(closed)
    }
}

impl fmt::Debug for HybridStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridStore").field("fallback", &self.core.in_fallback()).finish_non_exhaustive()
    }
}

//! Taking a lock.
//!
//! Invariant: Redis is asked for a lock only where the local store knows of no holder. A caller is told "granted" only when that is on
//! the local store's disk (with `durability: sync`), and "held" only when a crash cannot carry the caller's own intent on any more.

use std::time::Instant;

use super::core::{Asked, Core};
use super::data_loss::{fall_back_if_old, remote_at, seen, still_held};
use super::flow::{Flow, run};
use super::intent::{in_doubt, make_decision, make_sure, undo_or_doubt};
use super::learn::{adopt, confirm, took_other};
use super::write_behind::Submitted;
use crate::call::Call;
use crate::config::Durability;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Change, EntryKey, Held, KeyState};
use crate::store::contract::shared::{Put, Remote};
use crate::store::{Grant, Granted};
use crate::sync::mark;

/// Takes the lock if it is free.
pub(super) fn grant(core: &Core, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
    let key = EntryKey::from(grant.key);
    let _guard = core.key_locks.take(std::slice::from_ref(&key), call.deadline)?;
    let mut granting =
        Granting { core, grant, key: &key, local: KeyState::default(), intended: None, submitted: None, unanswered_since: None };
    run(core, &mut granting, call)
}

struct Granting<'a> {
    core: &'a Core,
    grant: &'a Grant<'a>,
    key: &'a EntryKey,
    /// What the local store had before.
    local: KeyState,
    /// What the local store was handed.
    intended: Option<Held>,
    submitted: Option<Submitted<'a>>,
    /// When the lock was first asked for, if the answer was lost.
    unanswered_since: Option<Instant>,
}

impl Flow for Granting<'_> {
    type Answer = Granted;

    fn intend(&mut self, call: &Call) -> Result<Option<Granted>> {
        if self.intended.is_some() {
            return Ok(None);
        }
        make_sure(self.core, self.key, call)?;
        self.local = self.core.known(self.key)?;
        if let Some(value) = still_held(self.core, self.key, &self.local, call)? {
            return Ok(Some(Granted::Held { value }));
        }
        // That somebody released it may be known only now: what is undone later must not bring it back.
        self.local = self.core.known(self.key)?;
        // A fallback may have begun just now.
        if self.local.value.is_none() && !self.core.in_fallback() {
            let held = Held { value: self.grant.value.to_vec(), token: self.core.redis.next_token_of(&self.local) };
            let intent = Change::Intend(self.key.clone(), Some(held.clone()));
            self.submitted = Some(self.core.local.submit(vec![intent], call.deadline)?);
            self.intended = Some(held);
        }
        Ok(None)
    }

    /// With `durability: sync`, what a caller is told rests on the local store's disk.
    fn ask(&mut self, call: &Call) -> Asked<Granted> {
        let Some(held) = &self.intended else { return Asked::Unavailable };
        let (grant, token) = (self.grant, held.token);
        let answer = self.core.ask(call, &mut self.unanswered_since, |redis, attempt| redis.grant_with(grant, token, attempt));
        let answer = match answer {
            Asked::Answer(Granted::Held { value }) => self.refused(value, call),
            answer => answer,
        };
        let answer = match answer {
            Asked::Answer(Granted::Yes { token, gated }) => self.granted(token, gated, call),
            Asked::Answer(Granted::NotYet) => self.not_yet(call),
            answer => answer,
        };
        match answer {
            Asked::Failed(error) => {
                let is_unknown = self.unanswered_since.is_some() || error.code() == Code::OutcomeUnknown;
                Asked::Failed(undo_or_doubt(self.core, self.key, Some(&self.local), is_unknown, error, call))
            }
            answer => answer,
        }
    }

    fn decide(&mut self, call: &Call) -> Result<Granted> {
        let core = self.core;
        if let Some(why) = core.arming.unarmed() {
            mark!("grant: not armed");
            return Err(self.give_up(core.degraded(&why), call));
        }
        if let Some(held) = &self.intended {
            // Redis may have been asked: whoever the lock is kept for, this decision must not take it back.
            make_decision(core, &[self.key], Some(&held.value), call)?;
            return Ok(Granted::Yes { token: held.token, gated: self.gate()?.unwrap_or(true) });
        }
        if in_doubt(core, self.key)? {
            return Err(core.degraded("the lock was asked for, and Redis alone knows whether it was granted"));
        }
        if core.arming.is_set_aside(self.key) {
            return Err(core.degraded("Redis has an entry at the key that the local store cannot keep"));
        }
        let known = core.known(self.key)?;
        let token = core.redis.next_token_of(&known);
        if let Some(held) = known.value {
            return Ok(Granted::Held { value: held.value });
        }
        let Some(gated) = self.gate()? else { return mark!("queue: grant, kept for somebody else, here", Ok(Granted::NotYet)) };
        // The token is by Redis's clock, as those of other servers are: the local store's own would be by this machine's.
        let held = Held { value: self.grant.value.to_vec(), token };
        mark!("grant: decided here");
        core.local.write(vec![Change::SetHere(self.key.clone(), Some(held))], call.deadline)?;
        core.unsynced.add_decided(self.key);
        Ok(Granted::Yes { token, gated })
    }

    fn give_up(&mut self, error: Error, call: &Call) -> Error {
        let before = self.intended.as_ref().map(|_| &self.local);
        undo_or_doubt(self.core, self.key, before, self.unanswered_since.is_some(), error, call)
    }
}

impl Granting<'_> {
    /// Redis granted the lock.
    fn granted(&mut self, token: FencingToken, gated: bool, call: &Call) -> Asked<Granted> {
        if let Some(Err(error)) = self.submitted.take().map(|submitted| submitted.wait(call.deadline)) {
            return Asked::Failed(self.take_back(&error));
        }
        confirm(self.core, self.key, token);
        Asked::Answer(Granted::Yes { token, gated })
    }

    /// The lock is free, and kept for somebody else.
    fn not_yet(&mut self, call: &Call) -> Asked<Granted> {
        mark!("queue: grant, kept for somebody else");
        self.submitted = None;
        match self.core.local.write(vec![Change::Set(self.key.clone(), self.local.value.clone())], call.deadline) {
            Ok(()) => Asked::Answer(Granted::NotYet),
            Err(error) => Asked::Failed(error),
        }
    }

    /// Whether the key has a gate, by the local store's queue, that lets the caller in; `None` if it keeps the caller out.
    fn gate(&self) -> Result<Option<bool>> {
        let Some(queue) = self.grant.queue_key() else { return Ok(Some(false)) };
        let queue = self.core.known(&EntryKey::from(queue))?.value;
        Ok(self.grant.is_let_in(queue.as_ref().map(|held| held.value.as_slice())))
    }

    /// Redis says that somebody holds the lock that the local store believed to be free.
    fn refused(&self, value: Vec<u8>, call: &Call) -> Asked<Granted> {
        match remote_at(self.core, self.key, call) {
            Asked::Answer(remote) => {
                let remote = seen(self.core, remote, &self.local);
                match &remote.value {
                    Some(_) if fall_back_if_old(self.core, &self.local, &remote) => {
                        return mark!("grant: refused by an old lock", Asked::Unavailable);
                    }
                    Some(_) => took_other(self.core, self.key, &remote),
                    // Released in between.
                    None => mark!("grant: refused, free by then", adopt(self.core, self.key, &remote)),
                }
            }
            // That somebody holds it was said all the same, and the local store must not decide otherwise.
            Asked::Failed(_) | Asked::Unavailable => {
                mark!("grant: refused by nobody knows whom");
                // The holder's token is unknown, so it cannot be kept: forget our intent, and disarm, unless it is a value that we know
                // to be old.
                adopt(self.core, self.key, &Remote::default());
                if !self.local.tombstones.iter().any(|old| old.is(&value, old.token)) {
                    self.core.saw_other(format!("it took the {}", self.key));
                }
            }
        }
        // The intent is on disk: a crash must not carry it on once the caller was told. With `async` it does not, unless Redis has made it.
        match self.core.settings.durability {
            Durability::Async => Asked::Answer(Granted::Held { value }),
            // Whoever else handed it over may have failed: a store that did so takes nothing any more, not even this.
            Durability::Sync => match self.core.local.write(Vec::new(), call.deadline) {
                Ok(()) => Asked::Answer(Granted::Held { value }),
                Err(error) => Asked::Failed(error),
            },
        }
    }

    /// Redis granted what the local store could not write down.
    fn take_back(&self, cause: &Error) -> Error {
        let back = self.core.redis.current();
        let back = back.map(|redis| redis.put(self.key, Some(self.grant.value), None, &self.core.redis.step()));
        match back {
            Some(Ok(Put::Done { .. })) => {
                mark!("grant: taken back", cause.clone()).context("the lock was taken back: the local store could not keep it")
            }
            _ => mark!(
                "grant: cannot be taken back",
                Error::new(
                    Code::OutcomeUnknown,
                    format!("the local store could not keep the lock, and taking it back failed: it may be held. {cause}"),
                )
            ),
        }
    }
}

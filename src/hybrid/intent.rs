//! What the local store is handed before Redis is asked for a change, and what becomes of that.
//!
//! An intent is on the disk before the caller's answer, not before the question (`durability: sync`): a crash may lose an intent whose
//! caller has no answer yet.
//!
//! A change goes: its key's lock is taken; the local store is handed what is intended; Redis is asked; the local store is handed what
//! became of it. Where Redis does not answer and the breaker opens, the intent becomes the local store's decision, whatever
//! Redis made of it: nobody else can have changed the key, and recovery reconciles it. A crash in between may leave an intent, which
//! the next start carries on (`resolve`).
//!
//! Invariant: the local store is handed a change of a key only by whoever has the key's lock, or by recovery with the gate closed, or
//! by the start.

use std::time::Instant;

use super::core::{Asked, Core};
use super::reconcile::reconcile;
use super::status::Recovery;
use crate::call::Call;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Change, EntryKey, Held, KeyState, SyncState};
use crate::sync::mark;

/// Finds out what Redis made of the last change of a key, if nobody knows that, and carries it on.
pub(super) fn make_sure(core: &Core, key: &EntryKey, call: &Call) -> Result<()> {
    if !core.unsynced.is_in_doubt(key) {
        return Ok(());
    }
    core.local.flush(call.deadline.min(core.redis.soon()))?;
    match core.ask(call, &mut None, |redis, _| reconcile(core, redis, key, &mut Recovery::default())) {
        Asked::Answer(_) => {
            mark!("intent: its outcome is found out");
            core.unsynced.know(key);
            Ok(())
        }
        Asked::Failed(error) => Err(error),
        Asked::Unavailable => mark!("intent: its outcome cannot be found out", Ok(())),
    }
}

/// The end, when no call is under way: finds out what is in doubt, as far as Redis answers in time.
pub(super) fn settle(core: &Core) {
    let call = core.redis.step();
    // What is not found out stays in doubt.
    let _ = core.unsynced.doubts().iter().try_for_each(|key| {
        let _guard = core.key_locks.take(std::slice::from_ref(key), call.deadline)?;
        make_sure(core, key, &call)
    });
}

/// Whether a lock was asked for and it is not known what became of that.
pub(super) fn in_doubt(core: &Core, key: &EntryKey) -> Result<bool> {
    if !core.unsynced.is_in_doubt(key) {
        return Ok(false);
    }
    mark!("intent: in doubt where the local store decides");
    let known = core.known(key)?;
    Ok(known.state == SyncState::Pending && known.value.is_some())
}

/// What was intended did not happen. It is forgotten on disk before the caller is told so: a crash must not carry it on.
fn undo(core: &Core, key: &EntryKey, before: Option<Held>, deadline: Instant) -> Result<()> {
    core.local.write(vec![Change::Set(key.clone(), before)], deadline)
}

/// Makes what was intended the local store's decision: that these locks, or statuses, are `to`.
///
/// If that fails, recovery may still carry it on. With `durability: async` the local store may lack the intent, if its queue
/// was full when it was to be handed over.
pub(super) fn make_decision(core: &Core, keys: &[&EntryKey], to: Option<&[u8]>, call: &Call) -> Result<()> {
    let decisions = keys.iter().map(|&key| Change::Decide(key.clone())).collect();
    let decided = all_intended(core, keys, to).and_then(|()| core.local.write(decisions, call.deadline));
    for key in keys {
        match decided {
            Ok(()) => {
                mark!("intent: becomes a decision");
                core.unsynced.know(key);
                core.unsynced.add_decided(key);
            }
            Err(_) => mark!("intent: the decision fails", core.unsynced.doubt(key)),
        }
    }
    decided.map_err(may_have_happened)
}

fn all_intended(core: &Core, keys: &[&EntryKey], to: Option<&[u8]>) -> Result<()> {
    keys.iter().try_for_each(|key| {
        let known = core.local.store().local(key)?;
        if known.state == SyncState::Pending && known.value.as_ref().map(|held| &*held.value) == to {
            return Ok(());
        }
        mark!("intent: the queue dropped it");
        Err(core.degraded(&format!("it does not know what was intended at the {key}")))
    })
}

/// An operation on Redis failed. What was intended, if `before` is what was there before, did not happen; or nobody knows.
pub(super) fn undo_or_doubt(
    core: &Core,
    key: &EntryKey,
    before: Option<&KeyState>,
    unknown: bool,
    error: Error,
    call: &Call,
) -> Error {
    match before {
        Some(before) if !unknown => match undo(core, key, before.value.clone(), call.deadline) {
            Ok(()) => mark!("intent: undone", error),
            Err(e) => {
                mark!("intent: cannot be undone");
                core.unsynced.doubt(key);
                Error::new(Code::OutcomeUnknown, format!("it may still be carried out: {error}; and {e}"))
            }
        },
        None if !unknown => error,
        _ => {
            mark!("intent: in doubt");
            core.unsynced.doubt(key);
            may_have_happened(error)
        }
    }
}

pub(super) fn may_have_happened(error: Error) -> Error {
    if error.code() == Code::OutcomeUnknown {
        return error;
    }
    Error::new(Code::OutcomeUnknown, format!("it was asked for, and may have been made: {error}"))
}

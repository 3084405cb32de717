//! Whether Redis has lost data: a lock that it had confirmed is gone, or one that was released is there again.
//!
//! Invariant: a lock that this server was told it holds is not given up because Redis does not show it: it must be known that the lock
//! was released. Where that is not known, the local store's lock stays, goes back to Redis, and decides until then
//! ([`Core::fall_back_for_data_loss`]). What shows a release is one answer of Redis, to one question: between two answers Redis may lose
//! everything, and have it again.

use super::announce::remote_of_known;
use super::arming::REMEMBERED;
use super::core::{Asked, Core};
use super::learn::{adopt, took_other};
use super::redis_access::micros;
use super::resolve::{has_gone_back, is_over, was_lost};
use crate::call::Call;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{EntryKey, Held, KeyState};
use crate::store::contract::shared::Remote;
use crate::sync::mark;

/// Whether a lock that the local store knew is in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// It, or another, is there; or nobody knows.
    No,
    /// It was released.
    Released,
    /// Redis has lost it.
    Lost,
}

/// Whether Redis may have lost the local store's lock: that it has lost data is known, or nothing shows that it had the lock
/// since that was granted.
pub(super) fn may_be_lost(core: &Core, local: &KeyState) -> bool {
    core.arming.has_lost()
        || core
            .presence
            .remembered()
            .is_some_and(|had_all| local.value.as_ref().is_some_and(|held| is_later(core, held, had_all)))
}

/// Whether the lock may have been granted after the last moment of which Redis says that it had everything. A local store that may lack the
/// lock's release cannot tell.
pub(super) fn is_later(core: &Core, held: &Held, had_all: u64) -> bool {
    // The token is the time of the question; its answer took no longer than that.
    let granted_by = held.token.known().map(|token| token.get().saturating_add(micros(core.redis.timeout)));
    core.arming.has_all() && granted_by.is_some_and(|granted_by| had_all < granted_by)
}

/// What Redis has at a key.
pub(super) fn remote_at(core: &Core, key: &EntryKey, call: &Call) -> Asked<Remote> {
    core.ask(call, &mut None, |redis, attempt| redis.remote(key, attempt))
}

/// The same, by what the local store knows of the key.
pub(super) fn seen(core: &Core, remote: Remote, local: &KeyState) -> Remote {
    let is_mine = core.arming.is_this_server(&remote.holder);
    remote.seen_by(local, is_mine)
}

/// Whether Redis still has the lock that the local store believes to be held: its value then. `None`: it may be asked for,
/// of Redis or, if that has lost data, here.
pub(super) fn still_held(core: &Core, key: &EntryKey, local: &KeyState, call: &Call) -> Result<Option<Vec<u8>>> {
    let Some(held) = &local.value else { return Ok(None) };
    let (remote, is_lost) = match look_for(core, key, local, held, call) {
        Asked::Answer(found) => found,
        Asked::Failed(error) => return Err(error),
        Asked::Unavailable => return Ok(None),
    };
    match &remote.value {
        None if is_lost => {
            mark!("fallback: a lock is gone that was asked for");
            core.fall_back_for_data_loss("a lock that it had confirmed is gone");
        }
        // Somebody else released it.
        None => mark!("data loss: released by somebody else", adopt(core, key, &remote)),
        Some(value) if *value == held.value => return Ok(remote.value),
        Some(_) if fall_back_if_old(core, local, &remote) || fall_back_if_gone_back(core, held, &remote) => {}
        Some(_) => {
            mark!("data loss: somebody else took it");
            took_other(core, key, &remote);
            return Ok(remote.value);
        }
    }
    Ok(None)
}

/// Falls back if Redis has lost a lock in whose place it shows this; nobody has the key's lock. Returns whether to ask again: the local
/// store answers now, or what Redis had lost was put back meanwhile.
pub(super) fn fall_back_if_lost(core: &Core, key: &EntryKey, shown: Option<&[u8]>, call: &Call) -> Result<bool> {
    if core.known(key)?.value.is_none_or(|held| Some(&*held.value) == shown) {
        return Ok(false);
    }
    let _guard = core.key_locks.take(std::slice::from_ref(key), call.deadline)?;
    let local = core.known(key)?;
    mark!("data loss: a read misses a lock");
    let holder = still_held(core, key, &local, call)?;
    Ok(core.in_fallback() || holder.is_some_and(|value| Some(&*value) != shown))
}

/// Looks why Redis has not released a lock that the local store knew: falls back if Redis has lost it, else learns what is there.
pub(super) fn look_for_absence(core: &Core, key: &EntryKey, held: &Held, call: &Call) -> Asked<Absence> {
    let local = match core.known(key) {
        Ok(local) => local,
        Err(error) => return Asked::Failed(error),
    };
    let (remote, is_lost) = match look_for(core, key, &local, held, call) {
        Asked::Answer(found) => found,
        Asked::Failed(error) => return Asked::Failed(error),
        Asked::Unavailable => return Asked::Unavailable,
    };
    let is_other = remote.value.as_ref().is_some_and(|value| *value != held.value);
    if is_other && (fall_back_if_old(core, &local, &remote) || fall_back_if_gone_back(core, held, &remote)) {
        return Asked::Answer(Absence::Lost);
    }
    if remote.value.as_ref() == Some(&held.value) {
        mark!("data loss: it is there again");
        core.unsynced.doubt(key);
        let text = format!(
            "Redis has not released the {key}, which was not there, and is there again: it goes back and forth; try again"
        );
        return Asked::Failed(Error::new(Code::OutcomeUnknown, text));
    }
    if remote.value.is_some() {
        mark!("data loss: another is there");
        took_other(core, key, &remote);
        return Asked::Answer(Absence::No);
    }
    if is_lost {
        mark!("fallback: a lock is gone that was to be released");
        core.fall_back_for_data_loss("a lock that it had confirmed is gone");
        return Asked::Answer(Absence::Lost);
    }
    mark!("data loss: released before");
    adopt(core, key, &remote);
    Asked::Answer(Absence::Released)
}

/// Whether Redis, had it lost nothing, would remember the release of this lock, which it does for an hour: the two agreed since then, or
/// the lock is younger than that.
pub(super) fn would_be_remembered(core: &Core, held: &Held) -> bool {
    let age = held.token.known().and_then(|token| core.redis.micros().checked_sub(token.get()));
    age.is_some_and(|age| age < micros(REMEMBERED)) || core.arming.agreed_recently(&*core.clock)
}

/// What Redis shows where the local store knew this lock; and if it shows nothing, whether it has lost the lock. If nobody has asked it for an
/// hour, it would remember nothing of a release any more: then a release is shown by the answer of a Redis that still knows this server, and
/// that it had everything since the lock was granted.
fn look_for(core: &Core, key: &EntryKey, local: &KeyState, held: &Held, call: &Call) -> Asked<(Remote, bool)> {
    let remote = match remote_at(core, key, call) {
        Asked::Answer(remote) => seen(core, remote, local),
        Asked::Failed(error) => return Asked::Failed(error),
        Asked::Unavailable => return Asked::Unavailable,
    };
    if remote.value.is_some() {
        return Asked::Answer((remote, false));
    }
    let is_recent = would_be_remembered(core, held);
    if is_recent || remote.token >= held.token {
        let is_lost = was_lost(key, held, &remote, is_recent, false);
        return Asked::Answer((remote, is_lost));
    }
    mark!("data loss: Redis is asked whether it knows this server");
    match core.ask(call, &mut None, |redis, attempt| remote_of_known(core, redis, key, attempt)) {
        Asked::Answer((remote, had_all)) => {
            let remote = seen(core, remote, local);
            let lost = core.arming.has_lost() || is_later(core, held, had_all);
            let is_lost = remote.value.is_none() && was_lost(key, held, &remote, false, lost);
            Asked::Answer((remote, is_lost))
        }
        Asked::Failed(error) => Asked::Failed(error),
        Asked::Unavailable => Asked::Unavailable,
    }
}

/// Falls back if Redis shows a lock from before the one that it had confirmed: it has lost data then. Returns whether that is so.
pub(super) fn fall_back_if_gone_back(core: &Core, held: &Held, remote: &Remote) -> bool {
    let is_back = has_gone_back(held, remote);
    if is_back {
        mark!("fallback: an older lock is there");
        core.fall_back_for_data_loss("a lock from before the one that it had confirmed is there");
    }
    is_back
}

/// Falls back if a lock that Redis has, or had until now, was given up long ago: Redis has lost data then. Returns whether that is so.
pub(super) fn fall_back_if_old(core: &Core, local: &KeyState, remote: &Remote) -> bool {
    let is_mine = core.arming.is_this_server(&remote.holder);
    let is_old = is_over(local, remote, is_mine, core.arming.never_granted_blindly());
    if is_old {
        mark!("fallback: a released lock is there");
        core.fall_back_for_data_loss("a lock that was released is there again");
    }
    is_old
}

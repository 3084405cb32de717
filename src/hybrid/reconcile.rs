//! Making the two stores agree on one key.

use super::announce::remote_of_known;
use super::core::Core;
use super::data_loss::{is_later, may_be_lost, seen, would_be_remembered};
use super::learn::{adopt, confirm};
use super::resolve::{Action, Evidence, resolve};
use super::status::Recovery;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::queue;
use crate::store::contract::local::{Change, Conflict, EntryKey, Held, KeyState, MAX_VALUE_BYTES, SyncState};
use crate::store::contract::shared::{Put, Remote, SharedStore};
use crate::sync::mark;

/// How often a key may change in Redis while it is being reconciled.
const MAX_TRIES: u32 = 5;

/// Reconciles one key, by whoever has its lock, where the local store has made all that it was handed of the key; returns whether there
/// was anything to do.
pub(super) fn reconcile(core: &Core, redis: &dyn SharedStore, key: &EntryKey, done: &mut Recovery) -> Result<bool> {
    let mut is_known = false;
    for _ in 0..MAX_TRIES {
        let local = core.local.store().local(key)?;
        let call = core.redis.step();
        let asked =
            if is_known { remote_of_known(core, redis, key, &call) } else { redis.remote(key, &call).map(|r| (r, u64::MAX)) };
        let (remote, had_all) = match asked {
            // What another program wrote there is none of ours to judge, and stands in no other key's way: it stays, and so does what
            // the local store has.
            Err(e) if e.code() == Code::EntryUnreadable => {
                mark!("recovery: an entry of another program");
                core.arming.add_set_aside(key.clone());
                return Ok(false);
            }
            asked => asked?,
        };
        let remote = seen(core, remote, &local);
        let evidence = Evidence {
            is_mine: core.arming.is_this_server(&remote.holder),
            has_all: core.arming.has_all(),
            in_order: core.arming.never_granted_blindly(),
            recently: local.value.as_ref().is_some_and(|held| would_be_remembered(core, held)),
            rested_on_redis: core.arming.rested_on_redis(),
            lost: may_be_lost(core, &local) || local.value.as_ref().is_some_and(|held| is_later(core, held, had_all)),
        };
        let action = resolve(key, &local, &remote, evidence);
        // In the place of a lock that Redis lost may be nothing, or a stock server's, without a token.
        let drops_without_proof = action == Action::Adopt
            && (remote.value.is_none() || key.lock().is_some())
            && local.value.as_ref().is_some_and(|held| held.token.is_none() || remote.token < held.token);
        if drops_without_proof && !is_known {
            // Whether Redis has lost it is known once the answer that shows nothing also says whether Redis still knows this server, also while
            // a recovery that began with that is under way.
            mark!("recovery: asks before it drops a lock");
            is_known = true;
            continue;
        }
        if act(core, redis, key, &local, &remote, action, done)? {
            return Ok(action != Action::Nothing);
        }
    }
    Err(Error::new(Code::Timeout, format!("the {key} keeps changing in Redis")))
}

/// Does it, unless Redis has changed meanwhile.
fn act(
    core: &Core,
    redis: &dyn SharedStore,
    key: &EntryKey,
    local: &KeyState,
    remote: &Remote,
    action: Action,
    done: &mut Recovery,
) -> Result<bool> {
    match action {
        Action::Nothing => {
            let token = if local.value.is_some() { remote.token } else { FencingToken::NONE };
            if local.state != SyncState::Synced {
                confirm(core, key, token);
            }
        }
        Action::Adopt => {
            let is_mine = core.arming.is_this_server(&remote.holder);
            done.adopted += 1;
            done.taken += u64::from(remote.value.is_some() && key.lock().is_some() && !is_mine);
            adopt(core, key, remote);
        }
        Action::Push | Action::Restore => {
            let Put::Done { token } = redis.put(key, remote.value.as_deref(), local.value.as_ref(), &core.redis.step())? else {
                return mark!("recovery: Redis changed in between", Ok(false));
            };
            if action == Action::Push {
                done.pushed += 1
            } else {
                done.restored += 1
            }
            confirm(core, key, token);
        }
        Action::Merge => {
            let (Some(ours), Some(theirs)) = (&local.value, &remote.value) else { return Ok(false) };
            let Some(merged) = queue::merge(&ours.value, theirs) else {
                mark!("queue: recovery, a queue cannot be read");
                adopt(core, key, remote);
                return Ok(true);
            };
            let merged = Held { value: merged, token: FencingToken::NONE };
            let Put::Done { .. } = redis.put(key, Some(theirs), Some(&merged), &core.redis.step())? else {
                return mark!("recovery: Redis changed in between", Ok(false));
            };
            done.pushed += 1;
            adopt(core, key, &Remote { value: Some(merged.value), ..Remote::default() });
        }
        Action::Conflict => {
            let (Some(local), Some(remote)) = (local.value.clone(), remote.held()) else { return Ok(false) };
            if remote.value.len() > MAX_VALUE_BYTES {
                // No lock, and nothing that the local store can keep: both stay as they are.
                core.arming.add_set_aside(key.clone());
                return Ok(true);
            }
            done.conflicts += 1;
            done.taken += 1;
            core.audit.conflict(key, &local, &remote);
            let conflict = Conflict { key: key.clone(), local, remote: remote.clone(), at: core.clock.unix_micros() };
            core.conflicts.found(conflict, || core.local.enqueue(Change::Conflict(key.clone(), remote)));
        }
    }
    Ok(true)
}

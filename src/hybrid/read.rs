//! Reading: from Redis while that answers, from the local store otherwise.

use super::core::{Asked, Core};
use super::data_loss::fall_back_if_lost;
use crate::call::{AnsweredBy, Call};
use crate::error::Result;
use crate::store::contract::local::{EntryKey, LocalStore, SyncState};
use crate::store::contract::shared::SharedStore;
use crate::store::{Listing, Location, LockInfo, LockKey};

/// One question to whichever store decides.
pub(super) fn read<T>(
    core: &Core,
    call: &Call,
    mut from_redis: impl FnMut(&dyn SharedStore, &Call) -> Result<T>,
    here: impl Fn(&dyn LocalStore) -> Result<T>,
) -> Result<T> {
    read_with(core, || core.ask(call, &mut None, &mut from_redis), here, call)
}

/// The same, asked by `ask`.
fn read_with<T>(
    core: &Core,
    mut ask: impl FnMut() -> Asked<T>,
    here: impl Fn(&dyn LocalStore) -> Result<T>,
    call: &Call,
) -> Result<T> {
    loop {
        match ask() {
            Asked::Answer(answer) => {
                call.answered(AnsweredBy::Enhanced);
                return Ok(answer);
            }
            Asked::Failed(error) => return Err(error),
            Asked::Unavailable => {}
        }
        if let Some(_gate) = core.local_turn(&core.redis.within_change(call))? {
            call.answered(AnsweredBy::Fallback);
            return here(core.local.store());
        }
    }
}

/// The lock at this key.
pub(super) fn get(core: &Core, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
    loop {
        let value = read(core, call, |redis, attempt| redis.get(key, attempt), |local| local.get(key, call))?;
        // What Redis said just before it was found to have lost data is asked again, here.
        let is_final = call.answered_by() == Some(AnsweredBy::Fallback);
        if is_final || !(core.in_fallback() || fall_back_if_lost(core, &EntryKey::from(key), value.as_deref(), call)?) {
            return Ok(value);
        }
    }
}

/// All project locks.
pub(super) fn list(core: &Core, call: &Call) -> Result<Listing> {
    read_with(core, || core.ask_long(call, |redis, attempt| redis.list(attempt)), |local| local.list(call), call)
}

/// What is known of a lock.
pub(super) fn lock_info(core: &Core, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>> {
    call.answered(AnsweredBy::Legacy);
    let known = core.known(&EntryKey::from(key))?;
    let location = match known.state {
        SyncState::Synced => Location::Both,
        SyncState::Pending => Location::Pending,
        SyncState::Decided => Location::Legacy,
    };
    Ok(known.value.map(|held| LockInfo::new(held.token, location)))
}

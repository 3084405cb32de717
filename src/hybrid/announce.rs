//! Telling Redis that this server is there, and hearing who else is, and what Redis still knows.
//!
//! Invariant: what Redis forgot of this server's announcements is noticed at the next one, and is on the local store's disk before
//! anything rests on what Redis has then. An answer of Redis that is to show a release counts only if that very Redis, at that moment, knew
//! the last announcement: one that lost everything may have it all again a moment later.

use super::arming::PRESENCE;
use super::core::Core;
use crate::call::Call;
use crate::error::Result;
use crate::store::contract::local::EntryKey;
use crate::store::contract::shared::{Announced, Remembered, Remote, SharedStore};
use crate::sync::mark;

/// Says that this server uses Redis, and learns who else does, and whether Redis still knows of it.
pub(super) fn announce(core: &Core, redis: &dyn SharedStore, call: &Call) -> Result<()> {
    let saying = core.presence.begin(core.clock.now())?;
    let last = core.arming.record().announced;
    let announced = redis.announce(&core.arming.server_name(), PRESENCE, saying.said, last, call);
    if announced.is_err() {
        // It may be made until its time is over.
        core.presence.failed(call.deadline + core.redis.timeout);
    }
    let Announced { before, agreed, now: at, replication_id, repeated, others } = announced?;
    // Before anybody can take what this Redis says for the word of one that knows this server.
    let forgets = note_if_forgotten(core, before, last);
    let here = i64::try_from(core.clock.unix_micros()).unwrap_or(i64::MAX);
    core.arming.change(|record| {
        record.announced = at;
        record.clock_ahead = i64::try_from(at).unwrap_or(i64::MAX).saturating_sub(here);
    });
    let now = core.clock.now();
    let long_silence = core.presence.made(agreed, replication_id, now);
    core.arming.heard_of_others(!others.is_empty(), long_silence, now);
    if let Some(other) = others.first() {
        core.saw_other(format!("instance {other} announced itself"));
    }
    if before > last && !saying.is_unsure && !repeated {
        core.saw_other(
            "another server announces itself by the name of this one: its data_dir is a copy of this one's".to_owned(),
        );
    }
    if forgets {
        // On disk before anything rests on what Redis has now.
        core.local.flush(core.redis.soon())?;
    }
    core.remember();
    Ok(())
}

/// What is at a key in a Redis that knows this server, and the last moment of which that remembers that it had everything; if it does not know
/// this server, that it has lost data is known first.
pub(super) fn remote_of_known(core: &Core, redis: &dyn SharedStore, key: &EntryKey, call: &Call) -> Result<(Remote, u64)> {
    let last = core.arming.record().announced;
    let (remote, Remembered { before, agreed }) = redis.remote_and_presence(key, &core.arming.server_name(), last, call)?;
    if note_if_forgotten(core, before, last) {
        core.local.flush(core.redis.soon())?;
    }
    Ok((remote, agreed))
}

/// A Redis that last saw this server `before` the announcement of which that has an answer has lost data.
fn note_if_forgotten(core: &Core, before: u64, last: u64) -> bool {
    if before < last {
        mark!("data loss: an announcement is forgotten");
        core.note_lost();
        return true;
    }
    false
}

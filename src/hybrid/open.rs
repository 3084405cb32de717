//! The start of hybrid mode: both stores are brought together, or the local store decides until Redis can be asked.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Before, Core};
use super::host_copy::HostCopy;
use super::recovery::{LONG, begin};
use super::redis_access::Connect;
use crate::config::{Durability, Enhanced};
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::process::Process;
use crate::store::contract::local::{Change, KeyState, LocalStore, RedisRecord};
use crate::sync::mark;

/// Both stores, brought together as far as Redis can be asked.
pub(super) struct Opened {
    pub core: Arc<Core>,
    pub host_copy: Option<Arc<HostCopy>>,
}

/// Brings the stores together, or begins without Redis. `reserve` is the local store's part of each call's time.
///
/// Invariant: unknown is not empty. A local store that may lack locks of this Redis is not armed until it was brought up to date:
/// one that has never seen this Redis, or was not closed, or fell behind, or after native mode.
pub(super) fn open(
    settings: Enhanced,
    reserve: Duration,
    local: Arc<dyn LocalStore>,
    host_copy: Option<HostCopy>,
    connect: Connect,
    process: &Process<'_>,
) -> Result<Opened> {
    /// More tokens than a crash keeps from the disk: as many changes are not on their way at once. In microseconds less than a start takes.
    const LOST_TOKENS: u64 = 10_000;
    let fallback = settings.legacy_fallback;
    let known = local.redis_record()?;
    let is_first = known.is_none();
    let new = || RedisRecord { server_name: process.instance.to_owned(), ..RedisRecord::default() };
    let mut record = known.unwrap_or_else(new);
    record.lacks = record.may_lack().unwrap_or_default();
    record.trailing = settings.durability == Durability::Async;
    let was_closed = !std::mem::replace(&mut record.open, true);
    let before = Before { record: record.clone(), conflicts: local.conflicts()? };
    if is_first && !fallback {
        // Without Redis nothing begins, and nothing may be left that says it did: strict mode would be refused afterwards, too.
        connect(&record.server_name).inspect_err(|_| {
            // Why it has failed is what counts.
            let _ = host_copy.as_ref().map_or(Ok(()), HostCopy::finish);
            let _ = local.close();
        })?;
    }
    let core = Arc::new(Core::new(settings, reserve, process, local, connect, before));
    let opened = Opened { core, host_copy: host_copy.map(Arc::new) };
    let core = &opened.core;
    // The first time, everything that is there is written down.
    core.local.write(vec![Change::Redis(record)], core.clock.now() + LONG).inspect_err(|_| opened.abandon())?;
    if let Some(copy) = &opened.host_copy {
        copy.start(core, is_first).inspect_err(|_| opened.abandon())?;
    }
    let everything = core.local.store().everything().inspect_err(|_| opened.abandon())?;
    // What a release by pull reaches is told by tokens: those that are given now are larger, also if the clock was set back meanwhile.
    let releases = core.local.store().pull_releases().inspect_err(|_| opened.abandon())?;
    releases.iter().for_each(|release| core.redis.token_was_given(release.up_to));
    if !was_closed {
        // Nor may one be given twice that a crash kept from the disk.
        let of_value = |known: &KeyState| known.value.as_ref().map_or(FencingToken::NONE, |held| held.token);
        let tokens = everything.iter().map(|(_, known)| known.last_token().max(of_value(known)).get());
        let last = tokens.max().unwrap_or_default().max(core.arming.record().tokens_from);
        let from = last.saturating_add(LOST_TOKENS);
        // On the disk before the first is given: the next crash may keep all of them from it.
        core.write_record(|record| record.tokens_from = from, core.clock.now() + LONG).inspect_err(|_| opened.abandon())?;
        core.redis.token_was_given(FencingToken::new(from));
    }
    match begin(core, everything, was_closed) {
        Ok(()) => {}
        Err(error) if fallback => mark!("fallback: the start", core.begin_fallback(error)),
        Err(error) => {
            opened.abandon();
            return Err(error);
        }
    }
    Ok(opened)
}

impl Opened {
    /// Opening has failed: nothing stays open.
    fn abandon(&self) {
        // Why it has failed is what counts.
        let _ = self.host_copy.as_ref().map_or(Ok(()), |copy| copy.finish());
        let _ = self.core.local.store().close();
    }
}

//! A host store (Atlantis's own BoltDB file) kept as a copy of the local store, so that strict mode, or a stock Atlantis, finds
//! every lock there after a rollback.
//!
//! The host store is a copy, never a source, while hybrid mode runs: what it lacks is marked in the same group as the change itself,
//! so a crash loses no mark, and the marks bound what is still to be copied to one entry for each key. At the start it is the
//! other way round: whatever differs without a mark was changed there, in strict mode, and counts as decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use crate::error::Result;
use crate::store::Store as _;
use crate::store::host::{HostStore, HostWrite};
use crate::store::mirror::{Change, EntryKey, Held, HostLacks, Mirror, digest};

/// Entries that one transaction of the host store takes.
const BATCH: usize = 500;
/// Longest time for the local store to take what the host store has, or the other way round.
const PATIENCE: Duration = Duration::from_secs(60);

/// The host store, and what it follows.
#[derive(Debug)]
pub(super) struct Follower {
    host: Arc<HostStore>,
}

impl Follower {
    pub(super) fn new(host: Arc<HostStore>) -> Follower {
        Follower { host }
    }

    /// The start: takes over what was changed in the host store.
    pub(super) fn import(&self, core: &Core) -> Result<()> {
        let deadline = core.clock.now() + PATIENCE;
        core.write(vec![Change::FollowHost], deadline)?;
        let theirs: BTreeMap<EntryKey, Option<Vec<u8>>> = self.host.dump()?.into_iter().map(|e| (e.key, e.value)).collect();
        let ours = core.local.everything()?;
        let ours: BTreeMap<EntryKey, Vec<u8>> =
            ours.into_iter().filter_map(|(key, local)| Some((key, local.value?.value))).collect();
        let ahead = core.local.host_lacks(usize::MAX)?;
        let ahead: BTreeMap<EntryKey, Vec<Option<[u8; 32]>>> = ahead.into_iter().map(|mark| (mark.key, mark.there)).collect();
        let keys: BTreeSet<&EntryKey> = theirs.keys().chain(ours.keys()).collect();
        let mut changes = Vec::new();
        for key in keys {
            let value = match theirs.get(key) {
                // Not UTF-8: nobody's lock. It stays where it is.
                Some(None) => continue,
                Some(Some(value)) => Some(value),
                None => None,
            };
            // It still has what was copied; or both changed, and a lock that was taken here is copied where none is there.
            let there = value.map(|value| digest(value));
            let is_behind = ahead.get(key).is_some_and(|copied| copied.contains(&there) || there.is_none());
            if value != ours.get(key) && !is_behind {
                let token = if key.lock().is_some() { core.next_token() } else { 0 };
                // It was changed in strict mode, by itself.
                changes.push(Change::SetHere(key.clone(), value.map(|value| Held { value: value.clone(), token })));
                changes.push(Change::Followed(key.clone(), there));
            }
        }
        core.write(changes, deadline)
    }

    /// Copies what the host store lacks; tells whether anything is left that can be copied.
    pub(super) fn copy(&self, core: &Core) -> Result<bool> {
        let deadline = core.clock.now() + PATIENCE;
        self.write(core.local.host_lacks(BATCH)?, |changes| core.write(changes, deadline))
    }

    /// Writes entries to the host store, which `tell` writes down before and after: a crash in between leaves nobody in doubt about
    /// what the host store may have. Tells whether there was anything to write.
    fn write(&self, mut lacking: Vec<HostLacks>, tell: impl Fn(Vec<Change>) -> Result<()>) -> Result<bool> {
        // It takes no bytes that are not UTF-8. They are nobody's lock, and stay marked.
        lacking.retain(|mark| mark.value.as_ref().is_none_or(|value| std::str::from_utf8(value).is_ok()));
        if lacking.is_empty() {
            return Ok(false);
        }
        let told = |change: fn(EntryKey, Option<[u8; 32]>) -> Change| {
            lacking.iter().map(|mark| change(mark.key.clone(), mark.value.as_deref().map(digest))).collect()
        };
        tell(told(Change::Following))?;
        let writes: Vec<HostWrite<'_>> =
            lacking.iter().map(|mark| HostWrite { key: &mark.key, value: mark.value.as_deref() }).collect();
        self.host.apply(&writes)?;
        tell(told(Change::Followed))?;
        Ok(true)
    }

    /// Strict mode begins: the host store is given what it lacked when hybrid mode ended.
    pub(super) fn catch_up(&self, local: &dyn Mirror) -> Result<()> {
        let tell = |changes| {
            let deadline = std::time::Instant::now() + PATIENCE;
            local.submit(Vec::new(), changes, deadline)?.wait(deadline)
        };
        while self.write(local.host_lacks(BATCH)?, tell)? {}
        Ok(())
    }

    /// The end: copies everything.
    pub(super) fn finish(&self, core: &Core) -> Result<()> {
        while self.copy(core)? {}
        Ok(())
    }

    /// Whether the host store answers.
    pub(super) fn ping(&self, core: &Core) -> Result<()> {
        self.host.ping(&core.step())
    }
}

impl Core {
    /// Copies to the host store what it lacks. A host store that does not work says so when it is asked for its health.
    pub(super) fn follow_on(&self) {
        if let Some(follower) = &self.follower {
            while matches!(follower.copy(self), Ok(true)) {}
        }
    }
}

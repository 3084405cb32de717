//! A store whose keys are made otherwise than this process makes them: an upgrade of Atlantis over v0.40, or the way back.
//!
//! Invariant: no store is used in which a lock may stand under a key that nobody looks at. So the locks of a store with the keys of Atlantis
//! before v0.40 move to today's keys before the store is used; a store with today's keys is refused where keys are old, because
//! two of its locks may have one old key.
//!
//! What survives: a process that is killed meanwhile. Each lock moves in one group, value and token as they are; the store is said to have
//! today's keys when all have moved, and until then the next opening goes on.
//!
//! A store that follows a Redis moves only if Redis knows all that the store has: what Redis does not know yet stands under the old keys in the
//! releases, tombstones and conflicts that are to be brought there. Who waits in a queue does so by keys, too: the queues are dropped, and who
//! waits comes again with the next plan.

use std::time::Duration;

use super::record::{CONFLICT_PREFIX, PULL_RELEASE_PREFIX, is_named};
use super::store::SledStore;
use crate::domain::key::KeyFormat;
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Change, EntryKey, Held, LocalStore as _, SyncState};

/// How long one group may take.
const WRITING: Duration = Duration::from_secs(120);

impl SledStore {
    /// Brings the store's keys to the format of this process.
    ///
    /// Errors: `InvalidConfig` if that cannot be.
    pub(super) fn settle_keys(&self) -> Result<()> {
        let found = self.with_folder(super::folder::Folder::keys)?;
        match (found, KeyFormat::of_process()) {
            (Some(KeyFormat::Old), KeyFormat::Current) => self.rekey(),
            (Some(KeyFormat::Current), KeyFormat::Old) => Err(self.has_current_keys()),
            _ => Ok(()),
        }
    }

    fn rekey(&self) -> Result<()> {
        let follows_redis = self.redis_record()?.is_some();
        let everything = self.everything()?;
        if follows_redis {
            let unsynced = everything.iter().filter(|(_, known)| known.state != SyncState::Synced).count();
            if unsynced > 0 || self.has_any(CONFLICT_PREFIX)? || self.has_any(PULL_RELEASE_PREFIX)? {
                return Err(self.is_unsynced(unsynced));
            }
        }
        for (key, known) in everything {
            let Some(held) = known.value else { continue };
            let changes = match &key {
                EntryKey::Project(name) => match moved_from(name, &held) {
                    Some([old, current]) => vec![Change::Set(current, Some(held)), Change::Set(old, None)],
                    None => continue,
                },
                EntryKey::Queue(_) => vec![Change::Set(key, None)],
                _ => continue,
            };
            let deadline = std::time::Instant::now() + WRITING;
            self.submit(Vec::new(), changes, deadline)?.wait(deadline)?;
        }
        self.with_folder(super::folder::Folder::set_keys)
    }

    fn has_any(&self, prefix: &[u8]) -> Result<bool> {
        self.tree.read(|db| Ok(db.scan_prefix(prefix).next().is_some()))
    }

    fn is_unsynced(&self, keys: usize) -> Error {
        let text = format!(
            "the store in {} has the keys of Atlantis before v0.40, and {keys} changes, releases or conflicts of which Redis does not know \
             yet: start the older release once more, with Redis in reach, until its status has no unsynced keys and no conflicts, stop it, and \
             upgrade then",
            self.dir.display()
        );
        Error::new(Code::InvalidConfig, text)
    }

    fn has_current_keys(&self) -> Error {
        let text = format!(
            "the store in {} has the keys of Atlantis v0.40 and later, and this release of Atlantis makes others (locking.key_format: old): start \
             the newer release again; or, when no lock is held there any more, give this one a new folder for locking.data_dir",
            self.dir.display()
        );
        Error::new(Code::InvalidConfig, text)
    }
}

/// The old and today's key of a lock that stands at its old one; `None` for anything else, which stays as it is. The store names a lock whose
/// key is too long to stand there by its value, and so by today's key.
fn moved_from(name: &str, held: &Held) -> Option<[EntryKey; 2]> {
    let lock = ProjectLock::parse(&held.value).ok()?;
    let [old, current] = [KeyFormat::Old, KeyFormat::Current].map(|format| lock.all_fields().key_in(format));
    let is_at_old = name == old || (name == current && !is_named(&EntryKey::Project(old.clone())));
    is_at_old.then(|| [old, current].map(EntryKey::Project))
}

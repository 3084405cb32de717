//! What a change takes with it into the queue: the caller may have left when it is made.

use super::record;
use super::transaction::Transaction;
use crate::domain::key::Fields;
use crate::error::Result;
use crate::queue::{self, PullId};
use crate::store::contract::local::EntryKey;
use crate::store::{Grant, LockKey, Release};

/// A grant of a lock to whoever asks, with what a group needs to know.
pub(super) struct OwnedGrant {
    /// Which lock.
    pub name: EntryKey,
    /// The value to store.
    pub value: Vec<u8>,
    /// Where the by-pull index has the pull that the value names, if it is a project lock's.
    pub pull_prefix: Option<Vec<u8>>,
    /// The repository whose queue counts, and the pull that asks; `None` where none does.
    order: Option<(String, PullId)>,
}

impl From<&Grant<'_>> for OwnedGrant {
    fn from(grant: &Grant<'_>) -> OwnedGrant {
        OwnedGrant {
            name: EntryKey::from(grant.key),
            value: grant.value.to_vec(),
            pull_prefix: grant.pull().map(record::pull_prefix),
            order: grant.lock.filter(|_| grant.in_order).map(|lock| (lock.pull().repo.to_owned(), PullId::of(lock))),
        }
    }
}

impl OwnedGrant {
    /// How many bytes it holds.
    pub(super) fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether the lock's key has a gate that lets the caller in; `None` if it keeps the caller out.
    pub(super) fn is_let_in(&self, tx: &Transaction<'_>) -> Result<Option<bool>> {
        let Some((repo, pull)) = &self.order else { return Ok(Some(false)) };
        let Some((_, queue)) = tx.entry(&record::key_of(&EntryKey::Queue(repo.clone())))? else { return Ok(Some(false)) };
        Ok(queue::lets_in(&queue, self.name.name(), pull))
    }
}

/// A [`Release`] that owns its texts.
pub(super) struct OwnedRelease {
    key: OwnedKey,
    fields: Option<OwnedFields>,
    pull_num: Option<i64>,
    value: Option<Vec<u8>>,
}

enum OwnedKey {
    Project(String),
    Command(String),
}

struct OwnedFields {
    repo: String,
    path: String,
    workspace: String,
    project: String,
}

impl From<&Release<'_>> for OwnedRelease {
    fn from(release: &Release<'_>) -> OwnedRelease {
        let key = match release.key {
            LockKey::Project(key) => OwnedKey::Project(key.to_owned()),
            LockKey::Command(name) => OwnedKey::Command(name.to_owned()),
        };
        let value = release.value.map(<[u8]>::to_vec);
        OwnedRelease { key, fields: release.fields.map(OwnedFields::from), pull_num: release.pull_num, value }
    }
}

impl From<Fields<'_>> for OwnedFields {
    fn from(fields: Fields<'_>) -> OwnedFields {
        OwnedFields {
            repo: fields.repo.to_owned(),
            path: fields.path.to_owned(),
            workspace: fields.workspace.to_owned(),
            project: fields.project.to_owned(),
        }
    }
}

impl OwnedRelease {
    /// About how many bytes it holds.
    pub(super) fn len(&self) -> usize {
        let name = match &self.key {
            OwnedKey::Project(name) | OwnedKey::Command(name) => name,
        };
        name.len() + self.value.as_ref().map_or(0, Vec::len)
    }

    /// The release as it was given.
    pub(super) fn borrowed(&self) -> Release<'_> {
        let key = match &self.key {
            OwnedKey::Project(key) => LockKey::Project(key),
            OwnedKey::Command(name) => LockKey::Command(name),
        };
        let fields =
            self.fields.as_ref().map(|OwnedFields { repo, path, workspace, project }| Fields { repo, path, workspace, project });
        Release { key, fields, pull_num: self.pull_num, value: self.value.as_deref() }
    }
}

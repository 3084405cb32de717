//! What a change takes with it into the queue: the caller may have left when it is made.

use super::record;
use super::transaction::Transaction;
use crate::domain::key::Fields;
use crate::domain::lock::ProjectLock;
use crate::error::Result;
use crate::store::contract::local::EntryKey;
use crate::store::{Expected, Grant, LockKey, Release};

/// A grant of a lock to whoever asks, with what a group needs to know.
pub(super) struct OwnedGrant {
    /// Which lock.
    pub name: EntryKey,
    /// The value to store.
    pub value: Vec<u8>,
    /// Where the by-pull index has the pull that the value names, if it is a project lock's.
    pub pull_prefix: Option<Vec<u8>>,
    /// Whether a queue counts.
    in_order: bool,
}

impl From<&Grant<'_>> for OwnedGrant {
    fn from(grant: &Grant<'_>) -> OwnedGrant {
        OwnedGrant {
            name: EntryKey::from(grant.key),
            value: grant.value.to_vec(),
            pull_prefix: grant.pull().map(record::pull_prefix),
            in_order: grant.in_order,
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
        if !self.in_order {
            return Ok(Some(false));
        }
        let (Some(key), Ok(lock)) = (self.name.lock(), ProjectLock::parse(&self.value)) else { return Ok(Some(false)) };
        let grant = Grant { key, lock: Some(&lock), value: &self.value, in_order: true };
        let queue = grant.queue_key().map(|queue| tx.entry(&record::key_of(&EntryKey::from(queue)))).transpose()?.flatten();
        Ok(grant.is_let_in(queue.as_ref().map(|(_, queue)| queue.as_slice())))
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

/// An [`Expected`] that owns its bytes.
pub(super) enum OwnedExpected {
    Any,
    Absent,
    Bytes(Vec<u8>),
}

impl From<Expected<'_>> for OwnedExpected {
    fn from(expected: Expected<'_>) -> OwnedExpected {
        match expected {
            Expected::Any => OwnedExpected::Any,
            Expected::Absent => OwnedExpected::Absent,
            Expected::Bytes(bytes) => OwnedExpected::Bytes(bytes.to_vec()),
        }
    }
}

impl OwnedExpected {
    /// The expectation as it was given.
    pub(super) fn borrowed(&self) -> Expected<'_> {
        match self {
            OwnedExpected::Any => Expected::Any,
            OwnedExpected::Absent => Expected::Absent,
            OwnedExpected::Bytes(bytes) => Expected::Bytes(bytes),
        }
    }

    /// How many bytes it holds.
    pub(super) fn len(&self) -> usize {
        match self {
            OwnedExpected::Any | OwnedExpected::Absent => 0,
            OwnedExpected::Bytes(bytes) => bytes.len(),
        }
    }
}

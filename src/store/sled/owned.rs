//! What a change takes with it into the queue: the caller may have left when it is made.

use crate::domain::key::Fields;
use crate::store::{Expected, LockKey, Release};

/// A [`Release`] that owns its texts.
pub(super) struct OwnedRelease {
    key: OwnedKey,
    fields: Option<OwnedFields>,
    pull_num: Option<i64>,
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
        OwnedRelease { key, fields: release.fields.map(OwnedFields::from), pull_num: release.pull_num }
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
        match &self.key {
            OwnedKey::Project(name) | OwnedKey::Command(name) => name.len(),
        }
    }

    /// The release as it was given.
    pub(super) fn borrowed(&self) -> Release<'_> {
        let key = match &self.key {
            OwnedKey::Project(key) => LockKey::Project(key),
            OwnedKey::Command(name) => LockKey::Command(name),
        };
        let fields =
            self.fields.as_ref().map(|OwnedFields { repo, path, workspace, project }| Fields { repo, path, workspace, project });
        Release { key, fields, pull_num: self.pull_num }
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

//! What an audit trail tells of: one event, one line. Of a lock's value only the fields of [`Holder`] are read.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::call::AnsweredBy;
use crate::domain::json::parse_json;
use crate::domain::key::Fields;
use crate::error::Error;
use crate::store::LockKey;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A lock was taken.
    Grant,
    /// A lock was not taken, because it is held.
    Refusal,
    /// A lock was released.
    Release,
    /// An operator removed whatever was at a lock's key.
    Discard,
    /// An operation that would have changed a lock failed; its code tells whether it may have done so.
    Error,
    /// Hybrid: the local store decides from now on.
    Fallback,
    /// Hybrid: Redis decides again.
    Recovery,
    /// Hybrid: the two stores disagree about a lock.
    Conflict,
    /// Hybrid: the local store is fit to decide if Redis fails.
    Armed,
    /// Hybrid: it is not.
    Disarmed,
}

/// One line of the trail, but for its time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Event<'a> {
    /// What happened.
    pub kind: Kind,
    /// The operation that it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'a str>,
    /// Key of the project's lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// The command, for a command's global lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<&'a str>,
    /// Repository of the pull that takes, asks for, or held the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<&'a str>,
    /// Number of that pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<i64>,
    /// The user whom the lock names. Who released it is not known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// For a refusal or a conflict, who holds the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<&'a Holder<'a>>,
    /// The store that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<AnsweredBy>,
    /// Fencing token of a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// Name of an error's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    /// More, for a person: an error's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// Identity of the instance that writes.
    pub instance: &'a str,
}

impl<'a> Event<'a> {
    /// An event of which no more is known.
    pub fn new(kind: Kind, instance: &'a str) -> Event<'a> {
        Event {
            kind,
            operation: None,
            key: None,
            command: None,
            repo: None,
            pull: None,
            user: None,
            holder: None,
            store: None,
            token: None,
            code: None,
            detail: None,
            instance,
        }
    }

    /// An event about this lock.
    pub(crate) fn about(self, key: LockKey<'a>) -> Event<'a> {
        match key {
            LockKey::Project(key) => Event { key: Some(key), ..self },
            LockKey::Command(name) => Event { command: Some(name), ..self },
        }
    }

    /// An event of this pull.
    pub(crate) fn of(self, holder: &'a Holder<'_>) -> Event<'a> {
        Event { repo: Some(&holder.project.repo), pull: Some(holder.pull.num), user: Some(&holder.user.name), ..self }
    }

    pub(super) fn failed(self, error: &'a Error) -> Event<'a> {
        Event { code: Some(error.code().name()), detail: Some(error.message()), ..self }
    }
}

/// All that is read of a lock's value: who holds it, and the fields that make its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Holder<'a> {
    #[serde(borrow, rename = "Project")]
    project: HolderProject<'a>,
    #[serde(borrow, rename = "Workspace")]
    workspace: Cow<'a, str>,
    #[serde(rename = "Pull")]
    pull: HolderPull,
    #[serde(borrow, rename = "User", default)]
    user: HolderUser<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct HolderProject<'a> {
    #[serde(borrow, rename = "ProjectName", default)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "RepoFullName")]
    repo: Cow<'a, str>,
    #[serde(borrow, rename = "Path")]
    path: Cow<'a, str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct HolderPull {
    #[serde(rename = "Num")]
    num: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct HolderUser<'a> {
    #[serde(borrow, rename = "Username", default)]
    name: Cow<'a, str>,
}

impl<'a> Holder<'a> {
    /// The holder whom a lock's value names; `None` if it is no project's lock.
    pub fn of(value: &'a [u8]) -> Option<Holder<'a>> {
        parse_json(value).ok()
    }

    pub(super) fn key(&self) -> String {
        let HolderProject { name, repo, path } = &self.project;
        Fields { repo, path, workspace: &self.workspace, project: name }.key()
    }
}

impl Serialize for Holder<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            repo: &'a str,
            pull: i64,
            user: &'a str,
        }
        Shown { repo: &self.project.repo, pull: self.pull.num, user: &self.user.name }.serialize(serializer)
    }
}

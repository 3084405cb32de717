//! What an audit trail tells of: one event, one line. Of a lock's value only the fields of [`Holder`] are read.

use serde::{Deserialize, Serialize};

use super::actor::{Actor, Person, Via};
use crate::call::AnsweredBy;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::Error;
use crate::store::LockKey;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A change is about to be asked for; what came of it is a line of its own (`locking.audit.required`).
    Intent,
    /// What was to be changed was not there, after an intent.
    Unchanged,
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
    /// Pulls wait for each other in a circle of locks.
    Deadlock,
    /// A pull gave locks back to end such a circle.
    Yield,
    /// A pull was taken out of the queue.
    Leave,
    /// Locks are not to be taken for now.
    Freeze,
    /// They may be taken again.
    Thaw,
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
    /// A phase of moving all locks to another store has ended.
    Migration,
    /// What `atlock doctor` found was put right.
    Repair,
    /// A server that runs is about to open other stores, has done so, or could not.
    Change,
    /// The embedded store was written anew: sealed, in clear, or into fresh files.
    Reseal,
    /// Somebody was refused who may not: a wrong password or token, or a user of this machine.
    Denied,
    /// The oldest file of the trail was removed, as the settings say.
    Dropped,
}

/// A file of the trail that was removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dropped {
    /// Its name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// The hash of its last line, which the first line that is left names.
    pub last: String,
}

/// One line of the trail, but for its time and the hash of the line before.
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
    /// The user in whose name the lock is taken or asked for, as the lock itself says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// By which way it came; absent if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// Who did it; absent if that is not known, or was the server itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'a Person>,
    /// Who holds the lock that was refused or is in conflict, or held the one that was released: not who released it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder<'a>>,
    /// The store that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<AnsweredBy>,
    /// Fencing token of a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<FencingToken>,
    /// Name of an error's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    /// More, for a person: an error's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// Names of the settings that changed.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub settings: &'a [String],
    /// The file that was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<&'a Dropped>,
    /// The request that an intent and its outcome have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<&'a str>,
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
            via: None,
            by: None,
            holder: None,
            store: None,
            token: None,
            code: None,
            detail: None,
            settings: &[],
            dropped: None,
            request: None,
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

    /// An event that this actor brought about.
    pub fn done_by(self, actor: &'a Actor) -> Event<'a> {
        Event { via: actor.via, by: actor.by.as_ref(), ..self }
    }

    /// An event about a lock that the pull and the user had whom it names.
    pub(crate) fn held_by(self, lock: &'a ProjectLock<'_>) -> Event<'a> {
        let holder = Holder::of(lock);
        Event { repo: Some(holder.repo), pull: Some(holder.pull), holder: Some(holder), ..self }
    }

    /// An event of the pull and the user that this lock names, who take it or ask for it.
    pub(crate) fn of(self, lock: &'a ProjectLock<'_>) -> Event<'a> {
        let Holder { repo, pull, user } = Holder::of(lock);
        Event { repo: Some(repo), pull: Some(pull), user: Some(user), ..self }
    }

    /// An event of this error.
    pub(crate) fn failed(self, error: &'a Error) -> Event<'a> {
        Event { code: Some(error.code().name()), detail: Some(error.message()), ..self }
    }
}

/// All that is shown of a lock: who holds it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Holder<'a> {
    repo: &'a str,
    pull: i64,
    user: &'a str,
}

impl<'a> Holder<'a> {
    /// This holder.
    pub(super) fn named(repo: &'a str, pull: i64, user: &'a str) -> Holder<'a> {
        Holder { repo, pull, user }
    }

    /// The holder whom a lock names.
    pub(crate) fn of(lock: &'a ProjectLock<'_>) -> Holder<'a> {
        let PullRef { repo, num } = lock.pull();
        Holder { repo, pull: num, user: lock.user() }
    }
}

//! What an audit trail tells of: one event, one line. Of a lock's value only the fields of [`Holder`] are read.

use serde::{Deserialize, Serialize};

use crate::call::AnsweredBy;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
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
    /// Pulls wait for each other in a circle of locks.
    Deadlock,
    /// A pull gave locks back to end such a circle.
    Yield,
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
}

/// Who asked for an operation, other than the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A program of this machine, by the server's socket.
    Socket {
        /// Its process when it connected; 0 if it is not to be seen from here, as from another container.
        pid: i32,
        /// The user that it ran as.
        uid: u32,
    },
    /// A signal to the server's process.
    Signal,
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
    /// The user whom the lock names: not who released it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// Who asked for it; absent where that was the server itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// For a refusal or a conflict, who holds the lock.
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
            by: None,
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

    /// An event of the pull and the user that this lock names.
    pub(crate) fn of(self, lock: &'a ProjectLock<'_>) -> Event<'a> {
        let Holder { repo, pull, user } = Holder::of(lock);
        Event { repo: Some(repo), pull: Some(pull), user: Some(user), ..self }
    }

    pub(super) fn failed(self, error: &'a Error) -> Event<'a> {
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
    /// The holder whom a lock names.
    pub(crate) fn of(lock: &'a ProjectLock<'_>) -> Holder<'a> {
        let PullRef { repo, num } = lock.pull();
        Holder { repo, pull: num, user: lock.user() }
    }
}

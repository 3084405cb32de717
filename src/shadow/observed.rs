//! What is told of an operation: what was asked, and what the store that decides answered.

use std::collections::HashSet;
use std::time::Duration;

use crate::domain::key::Fields;
use crate::domain::lock::ProjectLock;
use crate::operation::Operation;
use crate::store::contract::local::EntryKey;
use crate::store::{Listing, LockKey, OwnedExpected, Release};

/// What was asked.
#[derive(Clone, Debug)]
pub enum Asked {
    /// To take a lock.
    Grant {
        /// Which.
        key: EntryKey,
        /// Its value.
        value: Vec<u8>,
    },
    /// To release a lock.
    Release {
        /// Which.
        key: EntryKey,
        /// If it is this one.
        only_if: Condition,
    },
    /// To remove whatever is there.
    Discard(EntryKey),
    /// What is there: a lock, a command's lock, a pull status.
    Get(EntryKey),
    /// To replace a pull status.
    Swap {
        /// Which.
        key: EntryKey,
        /// If it is this.
        expected: OwnedExpected,
        /// By this; `None` deletes.
        new: Option<Vec<u8>>,
    },
    /// All locks.
    List {
        /// Whether the shadow itself asks, to be filled: nobody's operation.
        fill: bool,
        /// Whether a change of any lock meanwhile may garble others in the list: stock reads its file after the transaction.
        fragile: bool,
    },
    /// To release all locks of a pull.
    ReleaseByPull {
        /// The repository.
        repo: String,
        /// The pull's number.
        num: i64,
    },
}

/// A [`Release`]'s conditions, with their texts.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    fields: Option<[String; 4]>,
    pull_num: Option<i64>,
    value: Option<Vec<u8>>,
}

/// What was answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The lock was granted.
    Granted,
    /// Somebody holds it.
    Held(Said),
    /// Nobody holds it, and it is kept for another pull.
    Kept,
    /// What is, or was, at the key.
    Was(Said),
    /// It was replaced as asked.
    Swapped,
    /// It was replaced by this, which the one who asked did not know before.
    Left(Said),
    /// These locks: all, or those that were released.
    Locks(Listing),
    /// It failed: what was decided is not known.
    NotKnown,
}

/// What an answer says of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// There is none.
    Nothing,
    /// It is this.
    This(Vec<u8>),
    /// There is one, and it was not told which.
    Something,
}

/// Which other operations an operation has crossed: the order of both is not known.
#[derive(Clone, Debug, Default)]
pub(super) struct Crossed {
    /// Any that may concern it.
    pub all: bool,
    /// For an operation on many keys: the keys at which something was changed meanwhile.
    pub keys: HashSet<EntryKey>,
}

/// An operation that has ended.
#[derive(Debug)]
pub(super) struct Observed {
    pub asked: Asked,
    pub answer: Answer,
    pub crossed: Crossed,
    /// How long the caller waited for the store that decides.
    pub took: Duration,
    /// Whether operations before this one were not told.
    pub after_gap: bool,
}

impl Asked {
    /// The key that it concerns; `None` if there may be many.
    pub(super) fn key(&self) -> Option<&EntryKey> {
        match self {
            Asked::Grant { key, .. } | Asked::Release { key, .. } | Asked::Swap { key, .. } => Some(key),
            Asked::Discard(key) | Asked::Get(key) => Some(key),
            Asked::List { .. } | Asked::ReleaseByPull { .. } => None,
        }
    }

    /// Whether it may change something.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Asked::Get(_) | Asked::List { .. })
    }

    pub(super) fn operation(&self) -> Operation {
        let is_command = matches!(self.key(), Some(EntryKey::Command(_)));
        match self {
            Asked::Grant { .. } if is_command => Operation::LockCommand,
            Asked::Grant { .. } => Operation::TryLock,
            Asked::Release { .. } if is_command => Operation::UnlockCommand,
            Asked::Release { .. } => Operation::Unlock,
            Asked::Discard(_) => Operation::Discard,
            Asked::Get(_) if is_command => Operation::CheckCommandLock,
            Asked::Get(EntryKey::Status(_)) => Operation::PullStatus,
            Asked::Get(_) => Operation::GetLock,
            Asked::Swap { .. } => Operation::SwapPullStatus,
            Asked::List { .. } => Operation::List,
            Asked::ReleaseByPull { .. } => Operation::UnlockByPull,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Asked::Grant { value, .. } => value.len(),
            Asked::Swap { new, .. } => new.as_ref().map_or(0, Vec::len),
            _ => 0,
        }
    }
}

impl Observed {
    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let answer = match &self.answer {
            Answer::Held(said) | Answer::Was(said) | Answer::Left(said) => said.this().map_or(0, <[u8]>::len),
            Answer::Locks(locks) => locks.values().map(<[u8]>::len).sum(),
            Answer::Granted | Answer::Kept | Answer::Swapped | Answer::NotKnown => 0,
        };
        size_of::<Observed>() + self.asked.bytes() + answer
    }

    /// What the store that decides has at the key afterwards; `None` if its answer does not tell.
    pub(super) fn after(&self) -> Option<Option<&[u8]>> {
        match (&self.asked, &self.answer) {
            (_, Answer::NotKnown | Answer::Locks(_)) => None,
            (Asked::Grant { value, .. }, Answer::Granted) => Some(Some(value)),
            (Asked::Swap { new, .. }, Answer::Swapped) => Some(new.as_deref()),
            (_, Answer::Kept) => Some(None),
            (Asked::Release { only_if, .. }, Answer::Was(Said::Nothing)) if !only_if.is_none() => None,
            (Asked::Release { .. } | Asked::Discard(_), Answer::Was(_)) => Some(None),
            (_, Answer::Held(said) | Answer::Was(said) | Answer::Left(said)) => match said {
                Said::Nothing => Some(None),
                Said::This(value) => Some(Some(value)),
                Said::Something => None,
            },
            (_, Answer::Granted | Answer::Swapped) => None,
        }
    }
}

impl Answer {
    /// Whether another store that was asked the same, and answers like this, would have decided the same. Fencing tokens differ.
    pub(super) fn agrees(&self, shadow: &Answer) -> bool {
        match (self, shadow) {
            (Answer::Granted, Answer::Granted) | (Answer::Kept, Answer::Kept) | (Answer::Swapped, Answer::Swapped) => true,
            (Answer::Held(said), Answer::Held(other)) | (Answer::Was(said), Answer::Was(other)) => said.agrees(other),
            (Answer::Left(said), Answer::Left(other)) => said.agrees(other),
            _ => false,
        }
    }

    /// For a person: whose lock it is, and nothing that may be a secret.
    pub(super) fn described(&self) -> String {
        match self {
            Answer::Granted => "granted".to_owned(),
            Answer::Held(said) => format!("held by {}", said.described()),
            Answer::Kept => "kept for another pull".to_owned(),
            Answer::Was(said) => said.described(),
            Answer::Swapped | Answer::Left(_) => "replaced".to_owned(),
            Answer::Locks(locks) => format!("{} locks", locks.len()),
            Answer::NotKnown => "not known".to_owned(),
        }
    }
}

impl Said {
    /// Of what a store has.
    pub fn of(value: Option<Vec<u8>>) -> Said {
        value.map_or(Said::Nothing, Said::This)
    }

    fn this(&self) -> Option<&[u8]> {
        match self {
            Said::This(value) => Some(value),
            Said::Nothing | Said::Something => None,
        }
    }

    fn agrees(&self, other: &Said) -> bool {
        match (self, other) {
            (Said::Something, other) | (other, Said::Something) => *other != Said::Nothing,
            (said, other) => said == other,
        }
    }

    fn described(&self) -> String {
        match self {
            Said::Nothing => "nothing".to_owned(),
            Said::Something => "something".to_owned(),
            Said::This(value) => described(value),
        }
    }
}

/// Whose lock a value is.
pub(super) fn described(value: &[u8]) -> String {
    match ProjectLock::parse(value) {
        Ok(lock) => format!("pull #{} of {}", lock.pull().num, lock.pull().repo),
        Err(_) => format!("an entry of {} bytes", value.len()),
    }
}

impl From<&Release<'_>> for Condition {
    fn from(release: &Release<'_>) -> Condition {
        let owned = |fields: Fields<'_>| [fields.repo, fields.path, fields.workspace, fields.project].map(str::to_owned);
        let (fields, value) = (release.fields.map(owned), release.value.map(<[u8]>::to_vec));
        Condition { fields, pull_num: release.pull_num, value }
    }
}

impl Condition {
    /// Only if this pull number holds it; `None`: whoever does.
    pub fn of_pull(pull_num: Option<i64>) -> Condition {
        Condition { pull_num, ..Condition::default() }
    }

    fn is_none(&self) -> bool {
        self.fields.is_none() && self.pull_num.is_none() && self.value.is_none()
    }

    /// The release of this key with these conditions.
    pub(super) fn release<'a>(&'a self, key: LockKey<'a>) -> Release<'a> {
        let fields = |[repo, path, workspace, project]: &'a [String; 4]| Fields { repo, path, workspace, project };
        Release { key, fields: self.fields.as_ref().map(fields), pull_num: self.pull_num, value: self.value.as_deref() }
    }
}

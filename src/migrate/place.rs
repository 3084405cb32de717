//! A store as a migration sees it: what it has, changes of it, its mark.

use crate::error::Result;
use crate::store::contract::local::EntryKey;
use crate::store::moved::Mark;

use super::entry::Survey;
use super::merge::Step;

/// A store that is opened, to look at it or to change it.
pub(super) trait Place {
    /// All that it has.
    fn survey(&self) -> Result<Survey>;
    /// Makes changes, each if the entry is as it was seen; durable when it returns. How many were made.
    fn make(&self, steps: &[Step]) -> Result<usize>;
    /// Why it cannot have such an entry; `None` if it can.
    fn cannot_have(&self, _key: &EntryKey, _value: &[u8]) -> Option<&'static str> {
        None
    }
    /// Whether it keeps fencing tokens.
    fn has_tokens(&self) -> bool {
        true
    }
    /// Its mark.
    fn mark(&self) -> Result<Option<Mark>>;
    /// Replaces its mark, which was `seen`.
    fn set_mark(&self, seen: Option<&Mark>, new: Option<&Mark>) -> Result<()>;
    /// Its clock: no fencing token that it gives from now on is smaller. Microseconds since 1970.
    fn clock(&self) -> Result<u64>;
    /// What tells it from every other store: two that share one of these are one.
    fn identities(&self) -> Result<Vec<String>>;
    /// Why it cannot be migrated now, with what to do.
    fn problems(&self, side: Role) -> Result<Vec<String>>;
    /// What an operator should know.
    fn warnings(&self, side: Role) -> Vec<String>;
    /// The local store of hybrid mode beside it (a Redis) must not decide until it was brought up to date; `mark` is its own from now on.
    fn disarm_companion(&self, mark: Option<&Mark>) -> Result<()>;
    /// Closes it.
    fn close(&self) -> Result<()>;
}

/// What a store is in a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Locks leave it.
    Source,
    /// Locks come to it.
    Target,
}

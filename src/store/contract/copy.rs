//! What a store must be able to do to be kept as a copy of the local store: see [`crate::store::host`].

use super::local::EntryKey;
use crate::error::Result;
use crate::store::Store;

/// A store that can be kept as a copy. Safe from any thread.
pub trait CopyStore: Store {
    /// Every entry, project locks, command locks and pull statuses, and the mark.
    ///
    /// Errors: `HostStore` also if the store has no such operation.
    fn dump(&self) -> Result<HostDump>;

    /// Sets and deletes entries in this order, whatever was there: all of them durably, or on an error of code `HostStore` none. With
    /// a mark, that is stored in the same step, in place of the one before.
    ///
    /// Errors: `InvalidArgument` for a value that is not UTF-8; `HostStore` also if the store has no such operation.
    fn apply(&self, writes: &[HostWrite<'_>], mark: Option<&str>) -> Result<()>;

    /// Says something to the operator, until the store is opened again.
    fn warn(&self, text: String);
}

/// An entry as it was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Which entry.
    pub key: EntryKey,
    /// Its bytes, which may be no JSON; `None` if they are not even UTF-8.
    pub value: Option<Vec<u8>>,
}

/// All that was found there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDump {
    /// Every entry.
    pub entries: Vec<HostEntry>,
    /// The mark of the last change that had one; `None` if there never was one.
    pub mark: Option<HostMark>,
}

/// A mark, as a host store gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMark {
    /// Its text.
    pub text: String,
    /// Whether anything was written since, by whomever.
    pub written_since: bool,
}

/// A change to make there.
#[derive(Clone, Copy, Debug)]
pub struct HostWrite<'a> {
    /// Which entry.
    pub key: &'a EntryKey,
    /// What to store there, UTF-8; `None` deletes.
    pub value: Option<&'a [u8]>,
}

//! Reading one entry of the tree.

use sled::IVec;

use super::database::{Database, Scan};
use super::record::{Header, Stored};
use crate::error::{Code, Error, Result};
use crate::sealing::Sealing;

/// The tree as its readers see it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub db: &'a dyn Database,
    pub sealing: &'a Sealing,
}

impl<'a> View<'a> {
    /// One tree entry.
    pub(super) fn get(self, key: &[u8]) -> Result<Option<IVec>> {
        self.db.get(key).map_err(failed)
    }

    /// All tree entries whose keys begin with `prefix`.
    pub(super) fn scan_prefix(self, prefix: &[u8]) -> Scan<'a> {
        self.db.scan_prefix(prefix)
    }

    /// What is stored at this key.
    pub(super) fn stored(self, key: &[u8]) -> Result<Option<Stored>> {
        self.get(key)?.map(|bytes| Stored::decode(key, bytes)).transpose()
    }

    /// The header and the value of an entry.
    pub(super) fn open(self, key: &[u8], stored: Stored) -> Result<(Header, Vec<u8>)> {
        stored.open(key, self.sealing, |key| self.get(key))
    }

    /// The value of the entry at this key.
    pub(super) fn value(self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(stored) = self.stored(key)? else { return Ok(None) };
        self.open(key, stored).map(|(_, value)| Some(value))
    }
}

/// sled's error as ours.
pub(super) fn failed(error: sled::Error) -> Error {
    Error::new(Code::StoreFailed, format!("sled: {error}"))
}

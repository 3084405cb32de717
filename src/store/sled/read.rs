//! Reading one entry of the tree.

use sled::IVec;

use super::database::Database;
use super::record::Stored;
use crate::error::{Code, Error, Result};

/// One tree entry.
pub(super) fn read_entry(db: &dyn Database, key: &[u8]) -> Result<Option<IVec>> {
    db.get(key).map_err(failed)
}

/// The value of the entry at this key.
pub(super) fn read_value(db: &dyn Database, key: &[u8]) -> Result<Option<Vec<u8>>> {
    match read_entry(db, key)? {
        Some(bytes) => Stored::decode(key, bytes)?.value(key, |key| read_entry(db, key)).map(Some),
        None => Ok(None),
    }
}

/// sled's error as ours.
pub(super) fn failed(error: sled::Error) -> Error {
    Error::new(Code::StoreFailed, format!("sled: {error}"))
}

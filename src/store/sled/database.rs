//! The database under the engine: sled, or in tests what keeps no more than the engine relies on of sled (`simulated/database.rs`).
//!
//! What the engine relies on (sled 0.34.7; the places are in `group.rs`, `journal.rs`, `record.rs`):
//! - What opening recovers is a beginning of the database's log; it cuts the log behind that.
//! - A batch is recovered whole or not at all.
//! - `flush` hands all that was written to the kernel, and makes nothing durable; what is durable is what a sync of the file `db`
//!   behind that made so.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sled::IVec;

use super::health::panicked;
use super::record::SEGMENT;
use crate::error::{Code, Error, Result};

/// Bounds sled's page cache; bytes.
const CACHE_BYTES: u64 = 8 << 20;

/// A tree entry to put, or with `None` to remove.
pub(crate) type Write = (Vec<u8>, Option<IVec>);

/// Entries in the order of their keys.
pub(crate) type Scan<'a> = Box<dyn Iterator<Item = sled::Result<(IVec, IVec)>> + 'a>;

/// An open database. Dropping it closes it, and may panic ([`close`]).
pub(crate) trait Database: Debug + Send + Sync {
    fn get(&self, key: &[u8]) -> sled::Result<Option<IVec>>;
    /// All entries whose keys begin with `prefix`.
    fn scan_prefix(&self, prefix: &[u8]) -> Scan<'_>;
    fn insert(&self, key: &[u8], value: IVec) -> sled::Result<()>;
    fn remove(&self, key: &[u8]) -> sled::Result<()>;
    /// Makes these writes, all or none of them, whatever happens.
    fn apply_batch(&self, writes: Vec<Write>) -> sled::Result<()>;
    fn flush(&self) -> sled::Result<()>;
}

impl Database for sled::Db {
    fn get(&self, key: &[u8]) -> sled::Result<Option<IVec>> {
        sled::Tree::get(self, key)
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Scan<'_> {
        Box::new(sled::Tree::scan_prefix(self, prefix))
    }

    fn insert(&self, key: &[u8], value: IVec) -> sled::Result<()> {
        sled::Tree::insert(self, key, value).map(drop)
    }

    fn remove(&self, key: &[u8]) -> sled::Result<()> {
        sled::Tree::remove(self, key).map(drop)
    }

    fn apply_batch(&self, writes: Vec<Write>) -> sled::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        sled::Tree::apply_batch(self, batch)
    }

    fn flush(&self) -> sled::Result<()> {
        sled::Tree::flush(self).map(drop)
    }
}

/// Opens sled.
pub(super) fn open_sled(store: &Path) -> sled::Result<Box<dyn Database>> {
    let config = sled::Config::new()
        .path(store)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT)
        .mode(sled::Mode::LowSpace)
        // Every batch is flushed; a timer would only write in between.
        .flush_every_ms(None);
    Ok(Box::new(config.open()?))
}

/// Closes a database. sled unwraps the error of its last sync.
pub(super) fn close(db: Box<dyn Database>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(|| drop(db))).map_err(|panic| {
        let text = "sled failed while it was closed; what was acknowledged had been synced before";
        Error::new(Code::StoreFailed, format!("{text} ({})", panicked(&*panic).message()))
    })
}

//! Opening strict mode: Atlantis's own store or the embedded one, alone.

use std::path::Path;
use std::sync::Arc;

use super::handover::{fetch_from_redis, lacking, note_blindness};
use super::host::{no_host, refuse_incomplete, refuse_left_behind};
use super::stores::Stores;
use crate::config::{Backend, Config, NO_DATA_DIR};
use crate::error::{Code, Error, Result};
use crate::hybrid::catch_up;
use crate::process::Process;
use crate::store::Store;
use crate::store::contract::local::LocalStore as _;
use crate::store::host::HostStore;

/// Opens strict mode's store, after hybrid or native mode with everything in it that was held there; and what it may lack, if that
/// is allowed.
pub(super) fn open(
    stores: &dyn Stores,
    config: &Config,
    host: Option<HostStore>,
    process: &Process<'_>,
) -> Result<(Box<dyn Store>, Option<String>)> {
    let sled = |folder: &Path| stores.local(folder, &process.clock);
    match (config.locking.backend, host, config.locking.data_dir.as_deref()) {
        (Backend::Boltdb, Some(host), Some(folder)) if stores.has_local(folder)? => {
            let host = Arc::new(host);
            let local = sled(folder)?;
            let record = local.redis_record()?;
            local.close()?;
            let warning = fetch_from_redis(stores, config, Some(Arc::clone(&host)), record, process)?;
            let local = sled(folder)?;
            note_blindness(&local, warning.is_some(), process)?;
            match catch_up(&*host, &local, &*process.clock)? {
                None => refuse_left_behind(&local, folder)?,
                Some(lacks) => {
                    refuse_incomplete(&lacks, config)?;
                    note_blindness(&local, !lacks.is_empty(), process)?;
                }
            }
            local.close()?;
            let host = Arc::into_inner(host).ok_or_else(|| Error::new(Code::Internal, "the host store is still in use"))?;
            Ok((Box::new(host), warning))
        }
        (Backend::Boltdb, Some(host), _) => Ok((Box::new(host), None)),
        (Backend::Boltdb, None, _) => Err(no_host()),
        (Backend::Sled, _, Some(folder)) => {
            let local = sled(folder)?;
            let record = local.redis_record()?;
            if lacking(record.as_ref(), &config.locking.enhanced).is_none() {
                return Ok((Box::new(local), None));
            }
            local.close()?;
            let warning = fetch_from_redis(stores, config, None, record, process)?;
            let local = sled(folder)?;
            note_blindness(&local, warning.is_some(), process)?;
            Ok((Box::new(local), warning))
        }
        (Backend::Sled, _, None) => Err(Error::new(Code::InvalidConfig, NO_DATA_DIR)),
    }
}

//! Opening hybrid mode: the local store, with Atlantis's own behind it if there is one, and Redis if it can be used.

use std::sync::Arc;

use super::host::no_host;
use super::stores::Stores;
use crate::config::{Backend, Config, Mode, NO_DATA_DIR};
use crate::error::{Code, Error, Result};
use crate::hybrid::{HybridStore, Parts};
use crate::process::Process;
use crate::store::Store as _;
use crate::store::contract::copy::CopyStore;
use crate::store::contract::local::LocalStore;
use crate::store::contract::shared::SharedStore;
use crate::store::host::HostStore;
use crate::sync::Mutex;

/// Opens hybrid mode and starts probing.
pub(super) fn open(stores: &dyn Stores, config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<HybridStore> {
    let store = both(stores, config, host.map(Arc::new), process)?;
    match store.start_probing() {
        Ok(()) => Ok(store),
        Err(error) => store.close().and(Err(error)),
    }
}

/// Opens both stores and brings them together; nobody probes them. (A host store has its thread all the same.) Other modes do so to
/// hand locks over.
pub(super) fn both(
    stores: &dyn Stores,
    config: &Config,
    host: Option<Arc<HostStore>>,
    process: &Process<'_>,
) -> Result<HybridStore> {
    let Some(folder) = &config.locking.data_dir else {
        return Err(Error::new(Code::InvalidConfig, NO_DATA_DIR));
    };
    let host = match (config.locking.backend, host) {
        (Backend::Boltdb, Some(host)) => Some((host as Arc<dyn CopyStore>, config.mode() != Mode::Hybrid)),
        (Backend::Boltdb, None) => return Err(no_host()),
        (Backend::Sled, _) => None,
    };
    let local: Arc<dyn LocalStore> = Arc::new(stores.local(folder, &process.clock)?);
    let redis = stores.redis(&config.locking.enhanced.redis);
    let moved = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&moved);
    let connect = move |name: &str| {
        let opened = redis(name).map(|redis| Arc::new(redis) as Arc<dyn SharedStore>);
        opened.inspect_err(|e| *seen.lock() = Some(e.clone()).filter(|e| e.code() == Code::StoreMoved))
    };
    let parts = Parts {
        settings: config.locking.enhanced.clone(),
        reserve: config.locking.timeout,
        local,
        host,
        connect: Box::new(connect),
    };
    let store = HybridStore::open(parts, process)?;
    // Its locks are elsewhere: the local store must not stand in for it.
    match moved.lock().take() {
        Some(moved) => store.close().and(Err(moved)),
        None => Ok(store),
    }
}

//! How a mode opens its stores: those of this machine. A simulation has its own, and runs the modes' very code over them.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Redis;
use crate::error::Result;
use crate::sealing::{CredentialKeys, MasterKeys};
use crate::store::redis::RedisStore;
use crate::store::sled::SledStore;

/// Connects to Redis, under this server's name.
pub(crate) type OpenRedis = Box<dyn Fn(&str) -> Result<RedisStore> + Send + Sync>;

/// Opens the stores of a mode.
pub(crate) trait Stores {
    /// Whether an embedded store was created in this folder.
    fn has_local(&self, folder: &Path) -> Result<bool>;

    /// The embedded store in this folder.
    fn local(&self, folder: &Path, clock: &Arc<dyn Clock>) -> Result<SledStore>;

    /// The way to Redis.
    fn redis(&self, settings: &Redis) -> OpenRedis;

    /// What credentials are sealed under; `None` if the settings name no key.
    fn credential_keys(&self) -> Option<CredentialKeys>;
}

/// The stores of this machine, and the keys that open the embedded one.
pub(super) struct OfThisMachine(pub Option<MasterKeys>);

impl Stores for OfThisMachine {
    fn has_local(&self, folder: &Path) -> Result<bool> {
        SledStore::is_in(folder)
    }

    fn local(&self, folder: &Path, clock: &Arc<dyn Clock>) -> Result<SledStore> {
        SledStore::open_sealed(folder, Arc::clone(clock), self.0.as_ref())
    }

    fn redis(&self, settings: &Redis) -> OpenRedis {
        let settings = settings.clone();
        Box::new(move |name| RedisStore::open(&settings, name))
    }

    fn credential_keys(&self) -> Option<CredentialKeys> {
        self.0.as_ref().map(MasterKeys::credential_keys)
    }
}

//! Which store answers: opens the stores that the mode needs and routes every operation to the one that decides.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{Backend, Config, Mode};
use crate::error::{Code, Error, Result};
use crate::store::Store;
use crate::store::host::HostStore;
use crate::store::redis::RedisStore;
use crate::store::sled::SledStore;

/// The stores of one mode.
#[derive(Debug)]
pub struct Router {
    mode: Mode,
    store: Box<dyn Store>,
    timeout: Duration,
}

impl Router {
    /// Opens what the mode needs; nothing stays open on an error.
    ///
    /// Errors: those of the store's own opening, and `InvalidConfig` for a legacy store that was not passed in.
    pub fn open(config: &Config, host: Option<HostStore>, instance: &str, clock: Arc<dyn Clock>) -> Result<Router> {
        let mode = config.mode();
        let redis = &config.locking.enhanced.redis;
        let (store, timeout): (Box<dyn Store>, _) = match mode {
            Mode::Strict => (open_legacy(config, host, clock)?, config.locking.timeout),
            Mode::Native => (Box::new(RedisStore::open(redis, instance, clock)?), redis.timeouts.operation),
            Mode::Hybrid => {
                return Err(Error::new(
                    Code::Unsupported,
                    "locking.enhanced.compatibility_mode: hybrid is not in this version; use strict or native",
                ));
            }
        };
        Ok(Router { mode, store, timeout })
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The store that decides.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The stores' own metrics: whole families of OpenMetrics text, without the end line.
    pub fn metrics(&self) -> String {
        String::new()
    }

    /// How long an operation may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

fn open_legacy(config: &Config, host: Option<HostStore>, clock: Arc<dyn Clock>) -> Result<Box<dyn Store>> {
    match (config.locking.backend, host, &config.locking.data_dir) {
        (Backend::Boltdb, Some(host), _) => Ok(Box::new(host)),
        (Backend::Boltdb, None, _) => Err(Error::new(
            Code::InvalidConfig,
            "locking.backend: boltdb is Atlantis's own code, and none was passed in: pass a host store to atlock_open \
             (in Go: WithLegacy), or set locking.backend: sled and locking.data_dir for the embedded store",
        )),
        (Backend::Sled, _, Some(folder)) => Ok(Box::new(SledStore::open(folder, clock)?)),
        (Backend::Sled, _, None) => Err(Error::new(Code::InvalidConfig, "locking.data_dir is missing")),
    }
}

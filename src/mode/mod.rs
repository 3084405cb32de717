//! Strict, native or hybrid: opens what a mode needs, also after another mode was in use, and leads every operation to the store that
//! decides.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::error::Result;
use crate::hybrid::HybridStore;
use crate::hybrid::status::Report;
use crate::look::Look;
use crate::process::Process;
use crate::sealing::{self, CredentialKeys};
use crate::store::Store;
use crate::store::host::HostStore;

mod handover;
mod host;
mod hybrid;
mod native;
mod stores;
mod strict;

#[cfg(test)]
pub(crate) use self::stores::OpenRedis;
pub(crate) use self::stores::Stores;

/// The store of one mode.
#[derive(Debug)]
pub struct Router {
    mode: Mode,
    store: Opened,
    timeout: Duration,
    /// What strict mode may lack, though it was allowed to begin.
    warning: Option<String>,
    credential_keys: Option<CredentialKeys>,
}

#[derive(Debug)]
enum Opened {
    One(Box<dyn Store>),
    Both(HybridStore),
    Look(Box<Look>),
}

impl Router {
    /// Opens what the mode needs; nothing stays open on an error.
    ///
    /// Errors: those of the store's own opening, and `InvalidConfig` for a host store that was not passed in, or where one of the two
    /// stores has locks that the other, which is to decide, would not know. Hybrid mode opens also when Redis cannot be used, unless
    /// `legacy_fallback` is false. Hybrid mode tells the audit trail who decides.
    pub fn open(config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<Router> {
        let stores = stores::OfThisMachine(sealing::read(&config.locking.encryption)?);
        Router::open_on(&stores, config, host, process)
    }

    /// The same over other stores.
    pub(crate) fn open_on(
        stores: &dyn Stores,
        config: &Config,
        host: Option<HostStore>,
        process: &Process<'_>,
    ) -> Result<Router> {
        config.locking.key_format.settle()?;
        let mode = config.mode();
        host::refuse_forgotten(config, host.as_ref())?;
        let mut warning = None;
        let store = match mode {
            Mode::Strict => {
                let (store, lacks) = strict::open(stores, config, host, process)?;
                warning = lacks;
                Opened::One(store)
            }
            Mode::Native => Opened::One(Box::new(native::open(stores, config, host, process)?)),
            Mode::Hybrid => Opened::Both(hybrid::open(stores, config, host, process)?),
        };
        let (timeout, credential_keys) = (config.operation_timeout(), stores.credential_keys());
        Ok(Router { mode, store, timeout, warning, credential_keys })
    }

    /// Strict mode over a store of a test.
    #[cfg(test)]
    pub(crate) fn over(store: Box<dyn Store>) -> Router {
        let timeout = Config::default().operation_timeout();
        Router { mode: Mode::Strict, store: Opened::One(store), timeout, warning: None, credential_keys: None }
    }

    /// Opens the stores of the mode to look at them: nothing in them changes.
    ///
    /// Errors: those of [`Look::open`].
    pub fn open_read_only(config: &Config, clock: &Arc<dyn Clock>) -> Result<Router> {
        // Without its key a look shows less, and is of use still.
        let masters = sealing::read(&config.locking.encryption);
        let warning = masters.as_ref().err().map(|e| format!("{e}: credentials are shown as they are stored"));
        let (look, timeout) = (Look::open(config, clock, &masters)?, config.operation_timeout());
        Ok(Router {
            mode: look.mode(),
            store: Opened::Look(Box::new(look)),
            timeout,
            warning,
            credential_keys: masters.unwrap_or_default().map(|keys| keys.credential_keys()),
        })
    }

    /// What was opened to look at it.
    pub fn look(&self) -> Option<&Look> {
        match &self.store {
            Opened::Look(look) => Some(look),
            Opened::One(_) | Opened::Both(_) => None,
        }
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The store that decides.
    pub fn store(&self) -> &dyn Store {
        match &self.store {
            Opened::One(store) => &**store,
            Opened::Both(hybrid) => hybrid,
            Opened::Look(look) => look.store(),
        }
    }

    /// What credentials are sealed under; `None` if the settings name no key.
    pub(crate) fn credential_keys(&self) -> Option<&CredentialKeys> {
        self.credential_keys.as_ref()
    }

    /// Conditions that endanger a promise.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.look().map_or_else(|| self.store().warnings(), Look::warnings);
        warnings.into_iter().chain(self.warning.clone()).collect()
    }

    /// The stores' own metrics: whole families of OpenMetrics text, without the end line.
    pub fn metrics(&self) -> String {
        match &self.store {
            Opened::One(_) | Opened::Look(_) => String::new(),
            Opened::Both(hybrid) => hybrid.metrics(),
        }
    }

    /// How long an operation may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The state of hybrid mode; `None` in the others.
    pub fn report(&self) -> Option<Report> {
        match &self.store {
            Opened::One(_) => None,
            Opened::Both(hybrid) => Some(hybrid.report()),
            Opened::Look(look) => look.report(),
        }
    }

    /// Stops everything.
    pub fn close(&self) -> Result<()> {
        self.store().close()
    }
}

//! The store that answers, and the shadow that hears of it.

use std::sync::Arc;

use super::state::State;
use super::{GROWING, Service};
use crate::call::Calls;
use crate::config::{Config, Mode};
use crate::error::Result;
use crate::shadow::{Decides, Report, Shadow, Tapped};
use crate::store::Store;

impl Service {
    /// The same service, with the shadow that the settings name, if they name one ([`crate::shadow`]).
    ///
    /// Errors: `Internal` if there is no thread for it.
    pub fn shadowed(self, config: &Config) -> Result<Service> {
        if !config.locking.shadow.is_on() {
            return Ok(self);
        }
        let is_redis = config.mode() != Mode::Strict;
        let decides = Decides {
            name: format!("a server in {} mode", config.mode()),
            folder: config.locking.data_dir.clone(),
            redis: is_redis.then(|| config.locking.enhanced.redis.clone()),
        };
        let state = Arc::downgrade(&self.state);
        let fill = Box::new(move || state.upgrade().is_some_and(|state| state.fill_shadow().is_ok_and(|done| done)));
        let calls = Calls::new(Arc::clone(&self.clock))?;
        let shadow = Shadow::start(config, decides, Some(fill), calls, Arc::clone(&self.clock))?;
        self.state.begin_shadow(shadow);
        Ok(self)
    }

    /// How the shadow stands; `None` without one.
    pub fn shadow(&self) -> Option<Report> {
        self.state.shadow.get().map(|tapped| tapped.shadow().report())
    }
}

impl State {
    /// The store that answers, and the shadow that hears of it.
    pub(super) fn store(&self) -> &dyn Store {
        &self.sealed
    }

    fn begin_shadow(&self, shadow: Shadow) {
        // A service has one shadow.
        let _ = self.shadow.set(Tapped::new(Arc::clone(&self.router), shadow));
    }

    /// Shows the shadow all locks; whether there is one.
    fn fill_shadow(&self) -> Result<bool> {
        let Some(tapped) = self.shadow.get() else { return Ok(false) };
        tapped.fill(&self.calls.within(self.router.timeout() + GROWING)).map(|()| true)
    }
}

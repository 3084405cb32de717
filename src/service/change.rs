//! A change of the stores of a server that runs, as its operators see it: in the audit trail, and in the status.
//!
//! The program that holds the service makes the change, by closing one service and opening another; each of both is told.

use serde::{Deserialize, Serialize};

use super::Service;
use crate::audit::{Actor, By, Event, Kind};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::sealing;

/// A change of mode, settings or store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The mode before, and what was to be the mode afterwards.
    pub from: String,
    /// See [`Change::from`].
    pub to: String,
    /// `begun`, `ok`, or `failed`: the stores of before were opened again.
    pub result: String,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// Names of the settings that are other ones now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// When it was over, in microseconds since 1970.
    #[serde(default)]
    pub at: u64,
    /// For how long operations had to wait, in milliseconds.
    #[serde(default)]
    pub paused_ms: u64,
    /// How many locks went along.
    #[serde(default)]
    pub locks: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Service {
    /// Looks whether the stores could be opened again with the key of these settings (`locking.encryption`), which is read now.
    ///
    /// Errors: `InvalidConfig` if the key cannot be read; `EncryptionKey` if it is another one.
    pub fn check_keys(&self, config: &Config) -> Result<()> {
        self.check_open()?;
        let masters = sealing::read(&config.locking.encryption)?;
        self.router.store().check_keys(masters.as_ref())
    }

    /// Records that whom this handle is for may not do that.
    pub fn denied(&self, operation: &str, why: &Error) {
        if let Some(log) = &self.audit {
            let event = Event { operation: Some(operation), ..Event::new(Kind::Denied, &self.instance) };
            log.record(&event.failed(why).done_by(&self.actor));
        }
    }

    /// Records a change in the audit trail. One that is over is the last change of the status from now on.
    pub fn note_change(&self, change: Change) -> Result<()> {
        self.check_open()?;
        if let Some(log) = &self.audit {
            let mut detail = format!("{} to {}: {}", change.from, change.to, change.result);
            for more in [&change.error].into_iter().flatten() {
                detail = format!("{detail}: {more}");
            }
            let actor = change.by.map_or_else(|| self.actor.clone(), Actor::from);
            let event = Event { detail: Some(&detail), settings: &change.settings, ..Event::new(Kind::Change, &self.instance) };
            log.record(&event.done_by(&actor));
        }
        if change.result != "begun" {
            *self.last_change.lock() = Some(change);
        }
        Ok(())
    }
}

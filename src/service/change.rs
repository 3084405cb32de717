//! A change of the stores of a server that runs, as its operators see it: in the audit trail, and in the status.
//!
//! The program that holds the service makes the change, by closing one service and opening another; each of both is told.

use serde::{Deserialize, Serialize};

use super::Service;
use crate::audit::{By, Event, Kind};
use crate::error::Result;

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
    /// Records a change in the audit trail. One that is over is the last change of the status from now on.
    pub fn note_change(&self, change: Change) -> Result<()> {
        self.check_open()?;
        if let Some(log) = &self.audit {
            let mut detail = format!("{} to {}: {}", change.from, change.to, change.result);
            for more in [&change.error].into_iter().flatten() {
                detail = format!("{detail}: {more}");
            }
            log.record(&Event { detail: Some(&detail), by: change.by, ..Event::new(Kind::Change, &self.instance) });
        }
        if change.result != "begun" {
            *self.last_change.lock() = Some(change);
        }
        Ok(())
    }
}

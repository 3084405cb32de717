//! The block `locking.audit`: where the audit trail is written (`crate::audit`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// `locking.audit`: see `crate::audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The file.
    pub file: Option<PathBuf>,
    /// Size at which the file is moved to `.1` and a new one begun.
    pub max_bytes: u64,
    /// How many moved files are kept; what is more is removed, and an entry tells so.
    pub keep: u32,
    /// Whether each line also goes to stdout.
    pub stdout: bool,
    /// Whether a change is refused that cannot be recorded before it is made.
    pub required: bool,
}

impl Audit {
    /// The trail of a command, whose stdout is its answer.
    ///
    /// Errors: `InvalidConfig` if changes need a trail, and there is none but stdout.
    pub fn of_command(&self) -> Result<Audit> {
        if self.required && self.file.is_none() {
            let text = "locking.audit.required is on, and a command writes to locking.audit.file alone: set that, too, or let the server do it";
            return Err(Error::new(Code::InvalidConfig, text));
        }
        Ok(Audit { stdout: false, ..self.clone() })
    }

    /// Whether there is a trail.
    pub fn is_on(&self) -> bool {
        self.file.is_some() || self.stdout
    }
}

impl Default for Audit {
    fn default() -> Audit {
        Audit { file: None, max_bytes: 10 << 20, keep: 5, stdout: false, required: false }
    }
}

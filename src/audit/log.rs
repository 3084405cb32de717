//! The trail as one: its file, its stdout, and what could not be written.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_micros;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use super::event::Event;
use super::file::TrailFile;
use super::stdout::Stdout;
use crate::config;
use crate::error::{Code, Error, Result};

/// The trail of one process. Safe from any thread.
#[derive(Debug)]
pub struct AuditLog {
    required: bool,
    lost: Counter,
    sinks: Mutex<Sinks>,
}

#[derive(Debug)]
struct Sinks {
    file: Option<TrailFile>,
    stdout: Option<Stdout>,
    /// What went wrong with the last line, until one is written without trouble.
    trouble: Option<String>,
}

impl AuditLog {
    /// Opens what the settings name; `None` if they name nothing. The file is begun if it is not there, readable by its owner alone.
    ///
    /// Errors: `InvalidConfig` if it cannot be opened: a trail that was wanted and never begins is found at the start.
    pub fn of(config: &config::Audit) -> Result<Option<AuditLog>> {
        if !config.is_on() {
            return Ok(None);
        }
        let cannot =
            |name: &str, e: std::io::Error| Error::new(Code::InvalidConfig, format!("{name} cannot be opened for writing: {e}"));
        let file = config.file.as_deref().map(|path| {
            TrailFile::open(path, config.max_bytes, config.keep)
                .map_err(|e| cannot(&format!("locking.audit.file: {}", path.display()), e))
        });
        let stdout = config.stdout.then(|| Stdout::open().map_err(|e| cannot("locking.audit.stdout: stdout", e)));
        let sinks = Sinks { file: file.transpose()?, stdout: stdout.transpose()?, trouble: None };
        Ok(Some(AuditLog { required: config.required, lost: Counter::default(), sinks: Mutex::new(sinks) }))
    }

    /// The same for a command, whose stdout is its answer.
    pub fn of_command(config: &config::Audit) -> Result<Option<AuditLog>> {
        AuditLog::of(&config.of_command()?)
    }

    /// Whether a change waits for its intent.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Writes one event, or counts it as lost.
    pub fn record(&self, event: &Event<'_>) {
        // It is counted, and a warning.
        let _ = self.write(event, false);
    }

    /// The same for a caller who must know.
    ///
    /// Errors: `AuditFailed`.
    pub fn tell(&self, event: &Event<'_>) -> Result<()> {
        self.write(event, false)
    }

    /// Writes what is about to be changed, and waits for the disk. Without `locking.audit.required` that is nothing.
    ///
    /// Errors: `AuditFailed`: the change must not be made.
    pub fn intend(&self, event: &Event<'_>) -> Result<()> {
        if !self.required {
            return Ok(());
        }
        self.write(event, true).map_err(|e| {
            let what = event.key.or(event.command).map_or_else(String::new, |name| format!("{name:?}: "));
            let text = format!(
                "{what}nothing was changed: {e}. locking.audit.required is on: make room, or correct the rights; or set it to false and \
                 type `atlock reload`"
            );
            Error::new(Code::AuditFailed, text)
        })
    }

    /// How many events could not be written.
    pub fn lost(&self) -> &Counter {
        &self.lost
    }

    /// What an operator must know, until a write succeeds again.
    pub fn warning(&self) -> Option<String> {
        let trouble = self.sinks.lock().trouble.clone()?;
        Some(format!("the audit trail {trouble}; events missing from it: {}", self.lost.get()))
    }

    /// Each place has the event, or it is lost.
    fn write(&self, event: &Event<'_>, synced: bool) -> Result<()> {
        let time = format_rfc3339_micros(SystemTime::now().max(UNIX_EPOCH)).to_string();
        let mut sinks = self.sinks.lock();
        let Sinks { file, stdout, trouble } = &mut *sinks;
        let mut failed = None;
        *trouble = None;
        if let Some(file) = file {
            let path = file.path().display().to_string();
            match file.append(&time, event, synced) {
                Ok(beside) => *trouble = beside.map(|beside| format!("{path} {beside}")),
                Err(e) => failed = Some(format!("{path} cannot be written: {e}")),
            }
        }
        if let Some(Err(e)) = stdout.as_mut().map(|stdout| stdout.append(&time, event)) {
            failed = failed.or(Some(format!("on stdout cannot be written: {e}")));
        }
        let Some(failed) = failed else { return Ok(()) };
        self.lost.inc();
        let text = format!("the audit trail {failed}");
        *trouble = Some(failed);
        Err(Error::new(Code::AuditFailed, text))
    }

    /// Where its file is.
    pub fn file(config: &config::Audit) -> Result<&Path> {
        let text = "locking.audit.file is missing: there is no audit trail to look at; name its file or folder";
        config.file.as_deref().ok_or_else(|| Error::new(Code::InvalidConfig, text))
    }
}

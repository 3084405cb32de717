//! The file of the audit trail: appended to, and moved away when it is full.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_micros;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::event::Event;
use crate::config;
use crate::error::{Code, Error, Result};

/// The trail's file. Safe from any thread.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    lost: Counter,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: OpenFile,
    /// What went wrong with the last line, until one is written without trouble.
    trouble: Option<String>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    /// Only a plain file has a size, and is moved; a pipe or a device is written to for ever.
    plain: bool,
    /// Whether its last line lacks the line break.
    torn: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl AuditLog {
    /// Opens the file that the settings name, or begins it, readable by its owner alone.
    ///
    /// Errors: `InvalidConfig` if it cannot be opened: a trail that was wanted and never begins is found at the start.
    pub fn open(config: &config::Audit) -> Result<AuditLog> {
        let wrong = |what: &str| Error::new(Code::InvalidConfig, format!("locking.audit.file{what}"));
        let path = config.file.as_deref().ok_or_else(|| wrong(" is missing"))?;
        let cannot = |e: io::Error| wrong(&format!(": {} cannot be opened for writing: {e}", path.display()));
        // The host may change its folder.
        let path = std::path::absolute(path).map_err(cannot)?;
        let mut file = OpenFile::at(&path).map_err(cannot)?;
        // Not being able to is no reason not to start; the next event tells.
        let trouble = file.append(b"").err().map(|e| e.to_string());
        let state = Mutex::new(State { file, trouble });
        Ok(AuditLog { path, max_bytes: config.max_bytes, keep: config.keep, lost: Counter::default(), state })
    }

    /// Writes one event, or counts it as lost.
    pub fn record(&self, event: &Event<'_>) {
        let time = format_rfc3339_micros(SystemTime::now().max(UNIX_EPOCH)).to_string();
        // Texts and numbers serialise without an error.
        let mut line = serde_json::to_vec(&Line { time, event }).unwrap_or_default();
        line.push(b'\n');
        let mut state = self.state.lock();
        state.trouble = match self.write(&mut state.file, &line) {
            Ok(trouble) => trouble,
            Err(e) => {
                self.lost.inc();
                Some(format!("cannot be written: {e}"))
            }
        };
    }

    /// How many events could not be written.
    pub fn lost(&self) -> &Counter {
        &self.lost
    }

    /// What an operator must know, until a write succeeds again.
    pub fn warning(&self) -> Option<String> {
        let trouble = self.state.lock().trouble.clone()?;
        Some(format!("the audit trail {} {trouble}; events missing from it: {}", self.path.display(), self.lost.get()))
    }

    /// Appends a line to the file that is now at the path. What went wrong beside that is no failure, and is returned.
    fn write(&self, file: &mut OpenFile, line: &[u8]) -> io::Result<Option<String>> {
        let size = file.follow(&self.path)?;
        let full = file.plain && size > 0 && size + u64::from(file.torn) + line.len() as u64 > self.max_bytes;
        let trouble = if full { self.rotate(file).err() } else { None };
        file.append(line)?;
        Ok(trouble.map(|e| format!("is full and cannot be moved to .1: {e}")))
    }

    /// Moves the file to `.1`, and each earlier one a number up; the last is lost.
    fn rotate(&self, file: &mut OpenFile) -> io::Result<()> {
        match file.file.try_lock() {
            Ok(()) => {}
            // Another process is at it; the bound is passed by what is written meanwhile.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let moved = self.rotate_locked(file);
        // A moved file is closed, and free with that; one that stays must be free for others.
        let _ = file.file.unlock();
        moved
    }

    fn rotate_locked(&self, file: &mut OpenFile) -> io::Result<()> {
        let before = file.id;
        file.follow(&self.path)?;
        if file.id != before {
            // Another process just was at it.
            return Ok(());
        }
        for number in (1..self.keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))?;
        *file = OpenFile::at(&self.path)?;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

impl OpenFile {
    fn at(path: &Path) -> io::Result<OpenFile> {
        // Not blocking: a pipe that nobody reads must not hold up a lock.
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)?;
        let found = file.metadata()?;
        let mut last = [b'\n'];
        if found.is_file() && found.len() > 0 {
            file.read_at(&mut last, found.len() - 1)?;
        }
        Ok(OpenFile { file, id: (found.dev(), found.ino()), plain: found.is_file(), torn: last != [b'\n'] })
    }

    /// Opens anew what is at the path, if that is another file than before; its size.
    fn follow(&mut self, path: &Path) -> io::Result<u64> {
        match fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == self.id => Ok(found.len()),
            _ => {
                *self = OpenFile::at(path)?;
                Ok(self.file.metadata()?.len())
            }
        }
    }

    /// Appends by a single write(2). A line that was left torn is closed first.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let closed;
        let bytes = if self.torn {
            closed = [b"\n", line].concat();
            &closed
        } else {
            line
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let written = loop {
            match self.file.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Some(last) = bytes[..written].last() {
            self.torn = *last != b'\n';
        }
        if written < bytes.len() {
            return Err(io::Error::other(format!("only {written} of {} bytes were taken; is the disk full?", bytes.len())));
        }
        Ok(())
    }
}

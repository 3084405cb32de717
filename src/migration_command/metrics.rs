//! Metrics of migrations, in a file for node_exporter's textfile collector: a command that ends has no `/metrics`.
//!
//! Invariant: the file is replaced whole, so that nobody reads half of it; its counters go on from what it had.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::clock::{Clock as _, SystemClock};
use crate::error::{Code, Error, Result};
use crate::migrate::{Phase, Report};

const ENTRIES: &str = "atlock_migration_entries_total";
const FAILED: &str = "atlock_migration_failed";
const AT: &str = "atlock_migration_timestamp_seconds";
/// What may become of an entry.
const RESULTS: &[&str] = &["conflict", "copied", "kept", "removed", "skipped"];

/// What was counted until now.
pub(super) struct Counted {
    path: PathBuf,
    entries: BTreeMap<&'static str, u64>,
}

impl Counted {
    /// Reads the file, if it is there; it is one that can be written.
    pub(super) fn load(path: &Path) -> Result<Counted> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(failed(path, &e)),
        };
        let value = |result: &str| {
            let name = format!("{ENTRIES}{{result=\"{result}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
        };
        let entries = RESULTS.iter().map(|result| (*result, value(result))).collect();
        Ok(Counted { path: path.to_owned(), entries })
    }

    /// Adds how a command ended, and writes the file.
    pub(super) fn save(mut self, done: &Result<Report>) -> Result<()> {
        let is_failed = done.as_ref().map_or(true, |report| !report.problems.is_empty());
        if let Ok(report) = done
            && report.phase != Some(Phase::Planned)
        {
            self.add("copied", report.changes.saturating_sub(report.removals));
            self.add("removed", report.removals + report.cleaned_up);
            self.add("kept", report.kept);
            self.add("skipped", report.skipped.len());
        }
        if let Ok(report) = done {
            self.add("conflict", report.conflicts.len());
        }
        self.write(is_failed).map_err(|e| failed(&self.path, &e))
    }

    fn add(&mut self, result: &'static str, count: usize) {
        *self.entries.entry(result).or_default() += u64::try_from(count).unwrap_or(u64::MAX);
    }

    fn text(&self, is_failed: bool) -> String {
        let mut text =
            format!("# HELP {ENTRIES} Entries that migrations met, by what became of them.\n# TYPE {ENTRIES} counter\n");
        for (result, count) in &self.entries {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{ENTRIES}{{result=\"{result}\"}} {count}");
        }
        let at = SystemClock.unix_micros() / 1_000_000;
        let _ = write!(
            text,
            "# HELP {FAILED} Whether the last command of a migration failed, or could not be done.\n# TYPE {FAILED} gauge\n{FAILED} {}\n\
             # HELP {AT} When that ended, seconds since 1970.\n# TYPE {AT} gauge\n{AT} {at}\n",
            u8::from(is_failed)
        );
        text
    }

    fn write(&self, is_failed: bool) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        // The collector reads what ends in .prom alone.
        name.push(".new");
        let new = self.path.with_file_name(name);
        fs::File::create(&new)?.write_all(self.text(is_failed).as_bytes())?;
        fs::rename(&new, &self.path)
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let text = format!("{}: {error}. Name a file that this user may write with --metrics, or leave that out", path.display());
    Error::new(Code::StoreNotWritable, text)
}

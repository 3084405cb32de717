//! The manifest of a migration: which stores, how far it came, what was counted. JSON, written anew at each step.
//!
//! Invariant: a phase is on the disk before anything is done that belongs to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::Skipped;
use super::files::{read, write_whole};
use super::side::Side;
use crate::domain::json::parse_json;
use crate::error::{Code, Error, Result};

const FORMAT: &str = "atlock-migration";
const VERSION: u32 = 1;

/// How far a migration came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing was changed.
    Planned,
    /// Entries are being copied; both stores are marked.
    Copying,
    /// All entries were compared; both stores are marked.
    Verified,
    /// The target decides.
    Complete,
    /// What was copied is being removed from the target again.
    Undoing,
    /// The target's locks are being moved back.
    Returning,
    /// The source decides again.
    Returned,
}

/// One side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSide {
    /// As it was named.
    pub named: String,
    /// Which store that was.
    pub place: String,
    /// How many entries it had, by kind.
    pub counts: BTreeMap<String, usize>,
    /// SHA-256 over all of them when they were last compared; empty before.
    pub digest: String,
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    /// The migration's id.
    pub migration: String,
    /// How far it came.
    pub phase: Phase,
    /// The store that the locks are moved from.
    pub from: ManifestSide,
    /// The store that they are moved to.
    pub to: ManifestSide,
    /// When it was planned, microseconds since 1970.
    pub at: u64,
    /// The backup, beside the manifest.
    pub backup: String,
    /// Its digest.
    pub backup_sha256: String,
    /// Whether both stores had their marks when the backup was written: before that, nothing was copied.
    pub marked: bool,
    /// The backup of what the target had when a rollback began to move that back, beside the manifest; empty before.
    pub rollback: String,
    /// The largest fencing token that the target had given before; a text, since JSON's numbers are not that large everywhere.
    pub target_last_token: String,
    /// Whether what the target had is old: it was left behind by an earlier migration.
    pub target_is_old: bool,
    /// What could not be taken along.
    pub skipped: Vec<Skipped>,
}

impl Manifest {
    /// Of a migration that was just planned.
    pub fn new(migration: String, from: ManifestSide, to: ManifestSide, at: u64) -> Manifest {
        Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            migration,
            phase: Phase::Planned,
            from,
            to,
            at,
            backup: "backup.jsonl".to_owned(),
            backup_sha256: String::new(),
            marked: false,
            rollback: String::new(),
            target_last_token: "0".to_owned(),
            target_is_old: false,
            skipped: Vec::new(),
        }
    }

    /// Reads it.
    ///
    /// Errors: `InvalidArgument` if it cannot be read, or is of another version.
    pub fn load(path: &Path) -> Result<Manifest> {
        let wrong = |what: String| Error::new(Code::InvalidArgument, format!("{} is no manifest: {what}", path.display()));
        let manifest: Manifest = parse_json(&read(path)?).map_err(|e| wrong(e.to_string()))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            return Err(wrong(format!("it has version {} of format {:?}", manifest.version, manifest.format)));
        }
        Ok(manifest)
    }

    /// Writes it, durably.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(path, |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }

    /// Where its backup is.
    pub fn backup(&self, path: &Path) -> PathBuf {
        path.with_file_name(&self.backup)
    }
}

impl ManifestSide {
    /// Of a side.
    pub fn of(side: &Side) -> ManifestSide {
        ManifestSide { named: side.named.clone(), place: side.place(), counts: BTreeMap::new(), digest: String::new() }
    }

    /// The side again; `other` names it where its settings file has changed since.
    ///
    /// Errors: `InvalidConfig` if it is another store now.
    pub fn side(&self, other: Option<&str>, option: &str) -> Result<Side> {
        let side = Side::parse(other.unwrap_or(&self.named))?;
        if side.place() == self.place {
            return Ok(side);
        }
        let text = format!(
            "{} was {} when the migration was planned, and is {} now: name the first with {option}",
            self.named,
            self.place,
            side.place()
        );
        Err(Error::new(Code::InvalidConfig, text))
    }
}

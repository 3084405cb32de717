//! Whether a migration's target still has what was moved there. Nothing is changed.

use std::path::Path;

use serde::Serialize;

use super::backup;
use super::manifest::{Manifest, Phase};
use super::open::{Options, open};
use super::place::Role;
use crate::error::{Code, Error, Result};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The migration's id.
    pub migration: String,
    /// How far it came.
    pub phase: Phase,
    /// The store that was looked at.
    pub store: String,
    /// Entries that were to be moved.
    pub entries: usize,
    /// Those that it has byte for byte.
    pub same: usize,
    /// Those that it has with other bytes: taken again since, or not copied yet.
    pub changed: Vec<String>,
    /// Those that it has not: released since, or not copied yet.
    pub gone: Vec<String>,
    /// Whether all that it has is what it had when both were compared; `None` before that.
    pub is_as_compared: Option<bool>,
}

/// Compares the target with the backup and the manifest; `to` names it where its settings file has changed since.
///
/// Errors: those of the files and of the store; `StoreBusy` beside a server that has it.
pub fn verify(path: &Path, to: Option<&str>, options: Options) -> Result<Verified> {
    let manifest = Manifest::load(path)?;
    let (backup, digest) = backup::load(&manifest.backup(path), options.masters)?;
    if digest != manifest.backup_sha256 {
        return Err(Error::new(Code::InvalidArgument, "the backup beside the manifest is not the one that the manifest names"));
    }
    let side = manifest.to.side(to, "--to")?;
    let place = open(&side, Role::Target, false, options, 0)?;
    let there = place.survey()?;
    let (mut same, mut changed, mut gone) = (0, Vec::new(), Vec::new());
    let moved = || backup.from.iter().filter(|(key, entry)| place.cannot_have(key, &entry.held.value).is_none());
    for (key, entry) in moved() {
        match there.entries.get(key) {
            Some(found) if found.held.value == entry.held.value => same += 1,
            Some(_) => changed.push(key.to_string()),
            None => gone.push(key.to_string()),
        }
    }
    let entries = moved().count();
    place.close()?;
    let is_as_compared = (!manifest.to.digest.is_empty()).then(|| there.digest() == manifest.to.digest);
    let (migration, phase, store) = (manifest.migration, manifest.phase, side.place());
    Ok(Verified { migration, phase, store, entries, same, changed, gone, is_as_compared })
}

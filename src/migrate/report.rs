//! What a migration, a rollback or a restore tells.

use std::collections::BTreeMap;

use serde::Serialize;

use super::entry::{Skipped, Survey};
use super::manifest::{Manifest, Phase};
use super::merge::{Conflict, Plan};

/// What was found, and done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The migration's id; of a restore, that of the migration whose backup it is.
    pub migration: String,
    /// The store that locks come from.
    pub from: String,
    /// The store that they go to.
    pub to: String,
    /// How far it came; `None` for a restore.
    pub phase: Option<Phase>,
    /// How many entries the first has, by kind.
    pub from_counts: BTreeMap<String, usize>,
    /// How many the second has.
    pub to_counts: BTreeMap<String, usize>,
    /// Changes of the second: planned, or made.
    pub changes: usize,
    /// Of those, how many are removals.
    pub removals: usize,
    /// Entries that both have alike.
    pub agreed: usize,
    /// Entries of which the second keeps its own.
    pub kept: usize,
    /// Keys that both hold, and not alike.
    pub conflicts: Vec<Conflict>,
    /// What cannot be taken along.
    pub skipped: Vec<Skipped>,
    /// Entries that were removed from the first at the end.
    pub cleaned_up: usize,
    /// Why nothing can be done yet, and what to do.
    pub problems: Vec<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// The manifest, or the backup that was restored.
    pub file: String,
}

impl Report {
    /// Of this migration, of which nothing is known yet.
    pub(super) fn of(manifest: &Manifest, file: &str) -> Report {
        Report::between(&manifest.migration, &manifest.from.named, &manifest.to.named, Some(manifest.phase), file)
    }

    pub(super) fn between(migration: &str, from: &str, to: &str, phase: Option<Phase>, file: &str) -> Report {
        Report {
            migration: migration.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            phase,
            from_counts: BTreeMap::new(),
            to_counts: BTreeMap::new(),
            changes: 0,
            removals: 0,
            agreed: 0,
            kept: 0,
            conflicts: Vec::new(),
            skipped: Vec::new(),
            cleaned_up: 0,
            problems: Vec::new(),
            warnings: Vec::new(),
            file: file.to_owned(),
        }
    }

    /// Adds what both stores have.
    pub(super) fn see(&mut self, from: &Survey, to: &Survey) {
        (self.from_counts, self.to_counts) = (from.counts(), to.counts());
        self.skipped.clone_from(&from.skipped);
    }

    /// Adds what is to be done.
    pub(super) fn intend(&mut self, plan: &Plan) {
        self.changes = plan.steps.len();
        self.removals = plan.steps.iter().filter(|step| step.new.is_none()).count();
        (self.agreed, self.kept) = (plan.agreed, plan.kept);
        self.conflicts.clone_from(&plan.conflicts);
    }

    /// Why not all was done; `None` if all was.
    pub fn failure(&self) -> Option<String> {
        (!self.problems.is_empty()).then(|| format!("nothing can be changed yet: {}", self.problems.join("; ")))
    }
}

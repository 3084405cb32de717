//! The way back, from each phase.
//!
//! - Before the target decided, the source is as it was: what was copied is removed from the target, whatever else that has stays.
//! - After that, the target's locks are moved to the source in the same way: what it still has as it was left is old, what was taken
//!   and released in the target since counts.
//!
//! The marks, in order, before: target none (or as it was), source `decides`. After: target `leaving` beside the source's `moved`; then target
//! `moved`, source `decides`. Where the source decides, the way back is over, whatever the manifest says.

use std::path::Path;

use super::backup::{self, Backup, Head};
use super::bring::{Brought, bring};
use super::entry::Survey;
use super::files::WorkFolder;
use super::manifest::{Manifest, Phase};
use super::merge::{Old, add_old};
use super::open::{Options, Tell, decides, give_mark, has_mark, mark, open, refuse_losses, refused, wait_for_clock};
use super::place::{Place, Role};
use super::report::Report;
use crate::error::{Code, Error, Result};
use crate::store::moved::{Mark, MarkState, program};

/// Moves all locks back to the store that they came from. `from` and `to` name the migration's stores where their settings files have
/// changed since.
///
/// Errors: as [`super::execute`]; the same command goes on.
pub fn rollback(manifest: &Path, from: Option<&str>, to: Option<&str>, options: Options, tell: &dyn Tell) -> Result<Report> {
    let folder = manifest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let path = std::path::absolute(manifest).unwrap_or_else(|_| manifest.to_owned());
    let manifest = Manifest::load(&path)?;
    let _work = WorkFolder::open(folder)?;
    let mut report = Report::of(&manifest, &path.display().to_string());
    (report.from, report.to) = (manifest.to.named.clone(), manifest.from.named.clone());
    if matches!(manifest.phase, Phase::Planned | Phase::Returned) {
        let mut manifest = manifest;
        manifest.phase = Phase::Returned;
        manifest.save(&path)?;
        report.phase = Some(Phase::Returned);
        return Ok(report);
    }
    let (backup, _) = backup::load(&manifest.backup(&path), options.masters)?;
    if backup.head.migration != manifest.migration {
        return Err(Error::new(Code::InvalidArgument, "the backup beside the manifest is not of this migration"));
    }
    let (from, to) = (manifest.from.side(from, "--from")?, manifest.to.side(to, "--to")?);
    // What the source had given before it was left is smaller than what the target gave since.
    let source = open(&from, Role::Target, true, options, 0)?;
    let target = open(&to, Role::Source, true, options, 0)?;
    let mut way = Way { manifest, path: &path, source: &*source, target: &*target, backup, options, tell };
    let done = way.back(&mut report);
    let closed = target.close().and(source.close());
    done.and(closed)?;
    report.phase = Some(Phase::Returned);
    Ok(report)
}

/// The backup of what the target had decided.
const ROLLBACK: &str = "rollback.jsonl";

struct Way<'a> {
    manifest: Manifest,
    path: &'a Path,
    source: &'a dyn Place,
    target: &'a dyn Place,
    backup: Backup,
    options: Options<'a>,
    tell: &'a dyn Tell,
}

impl Way<'_> {
    fn back(&mut self, report: &mut Report) -> Result<()> {
        let problems: Vec<String> =
            self.source.problems(Role::Target)?.into_iter().chain(self.target.problems(Role::Source)?).collect();
        if !problems.is_empty() {
            return Err(refused(&problems));
        }
        let id = &self.manifest.migration;
        // The source may have decided before, and only the target have its mark yet.
        let is_over = decides(self.source)? && !has_mark(self.target, id, MarkState::Arriving)?;
        // Where it is over, only the manifest does not say so, and a server may have used the source since.
        if !is_over {
            let brought = if self.has_decided()? { self.move_back()? } else { self.undo()? };
            report.see(&brought.source, &brought.target);
            report.intend(&brought.last);
            (report.changes, report.removals) = (brought.changes, brought.removals);
        }
        self.enter(Phase::Returned)?;
        self.tell.event(&format!("rolled back: {} decides", self.manifest.from.named));
        Ok(())
    }

    /// Whether the target has decided: the migration was complete, whatever the manifest says.
    fn has_decided(&self) -> Result<bool> {
        let id = &self.manifest.migration;
        let is_complete = has_mark(self.source, id, MarkState::Moved)? && decides(self.target)?;
        let is_complete = is_complete && self.manifest.phase != Phase::Undoing;
        Ok(is_complete || matches!(self.manifest.phase, Phase::Complete | Phase::Returning))
    }

    /// The target gets back what it had. The source is as it was, unless it has lost data since: then it gets that back, too.
    fn undo(&mut self) -> Result<Brought> {
        self.enter(Phase::Undoing)?;
        let mut old = Old::new();
        let (mut before, mut there) = (self.source.survey()?, self.target.survey()?);
        if self.manifest.marked {
            add_old(&mut old, &self.backup.from);
            before = Survey { entries: self.backup.from.clone(), ..Survey::default() };
            there = Survey { entries: self.backup.to.clone(), ..Survey::default() };
        }
        bring(&|| Ok(before.clone()), &Old::new(), self.source, self.options, self.tell)?;
        let brought = bring(&|| Ok(there.clone()), &old, self.target, self.options, self.tell)?;
        let id = self.manifest.migration.clone();
        self.target.disarm_companion(None)?;
        let left_before = self.manifest.target_is_old.then(|| self.mark(MarkState::Moved, true));
        give_mark(self.target, &self.manifest.to.named, left_before.as_ref(), &id, true)?;
        self.source.disarm_companion(None)?;
        give_mark(self.source, &self.manifest.from.named, Some(&self.mark(MarkState::Decides, true)), &id, false)?;
        Ok(brought)
    }

    /// The target has decided since: what it has counts.
    fn move_back(&mut self) -> Result<Brought> {
        let id = self.manifest.migration.clone();
        if self.target.mark()?.is_none() {
            return Err(self.lost());
        }
        self.enter(Phase::Returning)?;
        if !has_mark(self.target, &id, MarkState::Moved)? {
            give_mark(self.target, &self.manifest.to.named, Some(&self.mark(MarkState::Leaving, true)), &id, false)?;
        }
        self.refuse_losses()?;
        let mut old = Old::new();
        add_old(&mut old, &self.backup.from);
        // Of what it cannot have, the target does not know whether that is over.
        old.retain(|key, held| held.iter().all(|held| self.target.cannot_have(key, &held.value).is_none()));
        let brought = bring(&|| self.target.survey(), &old, self.source, self.options, self.tell)?;
        wait_for_clock(self.source, &self.manifest.from.named, brought.source.last_token)?;
        let moved = self.mark(MarkState::Moved, true);
        self.target.disarm_companion(Some(&moved))?;
        give_mark(self.target, &self.manifest.to.named, Some(&moved), &id, false)?;
        self.source.disarm_companion(None)?;
        give_mark(self.source, &self.manifest.from.named, Some(&self.mark(MarkState::Decides, true)), &id, false)?;
        Ok(brought)
    }

    /// The target's mark is gone, and with it perhaps locks: that is no release.
    fn lost(&self) -> Error {
        let text = format!(
            "{} has no mark of a migration any more: it has lost its data since, or somebody removed the mark, and what it lacks is not known \
             to be released. {}",
            self.manifest.to.named,
            self.remedy()
        );
        Error::new(Code::StoreDamaged, text)
    }

    /// Where the target has lost its data.
    fn remedy(&self) -> String {
        let Manifest { from, to, backup, rollback, .. } = &self.manifest;
        let (what, file) =
            if rollback.is_empty() { ("was moved then", backup) } else { ("it had when the way back began", rollback) };
        let file = self.path.with_file_name(file);
        let program = program(&from.named, &to.named);
        format!("To begin again with what {what}: `{program} restore {} --to {} --replace-old`", file.display(), from.named)
    }

    /// What the target has when the way back begins is written down; what it lacks later it has not released.
    fn refuse_losses(&mut self) -> Result<()> {
        let has = self.target.survey()?;
        if self.manifest.rollback.is_empty() {
            let Manifest { migration, from, to, at, .. } = &self.manifest;
            let head = Head::new(migration, &to.named, &from.named, *at);
            backup::write(&self.path.with_file_name(ROLLBACK), head, &has, &self.source.survey()?, self.options.masters)?;
            self.manifest.rollback = ROLLBACK.to_owned();
            return self.manifest.save(self.path);
        }
        let file = self.path.with_file_name(&self.manifest.rollback);
        let (had, _) = backup::load(&file, self.options.masters)?;
        refuse_losses(&had.from, &has, &self.manifest.to.named, &self.remedy())
    }

    fn mark(&self, state: MarkState, back: bool) -> Mark {
        mark(&self.manifest, state, &self.path.display().to_string(), back)
    }

    fn enter(&mut self, phase: Phase) -> Result<()> {
        self.manifest.phase = phase;
        self.manifest.save(self.path)
    }
}

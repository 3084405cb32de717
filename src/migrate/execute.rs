//! The three phases: plan, copy and verify, complete.
//!
//! The marks, in order: target `arriving`, source `leaving`; at the end source `moved`, target `decides`. Where these two are there, the
//! migration is complete, whatever the manifest says; everything before can be done again. A target without its mark has lost its data.

use std::path::Path;

use super::backup::{self, Backup, Head};
use super::bring::{as_it_can_be, bring};
use super::clean::clean;
use super::entry::Survey;
use super::files::WorkFolder;
use super::manifest::{Manifest, ManifestSide, Phase};
use super::merge::{self, Old, add_old};
use super::open::{Options, Tell, decides, give_mark, has_mark, mark, new_id, open, refuse_losses, refused, wait_for_clock};
use super::place::{Place, Role};
use super::report::Report;
use super::side::Side;
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Code, Error, Result};
use crate::sealing::MasterKeys;
use crate::store::moved::{Mark, MarkState};

/// The manifest's name in its folder.
const MANIFEST: &str = "manifest.json";

/// Looks at both stores, writes a backup of both and a manifest into the folder `work`, and tells what a migration would do. In neither
/// store anything changes, but that a key of no lock is written to a Redis and removed at once, as each start does, to try this user's rights.
///
/// Errors: those of the stores; `InvalidArgument` if the folder has another migration. What else is in the way is in the report.
pub fn plan(from: &Side, to: &Side, work: &Path, options: Options, tell: &dyn Tell) -> Result<Report> {
    let work = WorkFolder::open(work)?;
    if let Some(manifest) = begun(from, to, &work)? {
        let mut report = Report::of(&manifest, &path_in(&work));
        let text = match manifest.phase {
            Phase::Complete => "this migration is complete; `rollback` moves the locks back",
            _ => "this migration was begun before: --execute goes on, and `rollback` undoes it",
        };
        report.warnings.push(text.to_owned());
        return Ok(report);
    }
    let (_, report) = draw_up(from, to, &work, options)?;
    tell.event(&format!("planned {} changes from {} to {}", report.changes, from.named, to.named));
    Ok(report)
}

/// Plans, and then does it; or goes on where it was interrupted.
///
/// Errors: as [`plan`], and all that is in the way. Nothing is lost then: the same command goes on.
pub fn execute(from: &Side, to: &Side, work: &Path, options: Options, tell: &dyn Tell) -> Result<Report> {
    let work = WorkFolder::open(work)?;
    let (manifest, warnings) = match begun(from, to, &work)? {
        Some(manifest) => (manifest, Vec::new()),
        None => {
            let (manifest, report) = draw_up(from, to, &work, options)?;
            if !report.problems.is_empty() {
                return Err(refused(&report.problems));
            }
            (manifest, report.warnings)
        }
    };
    let given_before = manifest.target_last_token.parse().unwrap_or(u64::MAX);
    let source = open(from, Role::Source, true, options, 0)?;
    let target = open(to, Role::Target, true, options, given_before)?;
    let path = work.path.join(MANIFEST);
    let mut run = Run { manifest, path: &path, source: &*source, target: &*target, options, tell };
    let done = run.go_on().map(|report| Report { warnings, ..report });
    let closed = target.close().and(source.close());
    done.and_then(|report| closed.map(|()| report))
}

/// The migration that was begun in this folder: it goes on.
fn begun(from: &Side, to: &Side, work: &WorkFolder) -> Result<Option<Manifest>> {
    let path = work.path.join(MANIFEST);
    if !path.exists() {
        return Ok(None);
    }
    let manifest = Manifest::load(&path)?;
    let wrong = |what: &str| Error::new(Code::InvalidArgument, format!("{}: {what}", path.display()));
    let (before, after) = (&manifest.from, &manifest.to);
    let is_same = (&before.place, &after.place) == (&from.place(), &to.place());
    match manifest.phase {
        Phase::Planned => Ok(None),
        Phase::Copying | Phase::Verified | Phase::Complete if is_same => Ok(Some(manifest)),
        Phase::Copying | Phase::Verified | Phase::Complete => Err(wrong(&format!(
            "that folder has the migration from {} ({}) to {} ({}): name another folder with --work",
            before.named, before.place, after.named, after.place
        ))),
        Phase::Undoing | Phase::Returning => Err(wrong("this migration is being rolled back: go on with `rollback`")),
        Phase::Returned => Err(wrong("this migration was rolled back: name another folder with --work")),
    }
}

fn path_in(work: &WorkFolder) -> String {
    work.path.join(MANIFEST).display().to_string()
}

/// Looks, and writes down what it saw.
fn draw_up(from: &Side, to: &Side, work: &WorkFolder, options: Options) -> Result<(Manifest, Report)> {
    let source = open(from, Role::Source, false, options, 0)?;
    let target = open(to, Role::Target, false, options, 0)?;
    let path = work.path.join(MANIFEST);
    let planned = path.exists().then(|| Manifest::load(&path)).transpose()?;
    let id = planned.map_or_else(new_id, |planned| Ok(planned.migration))?;
    let mut manifest = Manifest::new(id, ManifestSide::of(from), ManifestSide::of(to), SystemClock.unix_micros());
    let mut report = Report::of(&manifest, &path_in(work));
    let (all, theirs) = (source.survey()?, target.survey()?);
    let ours = as_it_can_be(all.clone(), &*target);
    let target_mark = target.mark()?;
    manifest.target_is_old = options.replace_old && target_mark.as_ref().is_some_and(|mark| mark.state == MarkState::Moved);
    manifest.target_last_token = theirs.last_token.to_string();
    report.see(&ours, &theirs);
    let mut old = Old::new();
    if manifest.target_is_old {
        add_old(&mut old, &theirs.entries);
    }
    report.intend(&merge::plan(&ours, &old, &theirs, options.on_conflict));
    report.problems = problems(&*source, &*target, [from, to], &ours, &theirs)?;
    report.problems.extend(source.mark()?.filter(Mark::refuses).map(|mark| mark.refusal(&from.place()).message().to_owned()));
    let target_mark = target_mark.filter(|mark| mark.refuses() && !manifest.target_is_old);
    report.problems.extend(target_mark.map(|mark| mark_problem(&mark, to)));
    report.problems.extend(doubts(&report, options));
    report.warnings = source.warnings(Role::Source).into_iter().chain(target.warnings(Role::Target)).collect();
    write_down(&mut manifest, &path, &all, &theirs, options.masters)?;
    manifest.skipped.clone_from(&ours.skipped);
    manifest.save(&path)?;
    target.close().and(source.close())?;
    Ok((manifest, report))
}

fn mark_problem(mark: &Mark, to: &Side) -> String {
    let refusal = mark.refusal(&to.place()).message().to_owned();
    match mark.state {
        MarkState::Moved => format!("{refusal}. If all that is in it may be replaced, say so by --replace-old"),
        _ => refusal,
    }
}

/// The backup, and the manifest that names it.
fn write_down(manifest: &mut Manifest, path: &Path, ours: &Survey, theirs: &Survey, masters: Option<&MasterKeys>) -> Result<()> {
    let head = Head::new(&manifest.migration, &manifest.from.named, &manifest.to.named, manifest.at);
    (manifest.backup_sha256, _) = backup::write(&manifest.backup(path), head, ours, theirs, masters)?;
    (manifest.from.counts, manifest.to.counts) = (ours.counts(), theirs.counts());
    manifest.skipped.clone_from(&ours.skipped);
    manifest.save(path)
}

fn problems(source: &dyn Place, target: &dyn Place, sides: [&Side; 2], ours: &Survey, theirs: &Survey) -> Result<Vec<String>> {
    let mut problems = source.problems(Role::Source)?;
    problems.extend(target.problems(Role::Target)?);
    let known = source.identities()?;
    if target.identities()?.iter().any(|identity| known.contains(identity)) {
        problems.push(format!("{} and {} are one store", sides[0].named, sides[1].named));
    }
    let (comes, room) = (ours.weight(), target.room());
    if let Some(room) = room.filter(|room| *room < comes) {
        problems.push(format!(
            "{} has room for {} KiB, and what comes may take {} KiB: make room there (a Redis's bound is its maxmemory)",
            sides[1].named,
            room >> 10,
            comes.div_ceil(1024)
        ));
    }
    for (survey, side) in [(ours, sides[0]), (theirs, sides[1])] {
        if let Some(key) = survey.in_doubt.first() {
            problems.push(format!(
                "{} does not know whether a change of the {key} was made ({} such): start its server once more, with Redis in reach, and stop \
                 it in good order",
                side.place(),
                survey.in_doubt.len()
            ));
        }
    }
    Ok(problems)
}

/// What only the operator can decide.
fn doubts(report: &Report, options: Options) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some(first) = report.conflicts.first() {
        doubts.push(format!(
            "both stores hold the {}: {} in the source, {} in the target ({} such). Release one of each two, or say whose stays by --conflicts",
            first.key,
            first.source,
            first.target,
            report.conflicts.len()
        ));
    }
    if options.strict && !report.skipped.is_empty() {
        doubts.push(format!("{} entries cannot be taken along, and --strict is given", report.skipped.len()));
    }
    doubts
}

/// A migration under way.
struct Run<'a> {
    manifest: Manifest,
    path: &'a Path,
    source: &'a dyn Place,
    target: &'a dyn Place,
    options: Options<'a>,
    tell: &'a dyn Tell,
}

impl Run<'_> {
    fn go_on(&mut self) -> Result<Report> {
        let mut report = Report::of(&self.manifest, &self.path.display().to_string());
        if self.manifest.phase != Phase::Complete && !self.is_complete()? {
            self.copy(&mut report)?;
            self.complete()?;
        }
        self.enter(Phase::Complete)?;
        if self.options.clean_up {
            let backup = self.backup()?;
            report.cleaned_up = clean(self.source, &backup.from)?;
            self.tell.event(&format!("removed {} entries from {}", report.cleaned_up, self.manifest.from.named));
        }
        report.phase = Some(Phase::Complete);
        Ok(report)
    }

    /// Whether the target decides already: only the manifest does not say so.
    fn is_complete(&self) -> Result<bool> {
        Ok(has_mark(self.source, &self.manifest.migration, MarkState::Moved)? && decides(self.target)?)
    }

    fn copy(&mut self, report: &mut Report) -> Result<()> {
        self.check()?;
        self.enter(Phase::Copying)?;
        self.mark_both()?;
        if !self.manifest.marked {
            // Nobody changes them any more, and nothing was copied yet.
            self.manifest.marked = true;
            let (ours, theirs) = (self.source.survey()?, self.target.survey()?);
            write_down(&mut self.manifest, self.path, &ours, &theirs, self.options.masters)?;
        }
        self.target.disarm_companion(None)?;
        let backup = self.backup()?;
        let remedy = "`rollback` puts them back, and then the migration can begin anew";
        refuse_losses(&backup.from, &self.source.survey()?, &self.manifest.from.named, remedy)?;
        let mut old = Old::new();
        add_old(&mut old, &backup.from);
        if self.manifest.target_is_old {
            add_old(&mut old, &backup.to);
        }
        let brought = bring(&|| self.source.survey(), &old, self.target, self.options, self.tell)?;
        report.see(&brought.source, &brought.target);
        report.intend(&brought.last);
        (report.changes, report.removals) = (brought.changes, brought.removals);
        wait_for_clock(self.target, &self.manifest.to.named, brought.source.last_token)?;
        let Manifest { from, to, skipped, .. } = &mut self.manifest;
        skipped.clone_from(&brought.source.skipped);
        (from.counts, from.digest) = (brought.source.counts(), brought.source.digest());
        (to.counts, to.digest) = (brought.target.counts(), brought.target.digest());
        self.enter(Phase::Verified)?;
        self.tell.event(&format!("copied and compared: {} changes, {} entries alike", brought.changes, brought.last.agreed));
        Ok(())
    }

    /// A server may have been started since the plan was drawn up, or the migration was interrupted.
    fn check(&self) -> Result<()> {
        let problems: Vec<String> =
            self.source.problems(Role::Source)?.into_iter().chain(self.target.problems(Role::Target)?).collect();
        if problems.is_empty() { Ok(()) } else { Err(refused(&problems)) }
    }

    fn mark_both(&self) -> Result<()> {
        let (id, is_old) = (&self.manifest.migration, self.manifest.target_is_old);
        let is_moved = has_mark(self.source, id, MarkState::Moved)?;
        give_mark(self.target, &self.manifest.to.named, Some(&self.mark(MarkState::Arriving)), id, is_old)?;
        if !is_moved {
            let leaving = self.mark(MarkState::Leaving);
            give_mark(self.source, &self.manifest.from.named, Some(&leaving), id, false)?;
            self.source.disarm_companion(Some(&leaving))?;
        }
        Ok(())
    }

    fn complete(&self) -> Result<()> {
        let (id, moved) = (&self.manifest.migration, self.mark(MarkState::Moved));
        self.source.disarm_companion(Some(&moved))?;
        give_mark(self.source, &self.manifest.from.named, Some(&moved), id, false)?;
        give_mark(self.target, &self.manifest.to.named, Some(&self.mark(MarkState::Decides)), id, false)?;
        self.tell.event(&format!("complete: {} decides", self.manifest.to.named));
        Ok(())
    }

    fn mark(&self, state: MarkState) -> Mark {
        mark(&self.manifest, state, &self.path.display().to_string(), false)
    }

    fn enter(&mut self, phase: Phase) -> Result<()> {
        self.manifest.phase = phase;
        self.manifest.save(self.path)
    }

    fn backup(&self) -> Result<Backup> {
        let path = self.manifest.backup(self.path);
        let (backup, digest) = backup::load(&path, self.options.masters)?;
        if digest == self.manifest.backup_sha256 || backup.head.migration == self.manifest.migration {
            return Ok(backup);
        }
        Err(Error::new(Code::InvalidArgument, format!("{} is not the backup of this migration", path.display())))
    }
}

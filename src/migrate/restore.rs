//! A backup into a store.
//!
//! The store has a mark until all of the backup is there; a restore that was interrupted goes on when it is given again.

use std::path::Path;

use super::backup::{self, Backup};
use super::bring::bring;
use super::entry::{Entry, Survey};
use super::merge::{Old, add_old};
use super::open::{Options, Tell, give_mark, open, refused, wait_for_clock};
use super::place::Role;
use super::report::Report;
use super::side::Side;
use crate::error::Result;
use crate::store::contract::local::EntryKey;
use crate::store::moved::{Mark, MarkState};

/// Puts what one side of a backup had into a store. `of_target`: what the migration's target had, not its source. `merge`: the store may have
/// other entries, which stay. `replace_old` of the options: what a store has from which a migration has moved the locks is old, and goes.
///
/// Errors: those of the backup and of the store; `InvalidArgument` if the store has other entries.
pub fn restore(file: &Path, to: &Side, of_target: bool, merge: bool, options: Options, tell: &dyn Tell) -> Result<Report> {
    let (Backup { head, from, to: target }, digest) = backup::load(file, options.masters)?;
    let (entries, named) = if of_target { (target, head.to) } else { (from, head.from) };
    let last_token = entries.values().map(|entry| entry.held.token.get()).max().unwrap_or_default();
    let source = Survey { entries, last_token, ..Survey::default() };
    let id = format!("restore-{}", &digest[..16]);
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string();
    let mark = Mark {
        migration: id.clone(),
        state: MarkState::Restoring,
        from: named.clone(),
        to: to.named.clone(),
        manifest: file.clone(),
    };
    let mut report = Report::between(&head.migration, &named, &to.named, None, &file);
    let (given_before, old) = refuse_others(to, &source, &id, merge, options)?;
    let place = open(to, Role::Target, true, options, given_before)?;
    give_mark(&*place, &to.named, Some(&mark), &id, options.replace_old)?;
    place.disarm_companion(None)?;
    let brought = bring(&|| Ok(source.clone()), &old, &*place, options, tell)?;
    wait_for_clock(&*place, &to.named, last_token)?;
    give_mark(&*place, &to.named, None, &id, false)?;
    report.see(&brought.source, &brought.target);
    report.intend(&brought.last);
    report.changes = brought.changes;
    report.warnings = place.warnings(Role::Target);
    place.close()?;
    tell.event(&format!("restored {} entries of {named} into {}", source.entries.len(), to.named));
    Ok(report)
}

/// Looks, before anything changes; the largest token that the store has given, and what in it is old.
fn refuse_others(to: &Side, source: &Survey, id: &str, merge: bool, options: Options) -> Result<(u64, Old)> {
    let place = open(to, Role::Target, false, options, 0)?;
    let (there, mut problems) = (place.survey()?, place.problems(Role::Target)?);
    let mark = place.mark()?.filter(Mark::refuses);
    // Nobody but the migration that left it has changed it since; or this restore.
    let is_old = options.replace_old && mark.as_ref().is_some_and(|mark| mark.state == MarkState::Moved || mark.migration == id);
    let mut old = Old::new();
    if is_old {
        add_old(&mut old, &there.entries);
    }
    let others = mark.filter(|mark| mark.migration != id && !is_old);
    problems.extend(others.map(|mark| mark.refusal(&to.place()).message().to_owned()));
    let is_other = |key: &EntryKey, entry: &Entry| source.entries.get(key).is_none_or(|ours| ours.held.value != entry.held.value);
    let others: Vec<_> = there.entries.iter().filter(|(key, entry)| is_other(key, entry)).collect();
    if let Some((key, _)) = others.first().filter(|_| !merge && !is_old) {
        problems.push(format!(
            "{} has {} entries that the backup does not have, or not alike, among them the {key}: with --merge they stay, and the backup's \
             come beside them",
            to.place(),
            others.len()
        ));
    }
    place.close()?;
    if problems.is_empty() { Ok((there.last_token, old)) } else { Err(refused(&problems)) }
}

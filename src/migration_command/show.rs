//! What is printed: JSON, or lines for a person.

use std::fmt::Write as _;

use serde::Serialize;

use crate::error::{Code, Error, Result};
use crate::migrate::{Phase, Report, Verified};

/// Most keys of a kind that are named; the manifest has all that were skipped.
const MOST_NAMED: usize = 20;

/// What a command prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// For stdout.
    pub text: Vec<u8>,
    /// Why not all was done; `None` if all was.
    pub incomplete: Option<String>,
    /// What is to be said beside the output.
    pub remarks: Vec<String>,
}

impl Printed {
    fn lines(text: String) -> Printed {
        Printed { text: text.into_bytes(), ..Printed::default() }
    }

    fn of(told: &impl Serialize) -> Result<Printed> {
        let mut text = serde_json::to_vec(told).map_err(|e| Error::new(Code::Internal, format!("the answer: {e}")))?;
        text.push(b'\n');
        Ok(Printed { text, ..Printed::default() })
    }
}

/// A report as JSON, or as lines.
pub(super) fn told(report: &Report, json: bool) -> Result<Printed> {
    let mut outcome = if json { Printed::of(report)? } else { Printed::lines(lines(report)) };
    outcome.incomplete = report.failure();
    Ok(outcome)
}

fn lines(report: &Report) -> String {
    let mut text = String::new();
    let counted = |counts: &std::collections::BTreeMap<String, usize>| {
        let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "from      {}: {}", report.from, counted(&report.from_counts));
    let _ = writeln!(text, "to        {}: {}", report.to, counted(&report.to_counts));
    let put = report.changes - report.removals.min(report.changes);
    let verb = if report.phase == Some(Phase::Planned) { "would" } else { "did" };
    let _ =
        writeln!(text, "changes   {verb} put {put}, remove {}; alike {}, kept {}", report.removals, report.agreed, report.kept);
    for skipped in report.skipped.iter().take(MOST_NAMED) {
        let _ = writeln!(text, "skipped   {}: {}", plain(&skipped.key), plain(&skipped.reason));
    }
    more(&mut text, "skipped", report.skipped.len());
    for conflict in report.conflicts.iter().take(MOST_NAMED) {
        let (source, target) = (plain(&conflict.source), plain(&conflict.target));
        let _ = writeln!(text, "conflict  {}: source {source}, target {target}", plain(&conflict.key));
    }
    more(&mut text, "conflict", report.conflicts.len());
    if report.cleaned_up > 0 {
        let _ = writeln!(text, "clean-up  removed {}", report.cleaned_up);
    }
    report.warnings.iter().for_each(|warning| {
        let _ = writeln!(text, "warning   {}", plain(warning));
    });
    let next = match report.phase {
        Some(Phase::Planned) if report.problems.is_empty() => "planned; nothing was changed: --execute does it",
        Some(Phase::Planned) => "planned; nothing was changed",
        Some(Phase::Complete) => "complete",
        Some(Phase::Returned) => "rolled back",
        Some(_) => "under way",
        None => "restored",
    };
    let _ = writeln!(text, "phase     {next}");
    let _ = writeln!(text, "file      {}", report.file);
    text
}

fn more(text: &mut String, what: &str, all: usize) {
    if all > MOST_NAMED {
        let _ = writeln!(text, "{what:<9} {} more", all - MOST_NAMED);
    }
}

/// Others choose what stands in a key: nothing of that moves the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

pub(super) fn verified(found: &Verified, json: bool) -> Result<Printed> {
    let differ = found.changed.len() + found.gone.len();
    let mut outcome = if json {
        Printed::of(found)?
    } else {
        let mut text = format!("store     {}\nsame      {} of {}\n", found.store, found.same, found.entries);
        for (what, keys) in [("changed", &found.changed), ("gone", &found.gone)] {
            for key in keys.iter().take(MOST_NAMED) {
                let _ = writeln!(text, "{what:<9} {}", plain(key));
            }
            more(&mut text, what, keys.len());
        }
        Printed::lines(text)
    };
    outcome.incomplete = (differ > 0).then(|| format!("{differ} of {} entries are not there as they were moved", found.entries));
    Ok(outcome)
}

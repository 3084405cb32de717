//! `migrate`, `rollback`, `restore`: what is done, how it goes on (on a terminal), what is printed.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use atlock::audit::{AuditLog, Event, Kind};
use atlock::config::Config;
use atlock::error::{Code, Error, Result};
use atlock::migrate::{self, Options, Phase, Report, Side, Tell, Verified};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::migrate_args::{AboutMigration, Common, Migrate, Restore, Rollback};
use super::remark::remark;
use super::show::Outcome;

/// Most keys of a kind that are named; the manifest has all that were skipped.
const MOST_NAMED: usize = 20;

/// Plans or executes a migration, or looks at one.
pub fn migrate(asked: &Migrate, config: Option<&Path>, json: bool) -> Result<Outcome> {
    if let Some(AboutMigration::Verify { manifest, to }) = &asked.about {
        return verified(&migrate::verify(manifest, to.as_deref(), Options::default())?, json);
    }
    let side = |named: &Option<String>| Side::parse(named.as_deref().unwrap_or_default());
    let (from, to) = (side(&asked.from)?, side(&asked.to)?);
    let options =
        Options { strict: asked.strict, clean_up: asked.clean_up, replace_old: asked.replace_old, ..options(&asked.common) };
    let teller = Teller::new(config)?;
    let act = if asked.execute { migrate::execute } else { migrate::plan };
    let report = act(&from, &to, &asked.work, options, &teller).map_err(|e| go_on(e, asked.execute))?;
    teller.finish();
    told(&report, json)
}

/// Moves the locks back.
pub fn rollback(asked: &Rollback, config: Option<&Path>, json: bool) -> Result<Outcome> {
    let teller = Teller::new(config)?;
    let (from, to) = (asked.from.as_deref(), asked.to.as_deref());
    let report = migrate::rollback(&asked.manifest, from, to, options(&asked.common), &teller).map_err(|e| go_on(e, true))?;
    teller.finish();
    told(&report, json)
}

/// Puts a backup into a store.
pub fn restore(asked: &Restore, config: Option<&Path>, json: bool) -> Result<Outcome> {
    let teller = Teller::new(config)?;
    let options = Options { replace_old: asked.replace_old, ..options(&asked.common) };
    let to = Side::parse(&asked.to)?;
    let report = migrate::restore(&asked.backup, &to, asked.second, asked.merge, options, &teller).map_err(|e| go_on(e, true))?;
    teller.finish();
    told(&report, json)
}

fn options(common: &Common) -> Options {
    let on_conflict = common.conflicts.map(Into::into);
    Options { on_conflict, others_are_stopped: common.others_are_stopped, ..Options::default() }
}

/// What a failure leaves behind.
fn go_on(error: Error, changes: bool) -> Error {
    match error.code() {
        Code::Unreachable | Code::Timeout | Code::OutcomeUnknown | Code::StoreFailed if changes => {
            Error::new(error.code(), format!("{error}. Nothing is lost: the same command goes on"))
        }
        _ => error,
    }
}

/// Shows progress on a terminal, and writes the audit trail of the settings, if they have one.
struct Teller {
    bar: RefCell<Option<ProgressBar>>,
    audit: Option<(AuditLog, String)>,
}

impl Teller {
    fn new(config: Option<&Path>) -> Result<Teller> {
        let settings = config.map(Config::load).transpose()?;
        let audit = settings.map(|config| config.locking.audit).filter(|audit| audit.file.is_some());
        let log = audit.map(|audit| AuditLog::open(&audit)).transpose()?;
        let clock: Arc<dyn atlock::clock::Clock> = Arc::new(atlock::clock::SystemClock);
        let instance = atlock::call::Calls::new(clock)?.instance();
        Ok(Teller { bar: RefCell::default(), audit: log.map(|log| (log, instance)) })
    }

    fn finish(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
        if let Some(warning) = self.audit.as_ref().and_then(|(log, _)| log.warning()) {
            remark(&warning);
        }
    }
}

impl Tell for Teller {
    fn begin(&self, what: &str, total: usize) {
        // On what is no terminal, nothing is drawn.
        let length = u64::try_from(total).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {per_sec} {eta} left") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        *self.bar.borrow_mut() = Some(bar);
    }

    fn advance(&self, by: usize) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(u64::try_from(by).unwrap_or(u64::MAX));
        }
    }

    fn event(&self, text: &str) {
        if let Some((log, instance)) = &self.audit {
            log.record(&Event { operation: Some("migrate"), detail: Some(text), ..Event::new(Kind::Migration, instance) });
        }
    }
}

/// A report as JSON, or as lines.
fn told(report: &Report, json: bool) -> Result<Outcome> {
    let mut outcome = if json { Outcome::of(report)? } else { Outcome::lines(lines(report), true) };
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

fn verified(found: &Verified, json: bool) -> Result<Outcome> {
    let differ = found.changed.len() + found.gone.len();
    let mut outcome = if json {
        Outcome::of(found)?
    } else {
        let mut text = format!("store     {}\nsame      {} of {}\n", found.store, found.same, found.entries);
        for (what, keys) in [("changed", &found.changed), ("gone", &found.gone)] {
            for key in keys.iter().take(MOST_NAMED) {
                let _ = writeln!(text, "{what:<9} {}", plain(key));
            }
            more(&mut text, what, keys.len());
        }
        Outcome::lines(text, true)
    };
    outcome.incomplete = (differ > 0).then(|| format!("{differ} of {} entries are not there as they were moved", found.entries));
    Ok(outcome)
}

//! `atlock doctor`: what is wrong, and what to do.

use std::path::Path;
use std::sync::Arc;

use atlock::audit::{Actor, AuditLog, Event, Kind};
use atlock::call::Calls;
use atlock::clock::{Clock, SystemClock};
use atlock::config::Config;
use atlock::doctor::{Finding, Fix, Severity, check, gather, write_bundle};
use atlock::error::Result;
use atlock::queue::freeze::plain;
use serde::Serialize;

use super::ask::{confirmed, is_somebody_there};
use super::remark::remark;
use super::show::Outcome;

/// Looks, and tells. What is above `info` makes the command fail, and so does a fix that does.
///
/// `fix`: what can be put right is told, and done if that is `Some(true)`, or if a person at a terminal says so.
pub fn doctor(file: Option<&Path>, bundle: Option<&Path>, fix: Option<bool>, json: bool) -> Result<Outcome> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let facts = gather(file, &clock);
    let mut findings = check(&facts);
    if let Some(path) = bundle {
        write_bundle(path, &facts, &findings)?;
    }
    let mut done = Vec::new();
    if let (Some(yes), Ok(config)) = (fix, &facts.config) {
        let fixes: Vec<_> = findings.iter().filter_map(|finding| Some((finding.name, finding.fix.clone()?))).collect();
        if !fixes.is_empty() && (yes || is_wanted(&fixes)?) {
            done = apply(config, &fixes, &clock)?;
            findings = check(&gather(file, &clock));
        }
    }
    let outcome = if json {
        Outcome::of(&serde_json::json!({ "checks": findings, "fixed": done }))?
    } else {
        let done: String = done.iter().map(Done::line).collect();
        Outcome::lines(done + &lines(&findings, fix.is_some()), true)
    };
    let failed = done.iter().filter(|done| done.error.is_some()).count();
    let failed = (failed > 0).then(|| format!("fixes that failed: {failed}"));
    let reasons: Vec<String> = failed.into_iter().chain(summary(&findings)).collect();
    Ok(Outcome { incomplete: (!reasons.is_empty()).then(|| reasons.join("; ")), ..outcome })
}

/// Asks a person, if there is one at a terminal.
fn is_wanted(fixes: &[(&str, Fix)]) -> Result<bool> {
    if !is_somebody_there() {
        return Ok(false);
    }
    let named: Vec<String> = fixes.iter().map(|(_, fix)| plain(&fix.to_string())).collect();
    confirmed(&format!("{}: shall that be done?", named.join("; ")))
}

/// What came of a fix.
#[derive(Serialize)]
struct Done {
    name: &'static str,
    fix: Fix,
    done: Option<String>,
    error: Option<String>,
}

impl Done {
    fn line(&self) -> String {
        match (&self.done, &self.error) {
            (Some(done), _) => format!("fixed    {}: {}\n", self.name, plain(done)),
            (None, error) => format!("failed   {}: {}\n", self.name, plain(error.as_deref().unwrap_or_default())),
        }
    }
}

/// Puts right what can be, each with an entry of the audit trail. A trail that cannot be opened keeps all as they are.
fn apply(config: &Config, fixes: &[(&'static str, Fix)], clock: &Arc<dyn Clock>) -> Result<Vec<Done>> {
    let log = AuditLog::of_command(&config.locking.audit)?;
    let actor = Actor::this_process();
    let instance = Calls::new(Arc::clone(clock))?.instance();
    let apply = |(name, fix): &(&'static str, Fix)| {
        let result = fix.apply(config);
        if let Some(log) = &log {
            let (text, code) = match &result {
                Ok(done) => (done.clone(), None),
                Err(e) => (e.message().to_owned(), Some(e.code().name())),
            };
            let detail = format!("{name}: {fix}: {text}");
            let event = Event { operation: Some("doctor"), detail: Some(&detail), code, ..Event::new(Kind::Repair, &instance) };
            log.record(&event.done_by(&actor));
        }
        let error = result.as_ref().err().map(ToString::to_string);
        Done { name, fix: fix.clone(), done: result.ok(), error }
    };
    let done = fixes.iter().map(apply).collect();
    log.and_then(|log| log.warning()).iter().for_each(|warning| remark(warning));
    Ok(done)
}

/// `fixes`: of each finding is told whether this program can put it right.
fn lines(findings: &[Finding], fixes: bool) -> String {
    let line = |finding: &Finding| {
        let severity = word(finding.severity);
        let first = format!("{severity:<8} {}: {}\n", finding.name, plain(&finding.evidence));
        let advice = finding.advice.iter().map(|advice| format!("         → {}\n", plain(advice)));
        let fix = match &finding.fix {
            Some(fix) if fixes => format!("         --fix would {}; --yes does it\n", plain(&fix.to_string())),
            Some(_) => "         `atlock doctor --fix` can do that\n".to_owned(),
            None if fixes && finding.severity != Severity::Ok => "         --fix does nothing here\n".to_owned(),
            None => String::new(),
        };
        first + &advice.collect::<String>() + &fix
    };
    findings.iter().map(line).collect()
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// How much is above `info`.
fn summary(findings: &[Finding]) -> Option<String> {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    (errors + warnings > 0).then(|| format!("errors: {errors}, warnings: {warnings}"))
}

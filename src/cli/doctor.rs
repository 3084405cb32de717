//! `atlock doctor`: what is wrong, and what to do.

use std::path::Path;
use std::sync::Arc;

use atlock::clock::{Clock, SystemClock};
use atlock::doctor::{Finding, Severity, check, gather, write_bundle};
use atlock::error::Result;
use atlock::queue::freeze::plain;

use super::show::Outcome;

/// Looks, and tells. What is above `info` makes the command fail.
pub fn doctor(file: Option<&Path>, bundle: Option<&Path>, json: bool) -> Result<Outcome> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let facts = gather(file, &clock);
    let findings = check(&facts);
    if let Some(path) = bundle {
        write_bundle(path, &facts, &findings)?;
    }
    let outcome =
        if json { Outcome::of(&serde_json::json!({ "checks": findings }))? } else { Outcome::lines(lines(&findings), true) };
    Ok(Outcome { incomplete: summary(&findings), ..outcome })
}

fn lines(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let severity = word(finding.severity);
        let first = format!("{severity:<8} {}: {}\n", finding.name, plain(&finding.evidence));
        let advice = finding.advice.iter().map(|advice| format!("         → {}\n", plain(advice)));
        first + &advice.collect::<String>()
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

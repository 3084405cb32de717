//! What a check says.

use serde::Serialize;

use super::fix::Fix;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is to be done.
    Ok,
    /// Worth knowing; nothing must be done.
    Info,
    /// Locks are safe now, and may not be after the next fault.
    Warning,
    /// Locks are refused, or may be lost or granted twice.
    Error,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub evidence: String,
    /// What to do; `None` where nothing is to be done.
    pub advice: Option<String>,
    /// What this program can put right by itself; `None` where a person has to decide, or nothing is to be done.
    pub fix: Option<Fix>,
}

impl Finding {
    pub(super) fn ok(name: &'static str, evidence: impl Into<String>) -> Finding {
        Finding { name, severity: Severity::Ok, evidence: evidence.into(), advice: None, fix: None }
    }

    pub(super) fn info(name: &'static str, evidence: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { name, severity: Severity::Info, evidence: evidence.into(), advice: Some(advice.into()), fix: None }
    }

    pub(super) fn warning(name: &'static str, evidence: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::info(name, evidence, advice) }
    }

    /// The same, which this puts right.
    pub(super) fn fixed_by(self, fix: Fix) -> Finding {
        Finding { fix: Some(fix), ..self }
    }

    pub(super) fn error(name: &'static str, evidence: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { severity: Severity::Error, ..Finding::info(name, evidence, advice) }
    }
}

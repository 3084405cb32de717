//! `atlock doctor`: what is wrong, how that is known, and what to do, in one look.
//!
//! Facts are gathered first (`gather`, `folder`), and the checks are pure functions of the facts, so that each fault can be shown to each
//! check without having the fault. A bundle for a bug report (`bundle`) is written from the same facts. What can be put right without a
//! person's decision is a part of the finding (`fix`).
//!
//! Invariants:
//! - Without `--fix` nothing changes, in no store and no folder: a server that runs is asked by its socket, for what only reads; without one the
//!   stores are looked at (`crate::look`), and Redis is asked by commands that only read (`store::redis::inspect`).
//! - One fact that cannot be had costs the checks that need that fact, and no other; the check says what could not be asked. What
//!   could not be asked is never told as `ok`.
//! - Facts hold no lock values, which have clone URLs with tokens, and no password. So no report can show one.
//!
//! Faults survived: settings that cannot be read, a server that hangs, a damaged store, a Redis that is away, that refuses a command or
//! answers slowly: each has the deadline of its own client.
//!
//! What is not seen: plans, pull requests and Atlantis's own file are the linked server's; where to ask that server is said.

mod bundle;
mod finding;
mod fix;
mod folder;
mod gather;
mod local_checks;
mod lock_checks;
mod redis_checks;

use std::path::Path;
use std::sync::Arc;

pub use self::bundle::write as write_bundle;
pub use self::finding::{Finding, Severity};
pub use self::fix::Fix;
pub use self::gather::Facts;
use crate::clock::Clock;

/// Gathers the facts about a settings file (`None`: about the environment variables alone).
pub fn gather(path: Option<&Path>, clock: &Arc<dyn Clock>) -> Facts {
    gather::gather(path, clock)
}

/// What the checks find in the facts, the worst first.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = local_checks::all(facts);
    findings.extend(redis_checks::all(facts));
    findings.extend(lock_checks::all(facts));
    // Stable: those of one severity stay in the order of the checks.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

#[cfg(test)]
mod tests;

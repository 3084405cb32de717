//! What an operator sees of hybrid mode now.

use super::core::Core;
use super::host_copy::HostCopy;
use super::redis_access::micros;
use super::status::{ConflictReport, Report};
use crate::config::Durability;

/// The state of hybrid mode.
pub(super) fn report(core: &Core, host_copy: Option<&HostCopy>) -> Report {
    let unarmed_because = core.arming.unarmed();
    let (summary, seen) = (core.authority.summary(), core.seen.lock().clone());
    let breaker = core.authority.breaker();
    Report {
        fallback_active: core.in_fallback(),
        circuit_state: breaker.state().to_string(),
        cause: summary.cause.as_ref().map(|cause| cause.message().to_owned()),
        since: summary.since,
        next_probe: breaker
            .reopens_at()
            .map(|at| core.clock.unix_micros().saturating_add(micros(at.saturating_duration_since(core.clock.now())))),
        armed: unarmed_because.is_none(),
        unarmed_because,
        journal_length: core.unsynced.count(),
        conflicts: core.conflicts.all().iter().map(ConflictReport::of).collect(),
        last_recovery: seen.last_recovery,
        fallbacks: summary.fallbacks,
        needs_local: core.settings.durability == Durability::Sync,
        enhanced: seen.redis,
        legacy: seen.local,
        host_store: host_copy.map(|copy| copy.report(core.clock.now())),
    }
}

/// What endangers a promise.
pub(super) fn warnings(core: &Core, host_copy: Option<&HostCopy>) -> Vec<String> {
    let report = report(core, host_copy);
    let mut warnings = core.redis.current().map(|redis| redis.warnings()).unwrap_or_default();
    warnings.extend(core.local.store().warnings());
    warnings.extend(host_copy.map(|copy| copy.warnings(core.clock.now())).unwrap_or_default());
    if let Some(cause) = report.cause {
        warnings.push(format!("Redis is not asked: {cause}"));
    }
    if let Some(because) = report.unarmed_because {
        warnings.push(format!("no lock is granted while Redis is away: {because}"));
    }
    warnings.extend(report.conflicts.iter().map(ConflictReport::warning));
    warnings
}

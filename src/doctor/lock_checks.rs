//! Hybrid mode's state, and the locks.

use serde_json::Value;

use super::finding::{Finding, Severity};
use super::gather::{Facts, Locks};
use crate::config::Mode;

/// Most locks that are named.
const MOST_NAMED: usize = 10;

pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.status["mode"] == "hybrid" {
        findings.extend(hybrid(facts));
    }
    match &facts.locks {
        Some(Ok(locks)) => {
            findings.push(entries(locks));
            findings.extend(old(facts, locks));
        }
        Some(Err(e)) => findings.push(Finding::error(
            "entries",
            format!("the locks cannot be listed: {e}"),
            format!("docs/05-troubleshooting.md, \"Every error\", has the row {}", e.code().name()),
        )),
        None => {}
    }
    findings.extend(linked_server(facts));
    findings
}

fn hybrid(facts: &Facts) -> Vec<Finding> {
    let (status, mut findings) = (&facts.status, Vec::new());
    let text = |name: &str| status[name].as_str().unwrap_or("no cause is told").to_owned();
    let is_decided = facts.server.is_some();
    if is_decided && status["circuit_state"] != "closed" {
        let state = format!("the breaker is {}: {}", text("circuit_state"), text("cause"));
        findings.push(Finding::warning(
            "breaker",
            state,
            "docs/05-troubleshooting.md, \"Redis is away\", has a row for each cause",
        ));
    } else if is_decided {
        findings.push(Finding::ok("breaker", "closed: Redis decides"));
    }
    if is_decided && status["armed"] == false {
        let advice = "docs/05-troubleshooting.md, \"Not armed\": while Redis is away, this server grants no locks";
        findings.push(Finding::warning("armed", text("unarmed_because"), advice));
    }
    let conflicts: Vec<&str> =
        status["conflicts"].as_array().into_iter().flatten().filter_map(|conflict| conflict["key"].as_str()).collect();
    findings.push(if conflicts.is_empty() {
        Finding::ok("conflicts", "no lock was granted twice")
    } else {
        let text = format!("granted twice: {}", quoted(&conflicts));
        Finding::error(
            "conflicts",
            text,
            "docs/05-troubleshooting.md, \"A conflict\": let both pull requests plan again before either applies",
        )
    });
    findings.push(match status["journal_length"].as_u64().unwrap_or_default() {
        0 => Finding::ok("unsynced", "Redis has all that was decided here"),
        count => {
            // While the breaker is open, or no server runs, there must be some.
            let severity = if is_decided && status["fallback_active"] == false { Severity::Warning } else { Severity::Info };
            let text = format!("Redis does not know yet what was decided here of {count} keys");
            let advice = "They are carried over when Redis answers, or at the next start; \
                          docs/05-troubleshooting.md, \"Changes that Redis lacks\"";
            Finding { severity, ..Finding::info("unsynced", text, advice) }
        }
    });
    findings.extend(copy(&status["host_store"]));
    findings
}

/// What is known of the copy in Atlantis's BoltDB file.
fn copy(copy: &Value) -> Option<Finding> {
    let name = "bolt copy";
    if !copy.is_object() {
        return None;
    }
    let advice = "docs/05-troubleshooting.md, \"The copy in atlantis.db\"";
    let told = |field: &str| copy[field].as_str().map(str::to_owned);
    Some(if let Some(error) = told("error") {
        Finding::warning(name, format!("the copy is behind: {error}"), advice)
    } else if let Some(why) = told("not_believed") {
        Finding::warning(name, format!("what the copy had at the start was not believed: {why}"), advice)
    } else if copy["refused"].as_u64().is_some_and(|refused| refused > 0) {
        Finding::warning(name, format!("the copy does not take {} entries", copy["refused"]), advice)
    } else if copy["followed"] == false {
        Finding::info(name, "the copy is not up to date yet", "Wait a moment, and look again")
    } else {
        Finding::ok(name, "the copy is up to date")
    })
}

fn entries(locks: &Locks) -> Finding {
    let (name, keys) = ("entries", locks.unreadable.iter().map(|(key, why)| format!("{key:?}: {why}")));
    if !locks.unreadable.is_empty() {
        let count = locks.unreadable.len();
        let named: Vec<String> = keys.take(MOST_NAMED).collect();
        let more = if count > named.len() { format!(" and {} more", count - named.len()) } else { String::new() };
        return Finding::warning(
            name,
            format!("{count} entries are no locks: {}{more}", named.join("; ")),
            "Find out who wrote them: another program may share the database. `atlock discard KEY` removes one",
        );
    }
    match &locks.incomplete {
        Some(why) => Finding::warning(name, format!("there may be more locks: {why}"), "Try again"),
        None => Finding::ok(name, format!("{} locks, all readable", locks.held.len())),
    }
}

/// Locks that are held longer than anybody may wait for one.
fn old(facts: &Facts, locks: &Locks) -> Option<Finding> {
    let limit = facts.config.as_ref().ok()?.locking.enhanced.timeouts.max;
    let longest = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    let age = |since: Option<u64>| facts.now.saturating_sub(since.unwrap_or(facts.now));
    let mut old: Vec<_> = locks.held.iter().filter(|held| age(held.since) > longest).collect();
    let limit = humantime_serde::re::humantime::format_duration(limit);
    if old.is_empty() {
        return Some(Finding::ok("old locks", format!("none is held for more than {limit} (locking.enhanced.timeouts.max)")));
    }
    old.sort_by_key(|held| std::cmp::Reverse(age(held.since)));
    let named: Vec<String> = old.iter().take(MOST_NAMED).map(|held| format!("{:?} (#{})", held.key, held.pull)).collect();
    Some(Finding::info(
        "old locks",
        format!(
            "{} held for more than {limit} (locking.enhanced.timeouts.max), the oldest first: {}",
            old.len(),
            named.join(", ")
        ),
        "A lock is held as long as its pull request is open: `atlock explain KEY` says what would free it",
    ))
}

/// What a linked server alone knows.
fn linked_server(facts: &Facts) -> Option<Finding> {
    let count = facts.locks.as_ref()?.as_ref().ok()?.held.len();
    let is_strict = facts.config.as_ref().is_ok_and(|config| config.mode() == Mode::Strict);
    (count > 0).then(|| {
        let whose = if is_strict { "the linked server" } else { "each linked server" };
        let advice = format!("Ask {whose}: GET /api/locks/stale");
        Finding::info("plans", "locks without plans and locks of closed pull requests are not looked for here", advice)
    })
}

fn quoted(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ")
}

//! What Redis is, how it is set, and who uses it.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;

use super::finding::Finding;
use super::fix::Fix;
use super::gather::Facts;
use crate::config::Instances;
use crate::error::Code;
use crate::store::redis::{Entries, RedisFacts};

/// The oldest major version that is supported.
const OLDEST: u64 = 7;
/// A larger difference between the clocks is a mistake of somebody's, microseconds.
const CLOCKS_APART: u64 = 5_000_000;
/// So long after its last announcement a server is told as away, microseconds: it announces itself every few seconds, and counts as there
/// for ten minutes.
const AWAY: u64 = 600 * 1_000_000;

pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let redis = match &facts.redis {
        None => return Vec::new(),
        Some(Err(e)) => {
            let advice = match e.code() {
                Code::ReadOnly => "Give the master's address; after a fail-over, the new one's",
                Code::Permission | Code::Authentication => {
                    "docs/03-configuration.md, \"The Redis user\", has what the user needs"
                }
                _ => "docs/05-troubleshooting.md, \"Redis is away\", has a row for each cause",
            };
            return vec![Finding::error("redis", e.message(), advice)];
        }
        Some(Ok(redis)) => redis,
    };
    let mut findings = vec![version(redis), persistence(redis), eviction(redis), clock(redis), rights(redis)];
    findings.extend(servers(facts, redis));
    findings.push(old_format(redis));
    findings.push(index(facts, redis));
    findings.push(leftovers(redis));
    findings
}

fn version(redis: &RedisFacts) -> Finding {
    let name = "redis version";
    let Some(version) = &redis.version else {
        return Finding::info(name, "this user may not ask Redis for its version", "Allow +info, to have it checked");
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    if major.is_some_and(|major| major < OLDEST) {
        return Finding::warning(
            name,
            format!("Redis is version {version}"),
            format!("Use {OLDEST}.0 or newer: older ones are not tested"),
        );
    }
    Finding::ok(name, format!("Redis {version}, a master"))
}

fn persistence(redis: &RedisFacts) -> Finding {
    let name = "redis persistence";
    match (redis.appends, redis.saves.as_deref()) {
        (Some(true), _) => Finding::ok(name, "appendonly is on"),
        (Some(false), Some("")) => Finding::warning(
            name,
            "Redis saves nothing to disk: a restart loses every lock",
            "Set appendonly yes in Redis's settings (CONFIG SET appendonly yes, then CONFIG REWRITE)",
        ),
        (Some(false), Some(saves)) => Finding::info(
            name,
            format!("Redis saves snapshots only (save {saves}): a crash loses the locks since the last one"),
            "Set appendonly yes: hybrid mode restores what was lost, native mode cannot",
        ),
        (None, _) | (_, None) => Finding::info(
            name,
            "whether Redis saves its data could not be asked: this user may not, or the provider took the command away",
            "Look it up there, or allow +info and +config|get",
        ),
    }
}

fn eviction(redis: &RedisFacts) -> Finding {
    let name = "redis eviction";
    match redis.policy.as_deref() {
        Some("noeviction") => Finding::ok(name, "maxmemory-policy is noeviction"),
        Some(policy) => Finding::warning(
            name,
            format!("maxmemory-policy is {policy}: Redis may evict locks, which are then granted again"),
            "Set maxmemory-policy noeviction in Redis's settings",
        ),
        None => Finding::info(name, "maxmemory-policy could not be asked", "Look it up there, or allow +info"),
    }
}

fn clock(redis: &RedisFacts) -> Finding {
    let (name, apart) = ("clocks", redis.clock_ahead.unsigned_abs());
    let way = if redis.clock_ahead < 0 { "behind" } else { "ahead of" };
    let text = format!("Redis's clock is {} {way} this machine's, give or take {}", span(apart), span(redis.clock_unsure));
    if apart.saturating_sub(redis.clock_unsure) > CLOCKS_APART {
        return Finding::warning(name, text, "Let both machines set their clocks by NTP: fencing tokens follow them");
    }
    Finding::ok(name, text)
}

fn rights(redis: &RedisFacts) -> Finding {
    let name = "redis rights";
    match redis.missing_rights.as_deref() {
        None => Finding::info(
            name,
            "which rights this user has could not be asked",
            "Allow +acl|whoami and +acl|dryrun, to have it checked; a server tries its rights when it starts, and names what lacks",
        ),
        Some([]) => Finding::ok(name, "this user may do all that a server does"),
        Some(missing) => Finding::error(
            name,
            format!("Redis says: {}", missing.join("; ")),
            "docs/03-configuration.md, \"The Redis user\", has what the user needs",
        ),
    }
}

fn servers(facts: &Facts, redis: &RedisFacts) -> Vec<Finding> {
    let is_single = facts.config.as_ref().is_ok_and(|config| config.locking.enhanced.instances == Instances::Single);
    let (away, here): (Vec<_>, Vec<_>) =
        redis.instances.iter().filter(|instance| !instance.left).partition(|instance| instance.age > AWAY);
    let named = |instances: &[&crate::store::redis::Instance]| {
        let named = instances.iter().map(|instance| format!("{} ({} ago)", instance.name, span(instance.age)));
        named.collect::<Vec<_>>().join(", ")
    };
    let mut findings = Vec::new();
    if is_single && here.len() > 1 {
        findings.push(Finding::warning(
            "servers",
            format!("{} servers use this Redis: {}", here.len(), named(&here)),
            "Set locking.enhanced.instances: many in each, or end those that should not be there; one that was killed goes away by itself \
             in ten minutes",
        ));
    }
    if !away.is_empty() {
        findings.push(Finding::info(
            "stale announcements",
            format!("these announced themselves and did not say that they leave: {}", named(&away)),
            "If such a server was ended, nothing is to be done. If it runs, it cannot reach this Redis: look at its status",
        ));
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok("servers", format!("{} in hybrid mode announced themselves in the last ten minutes", here.len())));
    }
    findings
}

fn old_format(redis: &RedisFacts) -> Finding {
    let name = "old format";
    if redis.old_format.count == 0 {
        return whole(redis, name, "no locks under the keys of Atlantis before v0.40");
    }
    Finding::info(
        name,
        format!("{} under the keys of Atlantis before v0.40: {}", locks(&redis.old_format), names(&redis.old_format)),
        "The next start moves them to today's keys",
    )
}

fn index(facts: &Facts, redis: &RedisFacts) -> Finding {
    let (name, lacking) = ("index", &redis.not_indexed);
    let is_scanned = facts.config.as_ref().is_ok_and(|config| config.locking.enhanced.redis.shared_with_stock);
    if lacking.count == 0 {
        return whole(redis, name, "the index has every lock");
    }
    let text = format!("the index of all locks lacks {}: {}", locks(lacking), names(lacking));
    if is_scanned {
        let advice = "Nothing must be done: lists look at all keys (shared_with_stock). The next start puts them into the index";
        return Finding::info(name, text, advice).fixed_by(Fix::Index);
    }
    Finding::warning(
        name,
        text,
        "Lists and releases by pull miss these locks. Restart a server, which puts them into the index; if a stock Atlantis uses \
         this Redis, set shared_with_stock: true",
    )
    .fixed_by(Fix::Index)
}

fn leftovers(redis: &RedisFacts) -> Finding {
    let (name, index, sides) = ("leftovers", &redis.orphaned_index, &redis.orphaned_sides);
    if index.count + sides.count == 0 {
        return whole(redis, name, "no index entries and side hashes without a lock");
    }
    let told = [("index entries", index), ("side hashes", sides)].into_iter().filter(|(_, entries)| entries.count > 0);
    let told: Vec<String> =
        told.map(|(kind, entries)| format!("{} {kind} without a lock: {}", entries.count, names(entries))).collect();
    Finding::info(
        name,
        told.join("; "),
        "They do no harm, as after a stock server released the locks: the next start removes index entries \
         and gives their side hashes an end",
    )
    .fixed_by(Fix::Leftovers)
}

/// Nothing was found; which is well only if all was looked at.
fn whole(redis: &RedisFacts, name: &'static str, text: &str) -> Finding {
    match &redis.incomplete {
        None => Finding::ok(name, text),
        Some(why) => Finding::info(name, format!("not all of Redis was looked at: {why}"), "Try again while Redis is less busy"),
    }
}

fn locks(entries: &Entries) -> String {
    if entries.count == 1 { "1 lock".to_owned() } else { format!("{} locks", entries.count) }
}

fn names(entries: &Entries) -> String {
    let named: Vec<String> = entries.named.iter().map(|name| format!("\"{name}\"")).collect();
    let more = entries.count - entries.named.len();
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

/// A time for a person: whole seconds, or whole milliseconds of less than ten.
fn span(micros: u64) -> String {
    let span = Duration::from_micros(micros);
    let span = if micros < 10_000_000 { Duration::from_millis(micros / 1000) } else { Duration::from_secs(span.as_secs()) };
    format_duration(span).to_string()
}

//! What Redis is, how it is set, and who uses it.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;

use super::finding::Finding;
use super::fix::Fix;
use super::gather::Facts;
use crate::config::Instances;
use crate::error::Code;
use crate::store::redis::{Entries, RedisFacts};

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
                Code::RedisTooOld => "docs/02-compatibility.md has the releases that were tried",
                Code::Permission | Code::Authentication | Code::NoSuchCommand => {
                    "docs/03-configuration.md, \"The Redis user\", has what the user needs"
                }
                _ => "docs/05-troubleshooting.md, \"Redis is away\", has a row for each cause",
            };
            return vec![Finding::error("redis", e.message(), advice)];
        }
        Some(Ok(redis)) => redis,
    };
    let mut findings = vec![version(redis), persistence(redis), eviction(redis), clock(redis), rights(redis)];
    findings.extend(sentinels(redis));
    findings.extend(servers(facts, redis));
    findings.push(old_format(redis));
    findings.push(index(facts, redis));
    findings.push(leftovers(redis));
    findings
}

fn version(redis: &RedisFacts) -> Finding {
    let name = "redis version";
    match &redis.version {
        // An older one than is supported refuses to be opened.
        Some(version) => Finding::ok(name, format!("Redis {version}, a master")),
        None => Finding::info(name, "this user may not ask Redis for its version", "Allow +info, to have it checked"),
    }
}

/// Whether the Sentinels answer, and agree.
fn sentinels(redis: &RedisFacts) -> Option<Finding> {
    let (name, told) = ("sentinels", redis.sentinels.as_ref()?);
    let masters: Vec<&String> = told.iter().filter_map(|(_, master)| master.as_ref().ok()).collect();
    let silent: Vec<&str> = told.iter().filter_map(|(_, master)| master.as_ref().err()).map(String::as_str).collect();
    let Some(master) = masters.first() else {
        return Some(Finding::error(
            name,
            format!("no Sentinel tells the master: {}", silent.join("; ")),
            "Look whether the Sentinels run: without them a new master is not found",
        ));
    };
    if masters.iter().any(|other| other != master) {
        let said = told.iter().filter_map(|(sentinel, master)| Some(format!("{sentinel} says {}", master.as_ref().ok()?)));
        return Some(Finding::warning(
            name,
            format!("the Sentinels disagree who the master is: {}", said.collect::<Vec<_>>().join(", ")),
            "That is so during a fail-over. If it lasts, one of them is cut off from the others, or watches another master by this name",
        ));
    }
    if !silent.is_empty() {
        let advice = "Without a majority of the Sentinels there is no fail-over: bring these back, or take them out of redis.sentinel.addresses";
        return Some(Finding::warning(
            name,
            format!("{} of {} Sentinels do not tell the master: {}", silent.len(), told.len(), silent.join("; ")),
            advice,
        ));
    }
    Some(Finding::ok(name, format!("{} Sentinels say that the master is {master}", told.len())))
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
        (Some(false), None) => Finding::info(
            name,
            "appendonly is no, and whether Redis saves snapshots could not be asked: this user may not, which is right, or the provider took \
             CONFIG away",
            "Set appendonly yes, or let Redis's administrator look up save. Do not allow +config|get for it, which shows every password in \
             Redis's settings",
        ),
        (None, _) => Finding::info(name, "whether Redis saves its data could not be asked", "Look it up there, or allow +info"),
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

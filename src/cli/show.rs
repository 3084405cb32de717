//! What is printed: JSON as it came, or lines for a person. Never a clone URL, which holds a token, but with `--json`.

use std::time::{Duration, UNIX_EPOCH};

use atlock::domain::json::parse_json;
use atlock::domain::lock::ProjectLock;
use atlock::error::{Code, Error, Result};
use atlock::hybrid::status::Recovery;
use atlock::queue::freeze::plain;
use humantime_serde::re::humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::table::{self, table};

/// What a command prints, and whether it found what it was asked for.
pub struct Outcome {
    pub text: Vec<u8>,
    pub found: bool,
    /// Why that is not all.
    pub incomplete: Option<String>,
    /// The exit status if it was found.
    pub status: u8,
}

impl Outcome {
    pub(super) fn lines(text: String, found: bool) -> Outcome {
        Outcome { text: text.into_bytes(), found, incomplete: None, status: 0 }
    }

    /// What this program itself has to tell.
    pub(super) fn of(told: &impl Serialize) -> Result<Outcome> {
        let text = serde_json::to_vec(told).map_err(|e| Error::new(Code::Internal, format!("the answer: {e}")))?;
        Ok(Outcome::json(text, true))
    }

    pub(super) fn json(mut json: Vec<u8>, found: bool) -> Outcome {
        json.push(b'\n');
        Outcome { text: json, found, incomplete: None, status: 0 }
    }
}

/// The version of this program, which is the library's.
pub fn version(json: bool) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        return Outcome::json(serde_json::json!({ "version": version }).to_string().into_bytes(), true);
    }
    Outcome::lines(format!("atlock {version}\n"), true)
}

/// An answer, which another version may have given.
pub(super) fn read<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T> {
    parse_json(answer).map_err(|e| Error::new(Code::Protocol, format!("the answer cannot be read: {e}")))
}

/// Whether locks are granted as they should be: 0 if they are, 4 if they are granted otherwise (degraded), 5 if none is.
pub fn check(health: &[u8]) -> Result<u8> {
    let health: Value = read(health)?;
    Ok(match health["state"].as_str() {
        Some("healthy") => 0,
        Some("degraded") => 4,
        _ => 5,
    })
}

/// Who decides, the mode, stores, hybrid mode, warnings.
pub fn status(status: &[u8], health: &[u8], json: bool) -> Result<Outcome> {
    if json {
        let both = [br#"{"health":"#, health, br#","status":"#, status, b"}"].concat();
        return Ok(Outcome::json(both, true));
    }
    let (status, health): (Value, Value) = (read(status)?, read(health)?);
    let mut text = format!(
        "state     {}: {}\nmode      {}\n",
        word(&health["state"]),
        plain(word(&health["headline"])),
        word(&status["mode"])
    );
    for (name, store) in [("redis", &health["enhanced"]), ("local", &health["legacy"])] {
        match (store["healthy"].as_bool(), store["error"].as_str()) {
            (None, _) => {}
            (Some(_), Some(error)) => text += &format!("{name:<9} does not work: {}\n", plain(error)),
            (Some(true), None) => text += &format!("{name:<9} answered in {}\n", plain(&took(store))),
            (Some(false), None) => text += &format!("{name:<9} does not work\n"),
        }
    }
    // What everybody hears of a server has no version, nor anything else that an operator sees.
    if !status["version"].is_string() {
        text += &format!("breaker   {}\n", plain(word(&status["circuit_state"])));
        text += "note      the server tells more to who gives its API token (--token-file)\n";
        return Ok(Outcome::lines(text, true));
    }
    if status["mode"] == "hybrid" {
        text += &hybrid(&status);
    }
    let repos: Vec<String> = list_of(&status["queue_repos"]).iter().map(|pattern| plain(word(pattern))).collect();
    if !repos.is_empty() {
        text += &format!("queue     for {}\n", repos.join(", "));
    }
    text += &shadow(&status["shadow"]);
    for warning in list_of(&status["warnings"]) {
        text += &format!("warning   {}\n", plain(word(warning)));
    }
    Ok(Outcome::lines(text, true))
}

/// How long a store took to answer, by a server that tells all, or what everybody hears.
pub(super) fn took(store: &Value) -> String {
    store["response_time_ms"].as_f64().map_or_else(|| word(&store["response_time"]).to_owned(), |ms| format!("{ms:.2} ms"))
}

/// The state of hybrid mode. Where no server decides, there is no breaker.
fn hybrid(status: &Value) -> String {
    let because = |reason: &Value| reason.as_str().map_or_else(String::new, |reason| format!(": {}", plain(reason)));
    let mut text = String::new();
    if status["circuit_state"] != "disabled" {
        let (state, since) = (word(&status["circuit_state"]), time(&status["since"]));
        text += &format!("breaker   {state} since {since}{}\n", because(&status["cause"]));
    }
    if status["next_probe"].is_number() {
        text += &format!("probe     of Redis next at {}\n", time(&status["next_probe"]));
    }
    text += &format!("armed     {}{}\n", if status["armed"] == true { "yes" } else { "no" }, because(&status["unarmed_because"]));
    let waiting = status["journal_length"].as_u64().unwrap_or_default();
    if waiting > 0 {
        text += &format!("unsynced  {waiting} keys that Redis does not know of yet\n");
    }
    for conflict in list_of(&status["conflicts"]) {
        let pull = |num: &Value| num.as_i64().map_or_else(|| "somebody".to_owned(), |num| format!("pull #{num}"));
        let (local, redis) = (pull(&conflict["local_pull"]), pull(&conflict["redis_pull"]));
        let (key, at) = (word(&conflict["key"]), time(&conflict["at"]));
        text += &format!("conflict  {key:?}  held by {redis} in Redis, granted to {local} here, found {at}\n");
    }
    if let Ok(recovery) = Recovery::deserialize(&status["last_recovery"]) {
        text += &format!("recovery  {}: {recovery}\n", time(&status["last_recovery"]["at"]));
    }
    text
}

/// The shadow, and the last difference; nothing where there is none.
fn shadow(shadow: &Value) -> String {
    if !shadow.is_object() {
        return String::new();
    }
    let (store, count) = (plain(word(&shadow["store"])), |name: &str| shadow[name].as_u64().unwrap_or_default());
    let stands = match (word(&shadow["state"]), shadow["in_step"] == true) {
        ("following", true) => "in step".to_owned(),
        ("following", false) => "not yet in step".to_owned(),
        (state, _) => format!("{state}: {}", plain(word(&shadow["because"]))),
    };
    let (same, different) = (count("same"), count("different"));
    let not_compared = count("uncertain") + count("dropped") + count("failed");
    let [decided, there] = ["decided_ms", "shadow_ms"].map(|name| shadow[name].as_f64().unwrap_or_default());
    let mut text = format!(
        "shadow    {store}, {stands}; {same} the same, {different} different, {not_compared} not compared; {decided:.2} ms, shadow {there:.2} ms\n"
    );
    if let Some(last) = list_of(&shadow["differences"]).last() {
        let [operation, key, decided, shadow] = ["operation", "key", "decided", "shadow"].map(|name| plain(word(&last[name])));
        text += &format!("differs   {} {operation} of {key}: {decided}; the shadow: {shadow}\n", time(&last["at"]));
    }
    text
}

pub(super) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

pub(super) fn list_of(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Microseconds since 1970, for a person.
pub(super) fn time(micros: &Value) -> String {
    format_rfc3339_millis(UNIX_EPOCH + Duration::from_micros(micros.as_u64().unwrap_or_default())).to_string()
}

/// A text for Prometheus.
pub fn metrics(answer: &[u8]) -> Result<Outcome> {
    Ok(Outcome::lines(read(answer)?, true))
}

#[derive(Deserialize)]
struct Locks<'a> {
    #[serde(borrow)]
    locks: Vec<&'a RawValue>,
    unreadable: Vec<Unreadable>,
    incomplete: Option<String>,
}

#[derive(Deserialize)]
struct Unreadable {
    key: String,
    reason: String,
}

/// A list of locks: of whatever length, it was found.
///
/// `applies` is Atlantis's global lock of the command apply, or null.
pub fn list(answer: Vec<u8>, applies: Option<&[u8]>, json: bool) -> Result<Outcome> {
    let locks = locks(answer, json, "there may be more locks")?;
    let applies: Value = applies.map(read).transpose()?.unwrap_or_default();
    let since = applies["LockMetadata"]["UnixTime"].as_u64().and_then(|seconds| seconds.checked_mul(1_000_000));
    let note = since.map(|since| format!("nobody applies: Atlantis's global apply lock is held since {}\n", time(&since.into())));
    let text = [note.unwrap_or_default().as_bytes(), &locks.text].concat();
    Ok(Outcome { found: true, text, ..locks })
}

/// A list of locks that were released; an empty one was not found.
pub fn released(answer: Vec<u8>, json: bool) -> Result<Outcome> {
    locks(answer, json, "the pull may still hold locks")
}

fn locks(answer: Vec<u8>, json: bool, if_incomplete: &str) -> Result<Outcome> {
    let Locks { locks, unreadable, incomplete } = read(&answer)?;
    let found = !locks.is_empty();
    let incomplete = incomplete.map(|reason| format!("{if_incomplete}: {reason}"));
    if json {
        return Ok(Outcome { incomplete, ..Outcome::json(answer, found) });
    }
    let rows: Vec<Vec<String>> = locks.iter().map(|value| row(value.get().as_bytes())).collect();
    let mut text = if rows.is_empty() { String::new() } else { table(&["KEY", "PULL", "USER", "SINCE"], rows) };
    for Unreadable { key, reason } in unreadable {
        text += &format!("unreadable  {}: {}\n", table::key(&key), plain(&reason));
    }
    if text.is_empty() && incomplete.is_none() {
        text += "no locks\n";
    }
    Ok(Outcome { incomplete, ..Outcome::lines(text, found) })
}

/// One lock that was released, or none.
pub fn one(answer: Vec<u8>, key: &str, json: bool) -> Outcome {
    let found = answer != b"null";
    match (json, found) {
        (true, _) => Outcome::json(answer, found),
        (false, false) => none(key),
        (false, true) => Outcome::lines(released_line(&answer, key), found),
    }
}

fn none(key: &str) -> Outcome {
    Outcome::lines(format!("no lock {}\n", table::key(key)), false)
}

fn released_line(value: &[u8], key: &str) -> String {
    match ProjectLock::parse(value) {
        Ok(_) => table(&["KEY", "PULL", "USER", "SINCE"], vec![row(value)]),
        Err(e) => format!("{}: {}\n", table::key(key), plain(Error::message(&e))),
    }
}

/// All that is known of one lock, or that there is none. `info` tells its token and the store that has it.
pub fn details(answer: Vec<u8>, info: &[u8], key: &str, json: bool) -> Result<Outcome> {
    let found = answer != b"null";
    if json || !found {
        return Ok(if json { Outcome::json(answer, found) } else { none(key) });
    }
    let Ok(lock) = ProjectLock::parse(&answer) else { return Ok(one(answer, key, json)) };
    let (told, infos): (Value, Value) = (read(&answer)?, read(info)?);
    let page = told["Pull"]["URL"].as_str().map_or_else(String::new, |url| format!("  {}", plain(without_user(url))));
    let mut text = format!("key    {}\npull   #{}{page}\n", table::key(&lock.fields().key()), lock.pull().num);
    for (name, value) in [("user", &told["User"]["Username"]), ("since", &told["Time"])] {
        text += &format!("{name:<6} {}\n", plain(word(value)));
    }
    if let Some(token) = infos[0]["token"].as_u64() {
        text += &format!("token  {token}\n");
    }
    if let Some(store) = infos[0]["store"].as_str() {
        text += &format!("store  {store}\n");
    }
    Ok(Outcome::lines(text, found))
}

/// An address without a user and a password.
fn without_user(url: &str) -> &str {
    url.split_once("://")
        .map_or(url, |(_, rest)| if rest.split('/').next().is_some_and(|host| host.contains('@')) { "" } else { url })
}

/// One lock for a person: key, holder, time. Others chose the texts: what a terminal would obey is left out.
fn row(value: &[u8]) -> Vec<String> {
    let lock = match ProjectLock::parse(value) {
        Ok(lock) => lock,
        Err(e) => return vec![plain(Error::message(&e))],
    };
    let details: Value = serde_json::from_slice(value).unwrap_or_default();
    let text = |value: &Value| plain(value.as_str().unwrap_or("?"));
    let pull = format!("#{}", lock.pull().num);
    vec![table::key(&lock.fields().key()), pull, text(&details["User"]["Username"]), text(&details["Time"])]
}

#[cfg(test)]
mod tests {
    use atlock::health::StoreHealth;
    use atlock::hybrid::status::{ConflictReport, Fallbacks, Recovery, Report};

    fn hybrid(report: &Report) -> String {
        let mut status = serde_json::to_value(report).expect("serialises");
        status["circuit_state"] = report.circuit_state.clone().into();
        super::hybrid(&status)
    }

    #[test]
    fn a_shadow_is_told_in_lines() {
        assert_eq!(super::shadow(&serde_json::Value::Null), "");
        let mut shadow = serde_json::json!({
            "store": "Redis at r:1, database 3", "state": "following", "in_step": true, "operations": 12, "same": 7, "different": 1, "uncertain": 1,
            "dropped": 2, "failed": 1, "waiting": 0, "decided_ms": 1.25, "shadow_ms": 0.5,
            "differences": [{"at": 1_795_508_220_123_456_u64, "operation": "get_lock", "key": "lock \"a/b/c/d/\"", "decided": "nothing",
                             "shadow": "pull #7 of a/b"}],
        });
        let lines = [
            "shadow    Redis at r:1, database 3, in step; 7 the same, 1 different, 4 not compared; 1.25 ms, shadow 0.50 ms",
            r#"differs   2026-11-24T08:17:00.123Z get_lock of lock "a/b/c/d/": nothing; the shadow: pull #7 of a/b"#,
        ];
        assert_eq!(super::shadow(&shadow).lines().collect::<Vec<_>>(), lines);
        (shadow["state"], shadow["because"], shadow["differences"]) =
            ("failing".into(), "it is away".into(), serde_json::json!([]));
        assert!(super::shadow(&shadow).starts_with("shadow    Redis at r:1, database 3, failing: it is away; 7 the same"));
    }

    #[test]
    fn the_state_of_hybrid_mode_is_told_in_lines() {
        let at = 1_795_508_220_123_456;
        let conflict = ConflictReport { key: "acme/infra/a/default/".to_owned(), local_pull: Some(1), redis_pull: Some(2), at };
        let command = ConflictReport { key: "apply".to_owned(), local_pull: None, redis_pull: None, at };
        let report = Report {
            fallback_active: true,
            circuit_state: "open".to_owned(),
            cause: Some("refused".to_owned()),
            since: at,
            next_probe: Some(at + 2_000_000),
            armed: false,
            unarmed_because: Some("instances is many".to_owned()),
            journal_length: 3,
            conflicts: vec![conflict, command],
            last_recovery: Some(Recovery { at, duration_ms: 12, pushed: 1, restored: 2, adopted: 3, conflicts: 1, taken: 0 }),
            fallbacks: Fallbacks::default(),
            needs_local: true,
            enhanced: StoreHealth::default(),
            legacy: StoreHealth::default(),
            host_store: None,
        };
        let lines = [
            "breaker   open since 2026-11-24T08:17:00.123Z: refused",
            "probe     of Redis next at 2026-11-24T08:17:02.123Z",
            "armed     no: instances is many",
            "unsynced  3 keys that Redis does not know of yet",
            r#"conflict  "acme/infra/a/default/"  held by pull #2 in Redis, granted to pull #1 here, found 2026-11-24T08:17:00.123Z"#,
            r#"conflict  "apply"  held by somebody in Redis, granted to somebody here, found 2026-11-24T08:17:00.123Z"#,
            "recovery  2026-11-24T08:17:00.123Z: 1 pushed to Redis, 2 restored there, 3 adopted from it, 1 in conflict; 12 ms",
        ];
        assert_eq!(hybrid(&report).lines().collect::<Vec<_>>(), lines);

        let calm = Report {
            circuit_state: "closed".to_owned(),
            cause: None,
            next_probe: None,
            armed: true,
            unarmed_because: None,
            journal_length: 0,
            conflicts: Vec::new(),
            last_recovery: None,
            ..report
        };
        assert_eq!(hybrid(&calm), "breaker   closed since 2026-11-24T08:17:00.123Z\narmed     yes\n");
    }
}

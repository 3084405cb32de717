//! What hybrid mode tells an operator while Redis hangs, dies and comes back: audit trail, metrics, status, health. None of it
//! may show a secret.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::hybrid::status::Fallbacks;
use atlock::service::Service;
use redis_support::Server;
use serde_json::Value;
use wait::wait_until;

const TOKEN: &str = "s3cr3t-token";
/// How long to wait for what comes by itself.
const PATIENCE: Duration = Duration::from_secs(20);
const PASSWORD: &str = "s3cr3t-password";

fn lock(path: &str, num: i64, user: &str) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path},
        "Pull": {"Num": num, "BaseRepo": {"CloneURL": format!("https://bot:{TOKEN}@example.com/acme/infra.git")}},
        "User": {"Username": user}, "Workspace": "default", "Time": "2026-11-24T08:17:00Z",
    }))
    .unwrap()
}

fn open(server: &Server, folder: &Path) -> Service {
    let settings = format!(
        "locking: {{backend: sled, data_dir: {:?}, audit: {{file: {:?}}}, enhanced: {{enabled: true, compatibility_mode: hybrid, \
         redis: {{address: '{}', password: {PASSWORD}, timeouts: {{connect: 1s, operation: 1s}}}}}}}}",
        folder.join("locks"),
        folder.join("audit"),
        server.address()
    );
    Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap()
}

/// Waits until the local store decides, or does not.
fn wait_for_fallback(service: &Service, active: bool) {
    wait_until(&format!("the local store decides: {active}"), PATIENCE, || service.status().fallback_active == active);
}

/// What the status tells of the times in which the local store decided.
fn fallbacks(service: &Service) -> Value {
    serde_json::to_value(service.status()).unwrap()["fallbacks"].clone()
}

fn trail(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("audit")).unwrap();
    assert!(!text.contains(TOKEN) && !text.contains(PASSWORD), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last line of this kind.
fn last(trail: &[Value], kind: &str) -> Value {
    trail.iter().rfind(|line| line["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {trail:#?}")).clone()
}

fn kinds(trail: &[Value]) -> Vec<&str> {
    trail.iter().map(|line| line["kind"].as_str().unwrap()).collect()
}

/// The value of a series, by its name and labels as written.
fn metric(service: &Service, series: &str) -> f64 {
    let text = service.metrics();
    assert!(!text.contains(TOKEN) && !text.contains(PASSWORD) && text.ends_with("\n# EOF\n"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

#[test]
fn a_redis_that_dies_and_comes_back_is_told_of() {
    let mut server = Server::start(&["--requirepass", PASSWORD]);
    let folder = tempfile::tempdir().unwrap();
    let service = open(&server, folder.path());
    service.try_lock(&lock("a", 1, "ada")).unwrap();
    assert_eq!(kinds(&trail(folder.path())), ["recovery", "armed", "grant"]);
    assert_eq!(metric(&service, r#"atlock_circuit_state{state="closed"}"#), 1.0);
    assert_eq!(metric(&service, r#"atlock_store_healthy{store="enhanced"}"#), 1.0);
    assert_eq!(service.health().state, "healthy");

    assert_eq!(service.status().hybrid.unwrap().fallbacks, Fallbacks::default());

    server.kill();
    wait_for_fallback(&service, true);
    service.try_lock(&lock("b", 2, "bob")).unwrap();
    let told = trail(folder.path());
    assert_eq!(kinds(&told)[3..], ["fallback", "grant"]);
    let begun = fallbacks(&service);
    assert_eq!(begun.as_array().unwrap().len(), 1);
    assert!(begun[0]["until"].is_null() && begun[0]["cause"].as_str().unwrap().contains(&server.address()), "{begun}");
    let fallback = last(&told, "fallback");
    assert_eq!((&fallback["code"], &fallback["instance"]), (&"unreachable".into(), &service.status().instance.into()));
    assert!(fallback["detail"].as_str().unwrap().contains(&server.address()), "{fallback}");
    assert_eq!(last(&told, "grant")["store"], "fallback");
    for (series, value) in [
        (r#"atlock_circuit_state{state="closed"}"#, 0.0),
        (r#"atlock_circuit_transitions_total{to="closed"}"#, 0.0),
        ("atlock_fallback_active", 1.0),
        ("atlock_armed", 1.0),
        ("atlock_unsynced_keys", 1.0),
        (r#"atlock_recoveries_total{result="ok"}"#, 1.0),
        (r#"atlock_store_healthy{store="enhanced"}"#, 0.0),
        (r#"atlock_store_healthy{store="legacy"}"#, 1.0),
    ] {
        assert_eq!(metric(&service, series), value, "{series}");
    }
    assert!(metric(&service, r#"atlock_circuit_transitions_total{to="open"}"#) >= 1.0);
    assert_eq!(service.health().state, "degraded");

    // It has lost everything: it is told all of it.
    server.restart();
    wait_for_fallback(&service, false);
    // It is written just after Redis decides.
    wait_until("the recovery is told of", PATIENCE, || trail(folder.path()).len() > 5);
    let told = trail(folder.path());
    assert_eq!(last(&told, "recovery")["via"], "recovery");
    let did = last(&told, "recovery")["detail"].as_str().unwrap().to_owned();
    assert!(did.starts_with("1 pushed to Redis, 1 restored there, 0 adopted from it, 0 in conflict; "), "{did}");
    let ended = fallbacks(&service);
    assert_eq!((&ended[0]["since"], &ended[0]["cause"]), (&begun[0]["since"], &begun[0]["cause"]));
    assert!(ended[0]["until"].as_u64() > ended[0]["since"].as_u64(), "{ended}");
    assert_eq!((&ended[0]["recovery"]["pushed"], &ended[0]["recovery"]["restored"]), (&1.into(), &1.into()));
    for (series, value) in [
        (r#"atlock_circuit_state{state="closed"}"#, 1.0),
        (r#"atlock_circuit_transitions_total{to="closed"}"#, 1.0),
        ("atlock_fallback_active", 0.0),
        ("atlock_unsynced_keys", 0.0),
        (r#"atlock_recoveries_total{result="ok"}"#, 2.0),
        (r#"atlock_recoveries_total{result="failed"}"#, 0.0),
        ("atlock_recovery_duration_seconds_count", 2.0),
    ] {
        assert_eq!(metric(&service, series), value, "{series}");
    }
    assert!(metric(&service, r#"atlock_store_response_seconds{store="enhanced"}"#) > 0.0);
    // Whatever would still be written is written when the watch has ended.
    service.close().unwrap();
    assert_eq!(kinds(&trail(folder.path()))[5..], ["recovery"]);
}

#[test]
fn a_lock_that_both_granted_is_told_of() {
    let server = Server::start(&["--requirepass", PASSWORD]);
    let folder = tempfile::tempdir().unwrap();
    let service = open(&server, folder.path());
    let mut stock = redis::Client::open(format!("redis://:{PASSWORD}@{}", server.address())).unwrap().get_connection().unwrap();
    // The first comparison with Redis has more patience with a server that hangs. It is over when the watch announces this server
    // for the second time from now: a first announcement may come before the comparison.
    for _ in 0..2 {
        let mut announced = || redis::cmd("HVALS").arg("atlock:instances").query::<Vec<String>>(&mut stock).unwrap();
        let before = announced();
        wait_until("Redis is announced to", PATIENCE, || announced() != before);
    }
    server.pause();
    wait_for_fallback(&service, true);
    service.try_lock(&lock("a", 1, "ada")).unwrap();
    // A stock server's lock: Redis finds it when it goes on, before anything else.
    let taken = redis::cmd("SET").arg("pr/acme/infra/a/default/").arg(lock("a", 2, "bob")).get_packed_command();
    stock.send_packed_command(&taken).unwrap();
    server.resume();
    wait_for_fallback(&service, false);

    let told = trail(folder.path());
    let conflict = last(&told, "conflict");
    assert_eq!(
        (&conflict["key"], &conflict["pull"], &conflict["user"], &conflict["holder"]),
        (
            &"acme/infra/a/default/".into(),
            &1.into(),
            &"ada".into(),
            &serde_json::json!({"repo": "acme/infra", "pull": 2, "user": "bob"})
        )
    );
    assert_eq!(conflict["via"], "recovery");
    assert_eq!(metric(&service, "atlock_conflicts"), 1.0);
    let status = serde_json::to_string(&service.status()).unwrap();
    assert!(!status.contains(TOKEN) && !status.contains(PASSWORD), "{status}");

    // A lock that nobody here took: somebody else uses this Redis.
    redis::cmd("SET").arg("pr/acme/infra/b/default/").arg(lock("b", 3, "eve")).exec(&mut stock).unwrap();
    service.try_lock(&lock("b", 4, "ada")).unwrap();
    wait_until("it is disarmed, and told of", PATIENCE, || {
        metric(&service, "atlock_armed") == 0.0 && kinds(&trail(folder.path())).last() == Some(&"disarmed")
    });
    let disarmed = last(&trail(folder.path()), "disarmed");
    assert!(disarmed["detail"].as_str().unwrap().starts_with("another server uses the same Redis"), "{disarmed}");
}

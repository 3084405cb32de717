//! Each check of what no test can bring about here, with a fault and without one: facts are made up, and the checks conclude.

use std::path::PathBuf;

use serde_json::json;

use super::check;
use super::finding::Severity;
use super::folder::{Disk, Place};
use super::gather::{Facts, Locks};
use crate::config::Config;
use crate::error::{Code, Error};
use crate::store::redis::RedisFacts;

const HYBRID: &str = "locking: {data_dir: locks, enhanced: {enabled: true, compatibility_mode: hybrid, redis: {address: 'r:1', allow_plaintext: true}}}";

/// A healthy server in hybrid mode.
fn well() -> Facts {
    let disk = Disk { kind: 0xef53, free: 1 << 40, free_files: Some(1_000_000), is_read_only: false };
    let place = Place {
        path: PathBuf::from("locks"),
        is_folder: true,
        owner: 7,
        mode: 0o700,
        is_writable: true,
        disk: Some(disk),
        ..Place::default()
    };
    let redis = RedisFacts {
        version: Some("7.0.15".to_owned()),
        policy: Some("noeviction".to_owned()),
        saves: Some(String::new()),
        appends: Some(true),
        missing_rights: Some(Vec::new()),
        ..RedisFacts::default()
    };
    let copy = json!({"followed": true, "error": null, "not_believed": null, "refused": 0});
    Facts {
        user: Some(7),
        config: Ok(Config::parse(HYBRID, "test").expect("is right")),
        audit: Some(Place { is_folder: false, ..place.clone() }),
        audit_folder: Some(place.clone()),
        folder: Some(place),
        server: Some(env!("CARGO_PKG_VERSION").to_owned()),
        status: json!({"mode": "hybrid", "circuit_state": "closed", "armed": true, "fallback_active": false, "conflicts": [],
            "journal_length": 0, "warnings": [], "host_store": copy}),
        health: json!({"overall": true, "enhanced": {"response_time_ms": 1}, "legacy": {"response_time_ms": 1}}),
        locks: Some(Ok(Locks::default())),
        redis: Some(Ok(redis)),
        ..Facts::nothing(1_795_508_220_000_000)
    }
}

/// The worst that a check says once something in the facts is otherwise.
fn of(name: &str, spoil: impl FnOnce(&mut Facts)) -> (Severity, String) {
    let mut facts = well();
    spoil(&mut facts);
    let findings = check(&facts);
    let found = findings.into_iter().find(|finding| finding.name == name).unwrap_or_else(|| panic!("{name} says nothing"));
    assert_eq!(found.severity == Severity::Ok, found.advice.is_none(), "{found:?}");
    (found.severity, found.evidence)
}

fn assert_finds(name: &str, severity: Severity, evidence: &str, spoil: impl FnOnce(&mut Facts)) {
    let (is, text) = of(name, spoil);
    assert!(is == severity && text.contains(evidence), "{name}: {is:?}: {text}");
}

fn folder(facts: &mut Facts) -> &mut Place {
    facts.folder.as_mut().expect("is set")
}

fn disk(facts: &mut Facts) -> &mut Disk {
    folder(facts).disk.as_mut().expect("is known")
}

fn redis(facts: &mut Facts) -> &mut RedisFacts {
    facts.redis.as_mut().expect("is set").as_mut().expect("is known")
}

#[test]
fn nothing_is_said_of_a_healthy_server() {
    let findings = check(&well());
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:#?}");
    let names: std::collections::BTreeSet<_> = findings.iter().map(|finding| finding.name).collect();
    assert_eq!(names.len(), 22, "{names:?}");
}

#[test]
fn the_worst_comes_first() {
    let mut facts = well();
    facts.status["armed"] = false.into();
    disk(&mut facts).free = 0;
    let severities: Vec<_> = check(&facts).iter().map(|finding| finding.severity).collect();
    assert!(severities.starts_with(&[Severity::Error, Severity::Warning, Severity::Ok]), "{severities:?}");
}

#[test]
fn what_a_disk_is_and_has_is_told() {
    use Severity::{Error, Info, Ok, Warning};
    for (kind, severity, evidence) in [
        (0x6969, Warning, "is on NFS"),
        (0xff53_4d42, Warning, "is on CIFS"),
        (0x0102_1994, Warning, "tmpfs, in memory"),
        (0x794c_7630, Info, "a container's own layer"),
    ] {
        assert_finds("file system", severity, evidence, |facts| disk(facts).kind = kind);
    }
    assert_finds("file system", Error, "mounted read-only", |facts| disk(facts).is_read_only = true);
    assert_finds("space", Error, "15 MiB", |facts| disk(facts).free = (16 << 20) - 1);
    assert_finds("space", Warning, "16 MiB", |facts| disk(facts).free = 16 << 20);
    assert_finds("space", Ok, "256 MiB", |facts| disk(facts).free = 256 << 20);
    assert_finds("space", Error, " 15 files", |facts| disk(facts).free_files = Some(15));
    assert_finds("space", Ok, "MiB are free", |facts| disk(facts).free_files = None);
}

#[test]
fn files_and_folders_of_others_are_told() {
    assert_finds("data_dir", Severity::Error, "format.json belongs to user 0", |facts| {
        folder(facts).of_others = vec![("format.json".to_owned(), 0)];
    });
    assert_finds("data_dir", Severity::Info, "this command runs as user 8", |facts| facts.user = Some(8));
    assert_finds("data_dir", Severity::Ok, "user 7", |facts| facts.user = Some(0));
    assert_finds("data_dir", Severity::Error, "may not write", |facts| folder(facts).is_writable = false);
    assert_finds("audit", Severity::Error, "cannot be written by this user", |facts| {
        facts.audit.as_mut().expect("is set").is_writable = false;
    });
}

#[test]
fn a_server_of_another_version_is_told() {
    assert_finds("server", Severity::Warning, "is atlock 0.0.1", |facts| facts.server = Some("0.0.1".to_owned()));
    assert_finds("server", Severity::Error, "may not ask", |facts| {
        facts.server = None;
        facts.refusal = Some(Error::new(Code::Permission, "this user may not ask"));
    });
}

#[test]
fn what_redis_is_and_has_is_told() {
    use Severity::{Info, Ok, Warning};
    let is = |version: &str| Some(version.to_owned());
    let master = |port: u16| Result::Ok(format!("10.0.0.1:{port}"));
    let sentinels = |masters: Vec<Result<String, String>>| {
        let told = masters.into_iter().enumerate().map(|(nth, master)| (format!("s{nth}:26379"), master));
        Some(told.collect::<Vec<_>>())
    };
    let silent = || Err("the Sentinel is away".to_owned());
    assert_finds("sentinels", Ok, "2 Sentinels say", |facts| redis(facts).sentinels = sentinels(vec![master(1), master(1)]));
    assert_finds("sentinels", Warning, "s1:26379 says 10.0.0.1:2", |facts| {
        redis(facts).sentinels = sentinels(vec![master(1), master(2)])
    });
    assert_finds("sentinels", Warning, "1 of 2", |facts| redis(facts).sentinels = sentinels(vec![master(1), silent()]));
    assert_finds("sentinels", Severity::Error, "is away", |facts| redis(facts).sentinels = sentinels(vec![silent()]));
    assert_finds("redis version", Ok, "8.0.1", |facts| redis(facts).version = is("8.0.1"));
    assert_finds("redis version", Info, "may not ask", |facts| redis(facts).version = None);
    assert_finds("redis eviction", Info, "could not be asked", |facts| redis(facts).policy = None);
    assert_finds("redis persistence", Info, "could not be asked", |facts| redis(facts).appends = None);
    assert_finds("clocks", Warning, "1h behind", |facts| redis(facts).clock_ahead = -3_600_000_000);
    assert_finds("clocks", Warning, "6s ahead", |facts| redis(facts).clock_ahead = 6_000_000);
    assert_finds("clocks", Ok, "6s ahead", |facts| {
        redis(facts).clock_ahead = 6_000_000;
        redis(facts).clock_unsure = 2_000_000;
    });
    assert_finds("leftovers", Info, "not all of Redis was looked at: too long", |facts| {
        redis(facts).incomplete = Some("too long".to_owned());
    });
}

#[test]
fn hybrid_modes_own_troubles_are_told() {
    assert_finds("armed", Severity::Warning, "instances is many", |facts| {
        facts.status["armed"] = false.into();
        facts.status["unarmed_because"] = "instances is many".into();
    });
    assert_finds("conflicts", Severity::Error, "\"acme/infra/a/default/\"", |facts| {
        facts.status["conflicts"] = json!([{"key": "acme/infra/a/default/"}]);
    });
    assert_finds("unsynced", Severity::Warning, "3 keys", |facts| facts.status["journal_length"] = 3.into());
    assert_finds("unsynced", Severity::Info, "3 keys", |facts| {
        facts.status["journal_length"] = 3.into();
        facts.status["fallback_active"] = true.into();
    });
    assert_finds("bolt copy", Severity::Warning, "is behind: disk full", |facts| {
        facts.status["host_store"]["error"] = "disk full".into();
    });
    assert_finds("bolt copy", Severity::Warning, "not believed: old", |facts| {
        facts.status["host_store"]["not_believed"] = "old".into();
    });
    assert_finds("stores", Severity::Error, "nobody decides", |facts| {
        facts.health = json!({"overall": false, "headline": "nobody decides"});
    });
    assert_finds("warnings", Severity::Warning, "something else", |facts| {
        facts.status["warnings"] = json!(["something else"]);
    });
}

#[test]
fn a_report_has_no_secret_whatever_a_text_quotes() {
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    std::fs::write(&password, "pa55word\n").expect("writes");
    let mut facts = well();
    let redis = &mut facts.config.as_mut().expect("is right").locking.enhanced.redis;
    redis.password_file = Some(password);
    facts.status["warnings"] = json!(["git said https://bot:t0ken@host/x; Redis said pa55word", "AUTH pa55word"]);
    let report = folder.path().join("report");
    super::write_bundle(&report, &facts, &check(&facts)).expect("writes");
    let text = std::fs::read_to_string(&report).expect("reads");
    assert!(!text.contains("t0ken") && !text.contains("pa55word"), "{text}");
    assert_eq!(text.matches("git said https://host/x; Redis said (hidden)").count(), 2, "{text}");
}

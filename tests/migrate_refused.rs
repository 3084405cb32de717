//! What a migration refuses, and what it tells: conflicts, wrong use, servers that run, poison; and that no server starts on the wrong store.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod migrate_support;
mod redis_support;
mod sled_support;
mod wait;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::Code;
use atlock::migrate::{self, OnConflict, Options, Phase, Report, Silent};
use atlock::service::Service;
use atlock::store::contract::local::EntryKey;
use migrate_support::{Content, OPTIONS, Side, execute, fill, odd_fields, rollback, take, told, values};
use redis_support::{Server, fields, lock_json};

fn plan(from: &Side, to: &Side, work: &Path, options: Options<'_>) -> Report {
    migrate::plan(&from.side(), &to.side(), work, options, &Silent).unwrap()
}

fn holding(side: Side, path: &str, num: i64) -> Side {
    let store = side.open().unwrap();
    take(&*store, fields(path), num);
    store.close().unwrap();
    side
}

fn value_at(content: &Content, path: &str) -> Vec<u8> {
    content[&EntryKey::Project(fields(path).key())].value.clone()
}

fn start(settings: &str) -> atlock::error::Result<Service> {
    Service::open(&Config::parse(settings, "test").unwrap(), None, Arc::new(SystemClock))
}

#[test]
fn a_plan_changes_nothing_and_tells_everything() {
    let (from, to, work) = (holding(Side::redis(), "a", 1), Side::sled(), tempfile::tempdir().unwrap());
    from.put_raw("pr/poison", b"garbage");
    from.put_raw("pr/acme/infra/wrong/default/", &lock_json(fields("other"), 1));
    let before = from.content();
    let report = plan(&from, &to, work.path(), OPTIONS);
    assert_eq!((report.phase, report.changes, report.skipped.len(), &report.problems[..]), (Some(Phase::Planned), 1, 2, &[][..]));
    assert_eq!(from.content(), before);
    let Side::Sled(folder) = &to else { unreachable!() };
    assert!(!folder.path().join("locks").exists(), "the target is not created");
    from.open().unwrap().close().unwrap();
    let strict = Options { strict: true, ..OPTIONS };
    assert!(plan(&from, &to, work.path(), strict).problems[0].contains("2 entries cannot be taken along"));
    assert_eq!(execute(&from, &to, work.path(), strict).unwrap_err().code(), Code::InvalidArgument);
    let report = execute(&from, &to, work.path(), OPTIONS).unwrap();
    assert_eq!((report.skipped.len(), to.content().len()), (2, 1));
    let manifest = std::fs::read_to_string(work.path().join("manifest.json")).unwrap();
    assert!(manifest.contains("its fields belong to the key") && manifest.contains("poison"), "{manifest}");
}

/// A Redis that would be full is found by the plan, and not in the middle of the copy; one that evicts is warned of.
#[test]
fn a_redis_without_room_is_refused() {
    let (from, to, work) = (Side::sled(), Side::redis(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    fill(&*store, 500);
    store.close().unwrap();
    let Side::Redis(server) = &to else { unreachable!() };
    let set = |name: &str, value: &str| {
        let _: () = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query(&mut server.raw()).unwrap();
    };
    set("maxmemory-policy", "allkeys-lru");
    let report = plan(&from, &to, work.path(), OPTIONS);
    assert!(report.problems.is_empty() && report.warnings.iter().any(|text| text.contains("allkeys-lru")), "{report:?}");
    set("maxmemory-policy", "noeviction");
    let used: String = redis::cmd("INFO").arg("memory").query(&mut server.raw()).unwrap();
    let used: u64 = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse().unwrap();
    set("maxmemory", &(used + (300 << 10)).to_string());
    let report = plan(&from, &to, work.path(), OPTIONS);
    assert!(report.problems.len() == 1 && report.problems[0].contains("what comes may take"), "{:?}", report.problems);
    assert!(execute(&from, &to, work.path(), OPTIONS).unwrap_err().message().contains("maxmemory"));
    set("maxmemory", &(used + (64 << 20)).to_string());
    assert!(plan(&from, &to, work.path(), OPTIONS).problems.is_empty());
}

#[test]
fn a_key_that_both_hold_is_overwritten_only_when_told() {
    for (rule, stays) in [(OnConflict::KeepSource, 1), (OnConflict::KeepTarget, 2)] {
        let (from, to, work) = (holding(Side::sled(), "a", 1), holding(Side::redis(), "a", 2), tempfile::tempdir().unwrap());
        let (from, to) = (holding(from, "only here", 3), holding(to, "only there", 4));
        let (before, there) = (from.content(), to.content());
        let report = plan(&from, &to, work.path(), OPTIONS);
        let conflict = &report.conflicts[0];
        assert_eq!((report.conflicts.len(), report.changes), (1, 1));
        assert!(conflict.source.starts_with("pull #1 of acme/infra") && conflict.target.starts_with("pull #2 of acme/infra"));
        assert!(execute(&from, &to, work.path(), OPTIONS).unwrap_err().message().contains("--conflicts"));
        assert_eq!((from.content(), to.content()), (before.clone(), there.clone()), "nothing was changed");
        let told = Options { on_conflict: Some(rule), ..OPTIONS };
        execute(&from, &to, work.path(), told).unwrap();
        assert_eq!((value_at(&to.content(), "a"), to.content().len()), (lock_json(fields("a"), stays), 3));
        // Back: what the target has decided.
        rollback(work.path(), told).unwrap();
        assert_eq!(value_at(&from.content(), "a"), lock_json(fields("a"), stays));
    }
}

/// Nobody knows what an entry that cannot be read is: it keeps its key.
#[test]
fn an_entry_that_cannot_be_read_is_not_overwritten() {
    let (from, to, work) = (holding(Side::sled(), "a", 1), Side::redis(), tempfile::tempdir().unwrap());
    to.put_raw("pr/acme/infra/a/default/", b"garbage");
    assert_eq!(plan(&from, &to, work.path(), OPTIONS).conflicts[0].target, "an entry that cannot be read");
    assert!(execute(&from, &to, work.path(), OPTIONS).is_err());
    execute(&from, &to, work.path(), Options { on_conflict: Some(OnConflict::KeepSource), ..OPTIONS }).unwrap();
    assert_eq!(value_at(&to.content(), "a"), lock_json(fields("a"), 1));
}

#[test]
fn wrong_use_is_told() {
    let (sled, work) = (holding(Side::sled(), "a", 1), tempfile::tempdir().unwrap());
    let redis = Side::redis();
    assert!(plan(&sled, &sled, work.path(), OPTIONS).problems[0].contains("are one store"));
    let Side::Redis(server) = &redis else { unreachable!() };
    let other_name = migrate::Side::parse(&format!("redis:localhost:{}", server.port)).unwrap();
    let twice = migrate::plan(&redis.side(), &other_name, work.path(), OPTIONS, &Silent).unwrap();
    assert!(twice.problems[0].contains("are one store"), "{:?}", twice.problems);
    assert!(plan(&Side::sled(), &redis, work.path(), OPTIONS).problems[0].contains("there is no store in"));
    let gone = migrate::Side::parse("redis:127.0.0.1:1").unwrap();
    let error = migrate::plan(&sled.side(), &gone, work.path(), OPTIONS, &Silent).unwrap_err();
    assert_eq!(error.code(), Code::Unreachable);
    redis::cmd("ACL").arg(&["SETUSER", "default", "-set"]).query::<()>(&mut server.raw()).unwrap();
    let error = migrate::plan(&sled.side(), &redis.side(), work.path(), OPTIONS, &Silent).unwrap_err();
    assert_eq!(error.code(), Code::Permission, "{error}");
    let work = work.path().join("w").display().to_string();
    let (text, status) = told(&["migrate", "--from", "boltdb:/x/atlantis.db", "--to", "sled:/y y", "--work", &work]);
    let line = format!("Type: atlantis locking migrate --from boltdb:/x/atlantis.db --to 'sled:/y y' --work {work}\n");
    assert!(status == 1 && text.ends_with(&line), "{text}");
    assert_eq!(told(&["migrate", "--from", "sled:/x"]).1, 2);
    let (text, status) = told(&["migrate", "--from", "etcd:a:1", "--to", "sled:/y"]);
    assert!(status == 1 && text.contains("names no store"), "{text}");
}

#[test]
fn a_folder_has_one_migration() {
    let (from, to, work) = (holding(Side::sled(), "a", 1), Side::sled(), tempfile::tempdir().unwrap());
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    let other = execute(&from, &Side::sled(), work.path(), OPTIONS).unwrap_err();
    assert!(other.message().contains("name another folder with --work"), "{other}");
    // The source's locks are elsewhere: nobody may take them from here once more.
    let another = tempfile::tempdir().unwrap();
    let report = plan(&from, &Side::sled(), another.path(), OPTIONS);
    assert!(report.problems[0].contains("its locks were moved to"), "{:?}", report.problems);
    // Nor is the old store a target, unless what it has may go.
    let empty = Side::sled();
    empty.open().unwrap().close().unwrap();
    assert!(plan(&empty, &from, another.path(), OPTIONS).problems[0].contains("--replace-old"));
    execute(&empty, &from, another.path(), Options { replace_old: true, ..OPTIONS }).unwrap();
    assert_eq!(from.content(), Content::new());
}

#[test]
fn a_server_that_runs_is_seen() {
    let (sled, work) = (holding(Side::sled(), "a", 1), tempfile::tempdir().unwrap());
    let redis = Side::redis();
    let running = sled.open().unwrap();
    let error = migrate::plan(&sled.side(), &redis.side(), work.path(), OPTIONS, &Silent).unwrap_err();
    assert!(error.code() == Code::StoreBusy && error.message().contains("is open in this process"), "{error}");
    running.close().unwrap();
    let strangers = Options { others_are_stopped: false, ..OPTIONS };
    assert_eq!(plan(&sled, &redis, work.path(), strangers).problems, Vec::<String>::new());
    // A server in native mode, or stock, is only to be seen by its connections.
    let native = redis.open().unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    let problems = plan(&sled, &redis, work.path(), strangers).problems;
    assert!(problems.len() == 1 && problems[0].contains("other programs are connected"), "{problems:?}");
    assert!(execute(&sled, &redis, work.path(), strangers).is_err());
    native.close().unwrap();
    // In hybrid mode it says so.
    let folder = tempfile::tempdir().unwrap();
    let settings = hybrid(&redis, folder.path());
    let service = start(&settings).unwrap();
    let problems = plan(&sled, &redis, work.path(), strangers).problems;
    assert!(problems.iter().any(|problem| problem.contains("servers use the Redis at")), "{problems:?}");
    service.close().unwrap();
    let problems = plan(&sled, &redis, work.path(), strangers).problems;
    assert!(problems.len() == 1 && problems[0].contains("in hybrid mode, and their data folders"), "{problems:?}");
}

fn hybrid(redis: &Side, folder: &Path) -> String {
    format!(
        "locking: {{backend: sled, data_dir: {folder:?}, socket: off, enhanced: {{enabled: true, compatibility_mode: hybrid, \
         redis: {{address: {:?}}}}}}}",
        redis.settings().address
    )
}

/// After the move no mode starts on the old store, not even by its local store; and the settings file names the folder that must know.
#[test]
fn no_server_starts_on_the_old_store() {
    let (from, to, work) = (Side::redis(), Side::redis(), tempfile::tempdir().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("locking.yaml"));
    let settings = hybrid(&from, &data);
    std::fs::write(&file, &settings).unwrap();
    let service = start(&settings).unwrap();
    service.try_lock(&lock_json(fields("a"), 1)).unwrap();
    service.close().unwrap();
    let source = migrate::Side::parse(&format!("config:{}", file.display())).unwrap();
    let without_word = Options { others_are_stopped: false, ..OPTIONS };
    migrate::execute(&source, &to.side(), work.path(), without_word, &Silent).unwrap();
    let refused = |settings: &str| assert_eq!(start(settings).err().map(|e| e.code()), Some(Code::StoreMoved), "{settings}");
    refused(&settings);
    refused(&hybrid(&from, &folder.path().join("another")));
    refused(&settings.replace("hybrid", "native"));
    refused(&settings.replace("enabled: true", "enabled: false"));
    // With Redis out of reach, too: the folder knows.
    let away = settings.replace(&from.settings().address, "127.0.0.1:1");
    refused(&away);
    assert_eq!(told(&["-c", file.to_str().unwrap(), "list"]).1, 1);
    let service = start(&hybrid(&to, &folder.path().join("new"))).unwrap();
    service.unlock_by_pull("acme/infra", 1).unwrap();
    service.close().unwrap();

    rollback(work.path(), OPTIONS).unwrap();
    refused(&hybrid(&to, &folder.path().join("new2")));
    // The folder may be behind: without Redis it does not decide.
    let service = start(&away).unwrap();
    assert_eq!(service.try_lock(&lock_json(fields("b"), 2)).unwrap_err().code(), Code::Degraded);
    service.close().unwrap();
    let service = start(&settings).unwrap();
    assert_eq!(service.list().unwrap().len(), 0, "released on the other side");
    service.close().unwrap();
}

#[test]
fn a_backup_is_restored_into_an_empty_store_or_beside_others() {
    let (from, work) = (Side::sled(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    fill(&*store, 5);
    store.close().unwrap();
    plan(&from, &Side::sled(), work.path(), OPTIONS);
    let backup = work.path().join("backup.jsonl");
    let restore = |to: &Side, merge| migrate::restore(&backup, &to.side(), false, merge, OPTIONS, &Silent);
    let mut to = Side::redis();
    restore(&to, false).unwrap();
    assert_eq!(to.content(), from.content(), "bytes and tokens");
    restore(&to, false).unwrap();
    to = holding(to, "other", 9);
    assert!(restore(&to, false).unwrap_err().message().contains("--merge"));
    restore(&to, true).unwrap();
    assert_eq!(to.content().len(), from.content().len() + 1);
    // A lock of another pull at a key of the backup's stays.
    let conflict = Side::redis();
    let store = conflict.open().unwrap();
    take(&*store, odd_fields(&migrate_support::odd_path(2)), 999);
    store.close().unwrap();
    assert!(restore(&conflict, true).unwrap_err().message().contains("both stores hold"), "unless the operator decides");
}

#[test]
fn verify_tells_what_has_changed_since() {
    let (from, to, work) = (Side::sled(), Side::redis(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    fill(&*store, 3);
    store.close().unwrap();
    let manifest = work.path().join("manifest.json");
    plan(&from, &to, work.path(), OPTIONS);
    assert_eq!(migrate::verify(&manifest, None, OPTIONS).unwrap().gone.len(), 7, "nothing is there yet");
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    let found = migrate::verify(&manifest, None, OPTIONS).unwrap();
    assert_eq!((found.same, found.is_as_compared), (7, Some(true)));
    let args = ["migrate", "verify", manifest.to_str().unwrap()];
    assert_eq!(told(&args).1, 0);
    let store = to.open().unwrap();
    migrate_support::release(&*store, odd_fields(&migrate_support::odd_path(0)));
    store.close().unwrap();
    let (text, status) = told(&args);
    assert!(status == 1 && text.contains("same      6 of 7\ngone      lock "), "{text}");
    assert!(!text.contains("\u{1b}"));
    let backup = work.path().join("backup.jsonl");
    let changed = std::fs::read_to_string(&backup).unwrap().replace(r#"\"Num\":2"#, r#"\"Num\":3"#);
    std::fs::write(&backup, changed).unwrap();
    assert!(migrate::verify(&manifest, None, OPTIONS).unwrap_err().message().contains("its checksum is not"));
}

/// The command writes what it did into the audit trail of the settings, and its report as JSON.
#[test]
fn the_command_tells_the_audit_trail() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[]);
    let (trail, file) = (folder.path().join("trail.jsonl"), folder.path().join("locking.yaml"));
    let data = folder.path().join("data");
    let settings = format!("locking: {{backend: sled, data_dir: {data:?}, audit: {{file: {trail:?}}}}}");
    std::fs::write(&file, &settings).unwrap();
    let service = start(&settings).unwrap();
    service.try_lock(&lock_json(fields("a"), 1)).unwrap();
    service.close().unwrap();
    let (file, to) = (file.to_str().unwrap(), format!("redis:{}", server.address()));
    let (source, work) = (format!("config:{file}"), folder.path().join("work"));
    let work = work.to_str().unwrap();
    let args = ["-c", file, "migrate", "--from", &source, "--to", &to, "--work", work, "--others-are-stopped"];
    assert_eq!(told(&args).1, 0);
    let server_asked = ["--execute", "--asked-by", r#"{"socket":{"pid":7,"uid":0}}"#];
    let (text, status) = told(&[&args[..], &server_asked].concat());
    assert!(status == 0 && text.contains("changes   did put 1, remove 0; alike 1, kept 0\n"), "{text}");
    let manifest = format!("{work}/manifest.json");
    let (json, status) = told(&["--json", "-c", file, "rollback", &manifest, "--others-are-stopped"]);
    assert_eq!(status, 0, "{json}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["phase"], "returned");
    let trail = std::fs::read_to_string(trail).unwrap();
    let by = r#""via":"migration","by":{"user":"#;
    let told = |line: &str| line.contains(r#""kind":"migration""#);
    assert!(trail.lines().filter(|line| told(line)).all(|line| line.contains(by) && line.contains(r#""uid":"#)), "{trail}");
    assert!(trail.lines().any(|line| told(line) && line.contains(r#""uid":0,"pid":7"#)), "{trail}");
    let details = trail.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let phases: Vec<String> =
        details.filter(|line| line["kind"] == "migration").map(|line| line["detail"].as_str().unwrap().to_owned()).collect();
    let begins = ["planned", "copied and compared", "complete", "rolled back"];
    assert!(phases.len() == 4 && phases.iter().zip(begins).all(|(text, begin)| text.starts_with(begin)), "{phases:?}");
}

/// Tokens of the source that are ahead of the target's clock: new holders would get smaller ones.
#[test]
fn a_target_whose_clock_is_far_behind_does_not_decide() {
    let (from, to, work) = (Side::redis(), Side::sled(), tempfile::tempdir().unwrap());
    from.put_raw("pr/acme/infra/a/default/", &lock_json(fields("a"), 1));
    let Side::Redis(server) = &from else { unreachable!() };
    let ahead = (atlock::clock::Clock::unix_micros(&SystemClock) + 600_000_000).to_string();
    let digest: String = redis::cmd("EVAL")
        .arg("return redis.sha1hex(redis.call('GET', KEYS[1]))")
        .arg(1)
        .arg("pr/acme/infra/a/default/")
        .query(&mut server.raw())
        .unwrap();
    let side = "{pr/acme/infra/a/default/}:atlock";
    redis::cmd("HSET").arg(side).arg(&["token", &ahead, "holder", "x y", "of", &digest]).query::<()>(&mut server.raw()).unwrap();
    let to_redis = Side::redis();
    let error = execute(&from, &to_redis, work.path(), OPTIONS).unwrap_err();
    assert!(error.message().contains(" s behind the last fencing token"), "{error}");
    assert!(from.open().is_err() && to_redis.open().is_err(), "until then neither decides");
    let second = tempfile::tempdir().unwrap();
    let problems = plan(&from, &Side::sled(), second.path(), OPTIONS).problems;
    assert!(problems[0].contains("is under way"), "a second migration waits: {problems:?}");
    // It loses its data meanwhile: that is no release.
    let before = from.content();
    redis::cmd("FLUSHALL").query::<()>(&mut server.raw()).unwrap();
    let error = execute(&from, &to_redis, work.path(), OPTIONS).unwrap_err();
    assert!(error.message().contains("it has lost data"), "{error}");
    rollback(work.path(), OPTIONS).unwrap();
    assert_eq!(values(&from.content()), values(&before));
    assert_eq!(values(&to_redis.content()).len(), 0);
    // The token was put back, too.
    assert_eq!(from.content(), before);
    // An embedded store goes on from the largest token that it was given.
    let work = tempfile::tempdir().unwrap();
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    let to = holding(to, "b", 2);
    assert!(to.content()[&EntryKey::Project(fields("b").key())].token.to_string() > ahead);
}

/// A target that loses its data on the way back has released nothing.
#[test]
fn a_loss_on_the_way_back_is_no_release() {
    let (from, to, work) = (holding(Side::redis(), "a", 1), Side::redis(), tempfile::tempdir().unwrap());
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    let to = holding(to, "b", 2);
    let Side::Redis(server) = &to else { unreachable!() };
    let ahead = (atlock::clock::Clock::unix_micros(&SystemClock) + 600_000_000).to_string();
    redis::cmd("HSET").arg("{pr/acme/infra/b/default/}:atlock").arg("token").arg(ahead).query::<()>(&mut server.raw()).unwrap();
    assert!(rollback(work.path(), OPTIONS).unwrap_err().message().contains(" s behind the last fencing token"));
    redis::cmd("FLUSHALL").query::<()>(&mut server.raw()).unwrap();
    let error = rollback(work.path(), OPTIONS).unwrap_err();
    assert!(error.message().contains("rollback.jsonl --to redis:"), "{error}");
    assert_eq!(value_at(&from.content(), "a"), lock_json(fields("a"), 1));
}

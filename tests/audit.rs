//! The audit trail from outside: `atlock audit verify`, the trail on stdout, a trail without which nothing is changed. What a line says, and
//! the chain, `src/audit/tests/` looks at.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod sled_support;
mod wait;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use atlock::audit::{Actor, Person, Via};
use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::Code;
use atlock::service::Service;
use serde_json::Value;
use sled_support::SmallDisk;
use wait::wait_until;

fn lock(path: &str, num: i64) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path}, "Pull": {"Num": num},
        "User": {"Username": "ada"}, "Workspace": "default", "Time": "2026-11-24T08:17:00Z",
    }))
    .unwrap()
}

fn settings(folder: &Path, audit: &str) -> String {
    format!("locking: {{backend: sled, data_dir: {:?}, audit: {{{audit}}}}}\n", folder.join("locks"))
}

fn open(settings: &str) -> Service {
    Service::open(&Config::parse(settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap()
}

fn atlock(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
    command.arg("--config").arg(folder.join("locking.yaml")).args(args).env_clear().output().unwrap()
}

/// What a command says on both of its outputs, and its exit status.
fn said(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// A trail of five lines, in a folder of its own, and its settings.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("trail")).unwrap();
    let settings = settings(folder.path(), &format!("file: {:?}", folder.path().join("trail/locks.jsonl")));
    fs::write(folder.path().join("locking.yaml"), &settings).unwrap();
    let service = open(&settings);
    (1..=5).for_each(|num| drop(service.try_lock(&lock(&format!("p{num}"), num)).unwrap()));
    folder
}

#[test]
fn a_trail_is_verified_by_the_command() {
    let folder = prepared();
    let trail = folder.path().join("trail/locks.jsonl");
    let (text, errors, status) = said(&atlock(folder.path(), &["audit", "verify"]));
    assert!(status == 0 && errors.is_empty() && text.starts_with("files    1\nlines    5\nlast     "), "{text}{errors}");
    let last = text.trim_end().rsplit(' ').next().unwrap().to_owned();
    for name in [&trail, &folder.path().join("trail")] {
        assert_eq!(said(&atlock(folder.path(), &["audit", "verify", name.to_str().unwrap()])).0, text, "by its name");
    }
    assert_eq!(said(&atlock(folder.path(), &["audit", "verify", "--contains", &last])).2, 0);
    let json: Value = serde_json::from_slice(&atlock(folder.path(), &["--json", "audit", "verify"]).stdout).unwrap();
    assert_eq!((&json["last"], &json["lines"], &json["faults"]), (&last.as_str().into(), &5.into(), &serde_json::json!([])));

    // A release by the command is a line, too, with who typed it; and so are what changes the store's files.
    assert_eq!(said(&atlock(folder.path(), &["unlock", "acme/infra/p1/default/"])).2, 0);
    assert_eq!(said(&atlock(folder.path(), &["compact"])).2, 0);
    let whole = fs::read_to_string(&trail).unwrap();
    let lines: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, kind, operation) in [(&lines[5], "release", "unlock"), (&lines[6], "reseal", "compact")] {
        assert_eq!((&line["kind"], &line["operation"], &line["via"]), (&kind.into(), &operation.into(), &"command_line".into()));
        assert!(line["by"]["uid"].is_u64() && line["by"]["pid"].as_i64() > Some(0) && line["by"]["user"].is_string(), "{line}");
    }
    assert_eq!(lines[5]["holder"]["user"], "ada");
    assert_eq!(said(&atlock(folder.path(), &["audit", "verify", "--contains", &last])).2, 0, "it is not the last one any more");

    let cut = |number: usize| whole.lines().take(number).map(|line| format!("{line}\n")).collect::<String>();
    fs::write(&trail, cut(4)).unwrap();
    let (text, errors, status) = said(&atlock(folder.path(), &["audit", "verify", "--contains", &last]));
    assert!(status == 1 && text.starts_with("fault    ") && text.contains("the newest lines were cut off"), "{text}");
    assert!(errors.contains("the trail is not whole: 1 faults"), "{errors}");
    assert_eq!(said(&atlock(folder.path(), &["audit", "verify"])).2, 0, "without the hash nobody can know");

    fs::write(&trail, whole.replacen("p3", "p9", 1)).unwrap();
    let (text, _, status) = said(&atlock(folder.path(), &["audit", "verify"]));
    assert!(status == 1 && text.contains("trail/locks.jsonl:4: does not follow the line before it"), "{text}");

    fs::write(folder.path().join("trail/other"), "").unwrap();
    let (_, errors, status) = said(&atlock(folder.path(), &["audit", "verify", folder.path().join("trail").to_str().unwrap()]));
    assert!(status == 1 && errors.contains("there are several files in it"), "{errors}");
    assert_eq!(said(&atlock(folder.path(), &["audit", "verify", "--contains", "beef"])).2, 2, "no hash");
}

#[test]
fn the_last_line_that_a_full_disk_cut_is_no_fault_and_changes_without_an_entry_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&folder.path().join("disk"), "16k");
    let trail = disk.0.join("locks.jsonl");
    let service = open(&settings(folder.path(), &format!("file: {trail:?}, required: true")));
    let mut granted = 0;
    let error = loop {
        match service.try_lock(&lock(&format!("p{granted}"), 1)) {
            Ok(_) => granted += 1,
            Err(error) => break error,
        }
        assert!(granted < 1000, "16 KiB hold no thousand lines");
    };
    assert_eq!(error.code(), Code::AuditFailed, "{error}");
    assert!(error.message().contains("nothing was changed") && error.message().contains("locking.audit.required"), "{error}");
    // The outcomes of the last ones may be missing; an intent is there for each lock.
    let text = String::from_utf8_lossy(&fs::read(&trail).unwrap()).into_owned();
    let intents: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let is_intended = |key: &str| intents.iter().any(|line: &Value| line["kind"] == "intent" && line["key"] == key);
    assert!(granted > 5);
    assert!((0..granted).all(|number| is_intended(&format!("acme/infra/p{number}/default/"))), "{text}");
    assert_eq!(service.list().unwrap().values().count(), granted, "and nothing else was taken");
    assert_eq!(service.unlock(br#"{"Key":"acme/infra/p0/default/"}"#).unwrap_err().code(), Code::AuditFailed);
    assert!(service.status().warnings.iter().any(|warning| warning.contains("No space left")), "{:?}", service.status().warnings);

    // There is room again.
    assert!(Command::new("mount").args(["-o", "remount,size=1m"]).arg(&disk.0).status().unwrap().success());
    service.unlock(br#"{"Key":"acme/infra/p0/default/"}"#).unwrap().unwrap();
    assert_eq!(atlock::audit::verify(&trail, None).unwrap().faults, []);
    assert_eq!(service.status().warnings, [""; 0]);
}

/// Each line is on stdout, too, in the form of the file; and who does not read there holds up no lock.
#[test]
fn the_trail_goes_to_stdout() {
    const TOLD: &str = "ATLOCK_TEST_STDOUT";
    if let Ok(folder) = std::env::var(TOLD) {
        return write_to_stdout(Path::new(&folder));
    }
    for reads in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_trail_goes_to_stdout", "--exact", "--nocapture", "--test-threads=1"])
            .env(TOLD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut text, told) = (String::new(), folder.path().join("lost"));
        if !reads {
            // Its own harness waits for a reader at the end.
            wait_until("the trail is written", Duration::from_secs(60), || told.exists());
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(fs::read_to_string(&told).unwrap().parse::<u64>().unwrap() > 0, "a pipe has room for a few hundred lines");
            continue;
        }
        child.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        let lost: u64 = fs::read_to_string(&told).unwrap().parse().unwrap();
        let events: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"time\":")).collect();
        assert_eq!((events.len(), lost), (1000, 0));
        let first: Value = serde_json::from_str(events[0]).unwrap();
        assert_eq!((&first["kind"], &first["via"], &first["by"]["user"]), (&"grant".into(), &"plan".into(), &"ada".into()));
    }
}

/// A thousand entries, to this process's stdout alone; how many of them were lost stands in a file.
fn write_to_stdout(folder: &Path) {
    // The harness has begun a line.
    std::io::stdout().write_all(b"\n").unwrap();
    let service = open(&settings(folder, "stdout: true"));
    let by = Person { user: Some("ada".to_owned()), ..Person::default() };
    let ada = service.acting_as(Actor { via: Some(Via::Plan), by: Some(by) });
    for _ in 0..500 {
        ada.try_lock(&lock("a", 1)).unwrap();
        ada.unlock(br#"{"Key":"acme/infra/a/default/"}"#).unwrap();
    }
    let metrics = service.metrics();
    let lost = metrics.lines().find_map(|line| line.strip_prefix("atlock_audit_events_lost_total ")).unwrap();
    fs::write(folder.join("made"), lost).unwrap();
    fs::rename(folder.join("made"), folder.join("lost")).unwrap();
}

/// Where changes need a trail, a command that could not write it changes nothing.
#[test]
fn a_command_changes_nothing_without_the_trail_that_is_required() {
    let folder = prepared();
    let settings = settings(folder.path(), "stdout: true, required: true");
    fs::write(folder.path().join("locking.yaml"), settings).unwrap();
    let (_, errors, status) = said(&atlock(folder.path(), &["unlock", "acme/infra/p1/default/"]));
    assert!(status == 1 && errors.contains("a command writes to locking.audit.file alone"), "{errors}");
    assert!(said(&atlock(folder.path(), &["list"])).0.contains("acme/infra/p1/default/"));
}

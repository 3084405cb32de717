//! The definition of a valid lock, over the corpus that Go's reader goes through, too (`locks.jsonl`), and over texts that nobody wrote.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lock_corpus;

use std::sync::Arc;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::domain::key::KeyFormat;
use atlock::domain::lock::ProjectLock;
use atlock::error::Code;
use atlock::service::Service;
use atlock::store::Granted;
use lock_corpus::{Case, corpus};
use proptest::prelude::*;

#[test]
fn the_corpus_is_judged_as_written() {
    let corpus = corpus();
    assert!(corpus.len() >= 200 && corpus.iter().filter(|case| case.lock).count() >= 40);
    for case in &corpus {
        let text = case.text();
        let parsed = ProjectLock::parse(&text);
        assert_eq!(parsed.is_ok(), case.lock, "{}: {parsed:?}", case.name);
        if let Ok(lock) = &parsed {
            let holder = format!("{}#{}", lock.fields().key_in(KeyFormat::Current), lock.pull().num);
            assert_eq!(holder, case.holder, "{}", case.name);
        }
        let Err(e) = parsed else { continue };
        assert_eq!(e.code(), Code::InvalidJson, "{}", case.name);
        // An error goes to logs and pull requests, and a value holds tokens.
        assert!(!e.message().contains("acme") && e.message().len() < 200, "{}: {e}", case.name);
    }
}

fn service() -> (tempfile::TempDir, Service) {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("locking: {{backend: sled, data_dir: {:?}}}", folder.path());
    let service = Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap();
    (folder, service)
}

#[test]
fn a_lock_is_taken_only_if_it_is_one() {
    let (_folder, service) = service();
    for case in corpus() {
        match service.try_lock(&case.text()) {
            Ok(_) => assert!(case.lock, "{}", case.name),
            Err(e) => assert_eq!((case.lock, e.code()), (false, Code::InvalidJson), "{}: {e}", case.name),
        }
    }
    assert!(service.list().unwrap().unreadable().is_empty());
}

/// A lock of `group/sub/repo/./default/`, by repository and path, for a pull of `host` (null: not told).
fn lock(repo: &str, path: &str, num: i64, host: Option<&str>) -> Vec<u8> {
    serde_json::json!({
        "Project": {"RepoFullName": repo, "Path": path}, "Workspace": "default",
        "Pull": {"Num": num, "BaseRepo": {"VCSHost": {"Hostname": host}}},
    })
    .to_string()
    .into_bytes()
}

#[test]
fn a_pull_with_the_holders_number_is_told_nothing_it_could_take_for_its_own() {
    let (repo, path, github) = ("group/sub/repo", ".", Some("github.com"));
    let holder = lock(repo, path, 5, github);
    for (asking, is_told) in [
        (lock(repo, path, 5, github), true),
        (lock(repo, path, 5, Some("GitHub.com")), true),
        (lock(repo, path, 5, None), true),
        (lock(repo, path, 5, Some("")), true),
        (lock(repo, path, 6, Some("gitlab.com")), true),
        (lock("group/sub", "repo/.", 6, github), true),
        (lock(repo, path, 5, Some("gitlab.com")), false),
        (lock("group/sub", "repo/.", 5, github), false),
        (lock("group/sub", "repo/.", 5, None), false),
    ] {
        for (holder, asking) in [(&holder, &asking), (&asking, &holder)] {
            let (_folder, service) = service();
            assert!(matches!(service.try_lock(holder), Ok(Granted::Yes { .. })));
            match service.try_lock(asking) {
                Ok(Granted::NotYet) => panic!("nobody waits"),
                Ok(Granted::Held { value }) => assert!(is_told && value == *holder),
                Ok(Granted::Yes { .. }) => panic!("both hold it"),
                Err(e) => {
                    assert_eq!((is_told, e.code()), (false, Code::OtherPull), "{e}");
                    let told = String::from_utf8_lossy(holder).contains("gitlab") || e.message().contains("on github.com");
                    assert!(told && e.message().contains("\"group/sub/repo/./default/\" is held by pull #5 of group/sub"), "{e}");
                    assert!(service.metrics().contains(r#"code="other_pull""#));
                }
            }
            assert_eq!(service.list().unwrap().values().collect::<Vec<_>>(), [holder.as_slice()]);
        }
    }
}

/// Pieces that are often valid where something else stood.
const PIECES: &[&str] = &[
    "null",
    "true",
    "7",
    "-0",
    "1.0",
    "9007199254740992",
    "\"x\"",
    "{}",
    "[]",
    ",",
    ":",
    "{",
    "}",
    "\"",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\u{feff}",
    " ",
    "\n",
    "\"project\":{},",
    "\"Num\":null,",
    "\"Later\":[1,{\"a\":null}],",
    "\"Time\":\"2026-11-24T08:17:00.5+02:00\",",
    "\"Teams\":null,",
];

#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, usize),
    Cut(usize, usize),
    Byte(usize, u8),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        (any::<usize>(), 0..PIECES.len()).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<usize>(), 0_usize..8).prop_map(|(at, length)| Edit::Cut(at, length)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
    ];
    proptest::collection::vec(edit, 0..4)
}

fn edited(mut text: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        match edit {
            Edit::Insert(at, piece) => {
                let at = at % (text.len() + 1);
                text.splice(at..at, PIECES[*piece].bytes());
            }
            Edit::Cut(at, length) => {
                let at = at % (text.len() + 1);
                text.drain(at..(at + length).min(text.len()));
            }
            Edit::Byte(at, byte) => {
                let length = text.len().max(1);
                if let Some(old) = text.get_mut(at % length) {
                    *old = *byte;
                }
            }
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// What is found to be a lock is JSON for serde_json, too, and its names are those that serde_json reads.
    #[test]
    fn an_edited_lock_never_panics_and_is_read_as_json(which: prop::sample::Index, edits in edits()) {
        // serde_json stops one level before a lock does.
        let valid: Vec<Case> = corpus().into_iter().filter(|case| case.lock && !case.name.contains("levels")).collect();
        let text = edited(which.get(&valid).text(), &edits);
        let Ok(lock) = ProjectLock::parse(&text) else { return Ok(()) };
        let value: serde_json::Value = match serde_json::from_slice(&text) {
            Ok(value) => value,
            // A later member may hold a number that serde_json does not keep.
            Err(e) => {
                prop_assert!(e.to_string().contains("number out of range"), "{e}");
                return Ok(());
            }
        };
        prop_assert_eq!(value["Project"]["RepoFullName"].as_str(), Some(lock.fields().repo));
        prop_assert_eq!(value["Project"]["Path"].as_str(), Some(lock.fields().path));
        prop_assert_eq!(value["Workspace"].as_str(), Some(lock.fields().workspace));
        prop_assert_eq!(value["Project"]["ProjectName"].as_str().unwrap_or_default(), lock.fields().project);
        prop_assert_eq!(value["Pull"]["Num"].as_i64(), Some(lock.pull().num));
        prop_assert_eq!(value["Pull"]["BaseRepo"]["VCSHost"]["Hostname"].as_str().unwrap_or_default(), lock.host());
    }
}

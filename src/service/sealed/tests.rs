use std::time::{Duration, Instant};

use super::*;
use crate::call::RequestId;
use crate::clock::SystemClock;
use crate::domain::lock::ProjectLock;
use crate::store::reference::ReferenceStore;

const SECRET: &str = "s3cr3t";
const STATUS: &str = "h::acme/infra::1";

/// One store below, and servers with these keys over it; two digits stand for a key.
struct Place(Arc<Router>);

impl Place {
    fn new() -> Place {
        Place(Arc::new(Router::over(Box::new(ReferenceStore::new(Arc::new(SystemClock))))))
    }

    fn server(&self, keys: &[&str]) -> Sealed {
        let lines: Vec<String> = keys.iter().map(|digits| digits.repeat(32)).collect();
        let keys = (!keys.is_empty()).then(|| MasterKeys::parse(lines.join("\n").as_bytes(), "test").unwrap().credential_keys());
        let (router, seals) = (Arc::clone(&self.0), keys.is_some());
        Sealed { router, shadow: Arc::default(), keys, seals, closed: Mutex::default() }
    }

    /// What the store has.
    fn stored(&self, path: &str) -> String {
        text(self.0.store().get(LockKey::Project(&key(path)), &call()).unwrap().expect("is held"))
    }

    fn status(&self) -> String {
        text(self.0.store().pull_status(STATUS, &call()).unwrap().expect("is there"))
    }
}

fn call() -> Call {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Call::new(RequestId::from_text(format!("{number:032x}")), Instant::now() + Duration::from_secs(10))
}

fn text(value: Vec<u8>) -> String {
    String::from_utf8(value).unwrap()
}

fn key(path: &str) -> String {
    format!("acme/infra/{path}/default/")
}

fn lock(path: &str) -> String {
    format!(
        r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"{path}"}},"Pull":{{"Num":1,"BaseRepo":{{"CloneURL":"https://bot:{SECRET}@h/acme/infra.git"}}}},"User":{{"Username":"ann"}},"Workspace":"default"}}"#
    )
}

fn status(commit: u32) -> String {
    format!(
        r#"{{"Projects":null,"Pull":{{"Num":1,"HeadCommit":"{commit}","BaseRepo":{{"CloneURL":"https://bot:{SECRET}@h/r"}}}}}}"#
    )
}

fn grant(server: &dyn Store, path: &str) -> Granted {
    let value = lock(path);
    let parsed = ProjectLock::parse(value.as_bytes()).unwrap();
    let key = key(path);
    let grant = Grant { key: LockKey::Project(&key), lock: Some(&parsed), value: value.as_bytes(), in_order: false };
    server.grant(&grant, &call()).unwrap()
}

fn exactly(server: &Sealed, path: &str, value: &str) -> Option<String> {
    let key = key(path);
    let release = Release { key: LockKey::Project(&key), fields: None, pull_num: None, value: Some(value.as_bytes()) };
    server.release(&release, &call()).unwrap().map(text)
}

fn swap(server: &Sealed, expected: Expected<'_>, new: Option<&str>) -> Swap {
    server.swap_pull_status(STATUS, expected, new.map(str::as_bytes), &call()).unwrap()
}

#[test]
fn every_way_in_seals_and_every_way_out_opens() {
    let place = Place::new();
    let server = place.server(&["ab"]);
    assert!(matches!(grant(&server, "a"), Granted::Yes { .. }));
    assert!(!place.stored("a").contains(SECRET) && place.stored("a").contains("https://atlock."));
    assert_eq!(grant(&server, "a"), Granted::Held { value: lock("a").into_bytes() });
    let (key, name) = (key("a"), LockKey::Command("apply"));
    let project = LockKey::Project(&key);
    assert_eq!(server.get(project, &call()).unwrap().map(text), Some(lock("a")));
    assert_eq!(server.held(project, &call()).unwrap().map(|held| text(held.value)), Some(lock("a")));
    let command = lock("x");
    let asked = Grant { key: name, lock: None, value: command.as_bytes(), in_order: false };
    assert!(matches!(server.grant(&asked, &call()).unwrap(), Granted::Yes { .. }));
    assert!(!text(place.0.store().get(name, &call()).unwrap().unwrap()).contains(SECRET));
    assert_eq!(server.discard(name, &call()).unwrap().map(text), Some(command.clone()));

    grant(&server, "b");
    let listing = server.list(&call()).unwrap();
    assert_eq!(listing.values().map(|value| text(value.to_vec())).collect::<Vec<_>>(), [lock("a"), lock("b")]);
    let release = Release { key: project, fields: None, pull_num: Some(1), value: None };
    assert_eq!(server.release(&release, &call()).unwrap().map(text), Some(lock("a")));
    let released = server.release_by_pull(PullRef { repo: "acme/infra", num: 1 }, &call()).unwrap();
    assert_eq!(released.values().map(|value| text(value.to_vec())).collect::<Vec<_>>(), [lock("b")]);

    assert_eq!(swap(&server, Expected::Absent, Some(&status(1))), Swap::Done);
    assert!(!place.status().contains(SECRET));
    assert_eq!(server.pull_status(STATUS, &call()).unwrap().map(text), Some(status(1)));
    assert_eq!(swap(&server, Expected::Absent, None), Swap::Conflict(Some(status(1).into_bytes())));
    assert_eq!(swap(&server, Expected::Bytes(status(2).as_bytes()), None), Swap::Conflict(Some(status(1).into_bytes())));
    assert_eq!(swap(&server, Expected::Bytes(status(1).as_bytes()), None), Swap::Done);
    assert_eq!(server.warning(), None);
}

#[test]
fn what_is_meant_is_found_however_it_was_stored() {
    for writer in [&["ab"][..], &[], &["cd"]] {
        let place = Place::new();
        let (before, after) = (place.server(writer), place.server(&["cd", "ab"]));
        grant(&before, "a");
        assert_eq!(exactly(&after, "a", &lock("b")), None, "{writer:?}: another value");
        assert_eq!(exactly(&after, "b", &lock("b")), None, "{writer:?}: nothing is there");
        assert_eq!(exactly(&after, "a", &lock("a")), Some(lock("a")), "{writer:?}");
        swap(&before, Expected::Any, Some(&status(1)));
        assert_eq!(swap(&after, Expected::Bytes(status(7).as_bytes()), None), Swap::Conflict(Some(status(1).into_bytes())));
        assert_eq!(swap(&after, Expected::Bytes(status(1).as_bytes()), Some(&status(2))), Swap::Done, "{writer:?}");
        let digits = MasterKeys::parse("cd".repeat(32).as_bytes(), "test").unwrap().credential_keys().ids();
        assert!(place.status().contains(&format!("atlock.{digits}.")), "{writer:?}: the first key seals");
        assert_eq!(after.warning(), None);
    }
}

#[test]
fn a_server_without_the_key_lists_swaps_and_releases() {
    for keys in [&[][..], &["cd"]] {
        let place = Place::new();
        let (with, without) = (place.server(&["ab"]), place.server(keys));
        grant(&with, "a");
        swap(&with, Expected::Any, Some(&status(1)));
        let (shown, shown_status) = (place.stored("a"), place.status());
        assert_eq!(grant(&without, "a"), Granted::Held { value: shown.clone().into_bytes() });
        let listed = without.list(&call()).unwrap();
        assert_eq!(listed.values().collect::<Vec<_>>(), [shown.as_bytes()]);
        assert_eq!(without.pull_status(STATUS, &call()).unwrap().map(text), Some(shown_status.clone()));
        let changed = shown_status.replace("\"1\"", "\"2\"");
        assert_eq!(swap(&without, Expected::Bytes(shown_status.as_bytes()), Some(&changed)), Swap::Done);
        assert_eq!(with.pull_status(STATUS, &call()).unwrap().map(text), Some(status(2)), "who has the key opens it still");
        assert_eq!(exactly(&without, "a", &shown), Some(shown));
        let warning = without.warning().expect("warns");
        assert!(warning.contains(&with.keys().unwrap().ids()) && !warning.contains(SECRET), "{warning}");
        assert_eq!(with.warning(), None);
    }
}

#[test]
fn who_does_not_seal_opens_what_was_moved_in() {
    let place = Place::new();
    let (redis, embedded) = (place.server(&["ab"]), Sealed { seals: false, ..place.server(&["ab"]) });
    grant(&redis, "a");
    assert_eq!(grant(&embedded, "a"), Granted::Held { value: lock("a").into_bytes() });
    assert_eq!(exactly(&embedded, "a", &lock("a")), Some(lock("a")));
    grant(&embedded, "b");
    assert_eq!(place.stored("b"), lock("b"));
}

#[test]
fn what_grows_over_the_limit_is_refused() {
    let server = Place::new().server(&["ab"]);
    let many = format!("[\"{}\"]", "a://b@c ".repeat(100_000));
    let asked = Grant { key: LockKey::Command("apply"), lock: None, value: many.as_bytes(), in_order: false };
    assert_eq!(server.grant(&asked, &call()).unwrap_err().code(), crate::error::Code::TooLarge);
}

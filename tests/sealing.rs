//! Encryption at rest, and what deletes a released lock's value: `locking.encryption`, `atlock reseal`, `atlock compact`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod sled_support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use atlock::config::Config;
use atlock::error::{Code, Error, Result};
use atlock::sealing::MasterKeys;
use atlock::service::Service;
use atlock::store::sled::SledStore;
use atlock::store::{Expected, Granted, Store as _};
use sled_support::{Random, call, contents, seed, system_clock};

const MARKER: &str = "s3cr3t-t0ken-MARKER";

/// A folder with a data folder and a key file.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        place.set_keys(&["ab"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Two digits stand for a key.
    fn set_keys(&self, keys: &[&str]) {
        let text: String = keys.iter().map(|digits| digits.repeat(32) + "\n").collect();
        std::fs::write(self.path("key"), text).unwrap();
        std::fs::set_permissions(self.path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn settings(&self, sealed: bool) -> String {
        let encryption = if sealed { format!("encryption: {{key_file: {:?}}},", self.path("key")) } else { String::new() };
        format!("locking: {{backend: sled, {encryption} data_dir: {:?}}}", self.data())
    }

    fn open(&self, sealed: bool) -> Result<Service> {
        Service::open(&Config::parse(&self.settings(sealed), "test")?, None, system_clock())
    }

    fn refused(&self, sealed: bool) -> Error {
        self.open(sealed).map(drop).unwrap_err()
    }

    fn command(&self, sealed: bool, words: &[&str]) -> Command {
        let file = self.path("locking.yaml");
        std::fs::write(&file, self.settings(sealed)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
        command.arg("--config").arg(file).args(words).stdin(Stdio::null());
        command
    }

    fn atlock(&self, sealed: bool, words: &[&str]) -> Output {
        self.command(sealed, words).output().unwrap()
    }

    /// In which files of the data folder the marker stands.
    fn marked(&self) -> Vec<PathBuf> {
        let has = |bytes: &[u8]| bytes.windows(MARKER.len()).any(|part| part == MARKER.as_bytes());
        contents(&self.data()).into_iter().filter(|(_, bytes)| has(bytes)).map(|(path, _)| path).collect()
    }
}

fn lock(project: usize, pull: usize) -> String {
    let url = format!("https://atlantis:{MARKER}@git.example.com/acme/infra.git");
    format!(
        r#"{{"Project":{{"ProjectName":"p{project}","RepoFullName":"acme/infra","Path":"."}},"Pull":{{"Num":{pull},"BaseRepo":{{"CloneURL":"{url}"}}}},"User":{{"Username":"u"}},"Workspace":"default","Time":"2024-01-01T00:00:00Z"}}"#
    )
}

fn take(service: &Service, projects: std::ops::Range<usize>) {
    for project in projects {
        assert!(matches!(service.try_lock(lock(project, project % 5 + 1).as_bytes()).unwrap(), Granted::Yes { .. }));
    }
}

/// Work on everything that holds a secret.
fn work(service: &Service) {
    take(service, 0..40);
    let status = format!(r#"{{"Projects":null,"Pull":{{"Num":1,"BaseRepo":{{"CloneURL":"https://a:{MARKER}@h/r"}}}}}}"#);
    service.swap_pull_status("h::acme/infra::1", Expected::Any, Some(status.as_bytes())).unwrap();
    for pull in 1..=3 {
        assert_eq!(service.unlock_by_pull("acme/infra", pull).unwrap().len(), 8);
    }
}

fn values(service: &Service) -> Vec<Vec<u8>> {
    let mut values: Vec<_> = service.list().unwrap().values().map(<[u8]>::to_vec).collect();
    values.sort_unstable();
    values
}

#[test]
fn no_file_of_a_sealed_store_shows_a_secret_and_all_comes_back() {
    let place = Place::new();
    let service = place.open(true).unwrap();
    work(&service);
    let before = values(&service);
    assert!(before.len() == 16 && before.iter().all(|value| String::from_utf8_lossy(value).contains(MARKER)));
    let status = service.status();
    assert!(status.at_rest.encrypted && status.at_rest.embedded == Some("sealed"), "{:?}", status.at_rest);
    assert_eq!(place.marked(), Vec::<PathBuf>::new(), "while it is open");
    service.close().unwrap();
    assert_eq!(place.marked(), Vec::<PathBuf>::new());
    let names =
        contents(&place.data()).into_values().any(|bytes| String::from_utf8_lossy(&bytes).contains("acme/infra/./default/p3"));
    assert!(names, "the names of locks stay readable");
    let service = place.open(true).unwrap();
    assert_eq!(values(&service), before);
    service.close().unwrap();
    let looked = place.atlock(true, &["--json", "list"]);
    assert!(String::from_utf8_lossy(&looked.stdout).contains(MARKER), "{looked:?}");
}

#[test]
fn a_lost_key_and_a_wrong_one_are_errors_of_their_own_and_change_nothing() {
    let place = Place::new();
    let service = place.open(true).unwrap();
    work(&service);
    let before = values(&service);
    service.close().unwrap();
    let lost = place.refused(false);
    assert!(lost.code() == Code::EncryptionKey && lost.message().contains("locking.encryption names no key"), "{lost}");
    place.set_keys(&["cd"]);
    let wrong = place.refused(true);
    assert!(wrong.code() == Code::EncryptionKey && wrong.message().contains("add that key behind the first one"), "{wrong}");
    for words in [&["list"][..], &["reseal"], &["reseal", "--plain"], &["compact"]] {
        let refused = place.atlock(true, words);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("is sealed under the master key"), "{words:?}: {told}");
    }
    std::fs::remove_file(place.path("key")).unwrap();
    let gone = place.refused(true);
    assert!(gone.code() == Code::InvalidConfig && gone.message().contains("key_file"), "{gone}");
    place.set_keys(&["ab"]);
    assert_eq!(values(&place.open(true).unwrap()), before);
}

#[test]
fn what_was_there_before_the_key_is_read_and_reseal_and_compact_leave_none_of_it() {
    let place = Place::new();
    let service = place.open(false).unwrap();
    work(&service);
    let before = values(&service);
    assert!(!service.status().at_rest.encrypted);
    service.close().unwrap();
    assert_ne!(place.marked(), Vec::<PathBuf>::new());
    let service = place.open(true).unwrap();
    assert_eq!(values(&service), before);
    take(&service, 100..103);
    let mixed = values(&service);
    service.close().unwrap();
    let resealed = place.atlock(true, &["reseal"]);
    assert!(resealed.status.success(), "{resealed:?}");
    let again = String::from_utf8(place.atlock(true, &["reseal"]).stdout).unwrap();
    assert!(again.contains("all is sealed"), "{again}");
    let compacted = place.atlock(true, &["compact"]);
    assert!(compacted.status.success(), "{compacted:?}");
    assert_eq!(place.marked(), Vec::<PathBuf>::new());
    assert_eq!(values(&place.open(true).unwrap()), mixed);
}

#[test]
fn released_locks_leave_nothing_once_a_store_in_clear_is_compacted() {
    let place = Place::new();
    let service = place.open(false).unwrap();
    work(&service);
    for pull in 1..=5 {
        service.unlock_by_pull("acme/infra", pull).unwrap();
    }
    service.swap_pull_status("h::acme/infra::1", Expected::Any, None).unwrap();
    service.close().unwrap();
    assert_ne!(place.marked(), Vec::<PathBuf>::new(), "sled's log and the journal keep copies");
    let before = contents(&place.data()).values().map(Vec::len).sum::<usize>();
    let compacted = place.atlock(false, &["compact"]);
    assert!(compacted.status.success(), "{compacted:?}");
    assert_eq!(place.marked(), Vec::<PathBuf>::new());
    assert!(contents(&place.data()).values().map(Vec::len).sum::<usize>() <= before);
    let service = place.open(false).unwrap();
    assert_eq!(values(&service), Vec::<Vec<u8>>::new());
    take(&service, 0..3);
}

#[test]
fn the_way_back_is_open_at_any_time() {
    let place = Place::new();
    let service = place.open(true).unwrap();
    work(&service);
    let before = values(&service);
    service.close().unwrap();
    let format = || std::fs::read_to_string(place.data().join("format.json")).unwrap();
    assert!(format().contains("\"format\":3"), "earlier versions must not call it damaged: {}", format());
    let plain = place.atlock(true, &["reseal", "--plain"]);
    assert!(plain.status.success(), "{plain:?}");
    assert!(format().contains("\"format\":1"), "{}", format());
    let service = place.open(false).unwrap();
    assert_eq!(values(&service), before);
    service.close().unwrap();
    // And there again.
    let service = place.open(true).unwrap();
    assert_eq!(values(&service), before);
    assert!(format().contains("\"format\":3"));
}

#[test]
fn a_new_master_key_needs_the_old_one_once_and_compact_ends_the_old_data_keys() {
    let place = Place::new();
    let service = place.open(true).unwrap();
    work(&service);
    service.close().unwrap();
    for (older, newer) in [("ab", "cd"), ("cd", "ef")] {
        place.set_keys(&[newer, older]);
        let service = place.open(true).unwrap();
        let before = values(&service);
        service.close().unwrap();
        place.set_keys(&[newer]);
        let service = place.open(true).unwrap();
        assert_eq!(values(&service), before);
        service.close().unwrap();
        place.set_keys(&[older]);
        assert_eq!(place.refused(true).code(), Code::EncryptionKey);
        place.set_keys(&[newer]);
        assert!(place.atlock(true, &["compact"]).status.success());
        assert_eq!(values(&place.open(true).unwrap()), before);
    }
}

/// Each change of the key comes while callers work.
#[test]
fn keys_rotate_under_load() {
    let place = Place::new();
    let keys = ["ab", "cd", "ef", "12", "34", "56"];
    let mut taken = 0;
    for round in 0..keys.len() {
        let newest: Vec<_> = keys[round.saturating_sub(1)..=round].iter().rev().copied().collect();
        place.set_keys(&newest);
        let service = place.open(true).unwrap();
        assert_eq!(service.list().unwrap().len(), taken);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (service, first) = (&service, 1000 * thread + 10 * round);
                scope.spawn(move || take(service, first..first + 10));
            }
        });
        taken += 40;
        assert_eq!(service.list().unwrap().len(), taken);
        service.close().unwrap();
    }
    place.set_keys(&keys[keys.len() - 1..]);
    let resealed = place.atlock(true, &["reseal"]);
    assert!(resealed.status.success(), "{resealed:?}");
    assert_eq!(place.open(true).unwrap().list().unwrap().len(), taken);
    assert_eq!(place.marked(), Vec::<PathBuf>::new());
}

/// kill -9 at random moments; the same command again goes on.
#[test]
fn a_killed_reseal_and_a_killed_compact_lose_nothing() {
    let mut random = Random(seed("ATLOCK_SEALING_SEED"));
    let place = Place::new();
    let service = place.open(false).unwrap();
    take(&service, 0..400);
    let before = values(&service);
    service.close().unwrap();
    for round in 0..18 {
        let words: &[&str] = [&["reseal"][..], &["compact"], &["reseal", "--plain"]][round % 3];
        let mut child = place.command(true, words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.below(60)));
        let _ = child.kill();
        child.wait().unwrap();
        let again = place.atlock(true, words);
        assert!(again.status.success(), "{words:?}: {}", String::from_utf8_lossy(&again.stderr));
        let service = place.open(words != ["reseal", "--plain"]).unwrap();
        assert_eq!(values(&service), before, "{words:?}");
        service.close().unwrap();
    }
}

#[test]
fn a_server_that_runs_is_not_resealed_or_compacted() {
    let place = Place::new();
    let service = place.open(true).unwrap();
    for words in [&["reseal"][..], &["compact"]] {
        let refused = place.atlock(true, words);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("Stop the server"), "{words:?}: {told}");
    }
    service.close().unwrap();
    let without = place.atlock(false, &["reseal"]);
    assert!(String::from_utf8_lossy(&without.stderr).contains("locking.encryption names no key"));
}

/// Both stores are sealed, and what the migration writes down is.
#[test]
fn a_migration_and_its_way_back_show_no_secret_on_the_disk() {
    let place = Place::new();
    let service = place.open(true).unwrap();
    work(&service);
    let before = values(&service);
    service.close().unwrap();
    let (from, to) = (format!("sled:{}", place.data().display()), format!("sled:{}", place.path("other").display()));
    let work_folder = place.path("work");
    let words = ["migrate", "--from", &from, "--to", &to, "--work", work_folder.to_str().unwrap(), "--execute"];
    let without = place.atlock(false, &words);
    assert!(String::from_utf8_lossy(&without.stderr).contains("locking.encryption names no key"), "{without:?}");
    let moved = place.atlock(true, &words);
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    let shown = || {
        let has = |bytes: &[u8]| bytes.windows(MARKER.len()).any(|part| part == MARKER.as_bytes());
        contents(place.folder.path()).into_iter().filter(|(_, bytes)| has(bytes)).map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert_eq!(shown(), Vec::<PathBuf>::new());
    let masters = MasterKeys::parse("ab".repeat(32).as_bytes(), "test").unwrap();
    let there = SledStore::open_sealed(&place.path("other"), system_clock(), Some(&masters)).unwrap();
    assert_eq!(there.list(&call()).unwrap().len(), before.len());
    there.close().unwrap();
    let manifest = work_folder.join("manifest.json");
    let back = place.atlock(true, &["rollback", manifest.to_str().unwrap()]);
    assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    assert_eq!(shown(), Vec::<PathBuf>::new());
    assert_eq!(values(&place.open(true).unwrap()), before);
}

/// A look makes a copy in the temporary folder: of sealed values.
#[test]
fn a_look_copies_sealed_values() {
    let place = Place::new();
    let service = place.open(true).unwrap();
    work(&service);
    service.close().unwrap();
    let masters = MasterKeys::parse("ab".repeat(32).as_bytes(), "test").unwrap();
    let look = SledStore::open_read_only(&place.data(), system_clock(), Some(&masters)).unwrap();
    assert_eq!(look.list(&call()).unwrap().len(), 16);
    let copies = |dir: &Path| -> Vec<PathBuf> {
        let all = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("atlock-look-")).collect()
    };
    for copy in copies(&std::env::temp_dir()) {
        let Ok(files) = std::panic::catch_unwind(|| contents(&copy)) else { continue };
        for (path, bytes) in files {
            assert!(!bytes.windows(MARKER.len()).any(|part| part == MARKER.as_bytes()), "{}", path.display());
        }
    }
    look.close().unwrap();
}

//! Old keys: those of Atlantis before v0.40. One process has one format, so this one's is old, and what comes of an upgrade is asked of another
//! process, the command `atlock`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::{Code, Result};
use atlock::service::Service;
use redis_support::Server;

fn lock(path: &str, project: &str, num: i64) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "Project": {"ProjectName": project, "RepoFullName": "acme/infra", "Path": path}, "Pull": {"Num": num}, "Workspace": "default",
    }))
    .unwrap()
}

/// Settings as they are written, with these keys.
fn sled(folder: &Path, keys: &str) -> String {
    format!("locking: {{backend: sled, data_dir: {:?}, key_format: {keys}}}\n", folder.join("locks"))
}

/// The same with a key under which the store is sealed.
fn sealed(folder: &Path, keys: &str) -> String {
    let key = folder.join("key");
    std::fs::write(&key, "ab".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    sled(folder, keys).replace("backend: sled", &format!("backend: sled, encryption: {{key_file: {key:?}}}"))
}

fn native(server: &Server, keys: &str) -> String {
    let redis = format!("redis: {{address: '{}'}}", server.address());
    format!("locking: {{key_format: {keys}, enhanced: {{enabled: true, compatibility_mode: native, {redis}}}}}\n")
}

fn open(settings: &str) -> Result<Service> {
    Service::open(&Config::parse(settings, "test").unwrap(), None, Arc::new(SystemClock))
}

fn keys(service: &Service) -> usize {
    service.list().unwrap().values().count()
}

/// What the command says on both outputs, and its exit status: in a process of its own, with these settings.
fn told(folder: &Path, settings: &str, args: &[&str]) -> (String, i32) {
    let file = folder.join("locking.yaml");
    std::fs::write(&file, settings).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
    let output = command.arg("--config").arg(file).args(args).env_clear().output().unwrap();
    (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.code().unwrap())
}

/// All projects of a folder and workspace are one lock, whatever their names.
fn one_lock_for_all_names(service: &Service) {
    service.try_lock(&lock("a/b", "web", 1)).unwrap();
    service.try_lock(&lock("a/b", "api", 2)).unwrap();
    assert_eq!(keys(service), 1);
    let named = br#"{"Project":{"ProjectName":"api","RepoFullName":"acme/infra","Path":"a/b"},"Workspace":"default"}"#;
    assert!(service.unlock(named).unwrap().is_some());
    assert_eq!(keys(service), 0);
    service.try_lock(&lock("a/b", "web", 1)).unwrap();
    assert!(service.unlock(br#"{"Key":"acme/infra/a/b/default"}"#).unwrap().is_some());
}

#[test]
fn an_embedded_store_moves_to_the_new_keys_once() {
    moves_to_the_new_keys_once(sled);
}

/// A sealed value belongs to its key, so each is sealed anew.
#[test]
fn a_sealed_store_moves_to_the_new_keys_once() {
    moves_to_the_new_keys_once(sealed);
}

fn moves_to_the_new_keys_once(settings: fn(&Path, &str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let (old, current) = (settings(folder.path(), "old"), settings(folder.path(), "current"));
    let service = open(&old).unwrap();
    one_lock_for_all_names(&service);
    let long = "d/".repeat(150) + "end";
    for (path, project, num) in [(".", "web", 1), ("a/b", "", 2), (long.as_str(), "p", 3)] {
        service.try_lock(&lock(path, project, num)).unwrap();
    }
    service.close().unwrap();
    drop(service);

    // A look changes nothing, and shows what an upgrade will make of the locks.
    let (list, _) = told(folder.path(), &current, &["list"]);
    assert!(list.contains("acme/infra/./default/web") && list.contains("acme/infra/a/b/default/"), "{list}");
    assert_eq!(keys(&open(&old).unwrap()), 3);

    // The first change moves them all, and there is no way back.
    assert_eq!(told(folder.path(), &current, &["unlock", "acme/infra/a/b/default/"]).1, 0);
    let (list, _) = told(folder.path(), &current, &["list"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    assert_eq!(told(folder.path(), &current, &["unlock", "acme/infra/./default/web"]).1, 0);
    assert_eq!(told(folder.path(), &current, &["unlock", &format!("acme/infra/{long}/default/p")]).1, 0);
    let refused = open(&old).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidConfig);
    assert!(refused.message().contains("has the keys of Atlantis v0.40 and later"), "{refused}");
}

#[test]
fn a_process_has_one_format() {
    let folder = tempfile::tempdir().unwrap();
    open(&sled(folder.path(), "old")).unwrap().close().unwrap();
    let other = tempfile::tempdir().unwrap();
    let refused = open(&sled(other.path(), "current")).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidConfig);
    assert!(refused.message().contains("one process has one format"), "{refused}");
}

#[test]
fn a_redis_is_not_shared_by_both() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    let (old, current) = (native(&server, "old"), native(&server, "current"));
    let service = open(&old).unwrap();
    one_lock_for_all_names(&service);
    service.try_lock(&lock("a/b", "web", 1)).unwrap();
    let found: Option<String> = redis::cmd("GET").arg("pr/acme/infra/a/b/default").query(&mut server.raw()).unwrap();
    assert!(found.is_some(), "the key is not stock's");
    // Beside that server nobody begins with other keys.
    let (refused, status) = told(folder.path(), &current, &["unlock", "acme/infra/a/b/default/web"]);
    assert!(status != 0 && refused.contains("is used by servers of Atlantis before v0.40"), "{refused}");
    service.close().unwrap();
    // Once it has stopped the lock moves to its new key, and an old server is refused.
    assert_eq!(told(folder.path(), &current, &["unlock", "acme/infra/other/default/"]).1, 3);
    let moved: Option<String> = redis::cmd("GET").arg("pr/acme/infra/a/b/default/web").query(&mut server.raw()).unwrap();
    assert!(moved.is_some(), "the lock was not moved");
    let refused = open(&old).unwrap_err();
    assert!(refused.message().contains("has locks under the keys of Atlantis v0.40 and later"), "{refused}");
}

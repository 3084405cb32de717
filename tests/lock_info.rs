//! How locks stand, as an operator sees it: token and store, in each mode.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::domain::token::FencingToken;
use atlock::error::Code;
use atlock::service::Service;
use atlock::store::{Granted, Location, LockInfo};
use redis_support::Server;
use wait::{wait_for, wait_until};

fn open(mode: &str, server: &Server, folder: &Path) -> Service {
    let settings = format!(
        "locking: {{backend: sled, data_dir: {folder:?}, enhanced: {{enabled: true, compatibility_mode: {mode}, \
         redis: {{address: '{}', timeouts: {{connect: 1s, operation: 1s}}}}}}}}",
        server.address()
    );
    Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap()
}

/// Takes a lock and tells its fencing token.
fn take(service: &Service, path: &str) -> FencingToken {
    let lock = format!(r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"{path}"}},"Workspace":"w","Pull":{{"Num":1}}}}"#);
    match service.try_lock(lock.as_bytes()).unwrap() {
        Granted::Yes { token, .. } => token,
        held => panic!("{held:?}"),
    }
}

/// Waits until the locks at `a` and `b` stand like this, and the one at `c`, which nobody holds, not at all.
fn wait_until_they_are(service: &Service, wanted: [Option<LockInfo>; 2]) {
    let [a, b] = wanted;
    let wanted = vec![a, b, None];
    wait_for(&format!("{wanted:?}"), Duration::from_secs(20), || {
        let lock_infos = service.lock_infos(br#"["acme/infra/a/w/","acme/infra/b/w/","acme/infra/c/w/"]"#).unwrap();
        if lock_infos == wanted { Ok(()) } else { Err(lock_infos) }
    });
}

fn is(token: FencingToken, store: Location) -> Option<LockInfo> {
    Some(LockInfo { token: Some(token), store })
}

#[test]
fn strict_mode_knows_its_own_tokens() {
    let (server, folder) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let service = open("strict", &server, folder.path());
    let a = take(&service, "a");
    wait_until_they_are(&service, [is(a, Location::Legacy), None]);
}

#[test]
fn native_mode_asks_redis_and_knows_no_token_of_a_stock_server() {
    let (server, folder) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let service = open("native", &server, folder.path());
    let a = take(&service, "a");
    let mut stock = redis::Client::open(format!("redis://{}", server.address())).unwrap().get_connection().unwrap();
    let lock = r#"{"Project":{"RepoFullName":"acme/infra","Path":"b"},"Workspace":"w","Pull":{"Num":2}}"#;
    redis::cmd("SET").arg("pr/acme/infra/b/w/").arg(lock).query::<()>(&mut stock).unwrap();
    wait_until_they_are(&service, [is(a, Location::Enhanced), Some(LockInfo { token: None, store: Location::Enhanced })]);
}

#[test]
fn hybrid_mode_tells_what_redis_does_not_know_yet() {
    let (mut server, folder) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let service = open("hybrid", &server, folder.path());
    let a = take(&service, "a");
    wait_until_they_are(&service, [is(a, Location::Both), None]);
    server.kill();
    let b = take(&service, "b");
    wait_until_they_are(&service, [is(a, Location::Both), is(b, Location::Legacy)]);
    server.restart();
    wait_until("Redis decides again", Duration::from_secs(20), || !service.status().fallback_active);
    wait_until_they_are(&service, [is(a, Location::Both), is(b, Location::Both)]);
}

#[test]
fn what_is_no_list_of_keys_is_refused() {
    let (server, folder) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let service = open("strict", &server, folder.path());
    assert_eq!(service.lock_infos(b"[1]").unwrap_err().code(), Code::InvalidJson);
    assert_eq!(service.lock_infos(&vec![b' '; 2 << 20]).unwrap_err().code(), Code::TooLarge);
}

//! What the tests of waiting share: a mode with its stores, and short ways to say things.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

pub mod ground;

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::domain::lock::ProjectLock;
use atlock::domain::token::FencingToken;
use atlock::error::Code;
use atlock::queue::{Priority, PullId};
use atlock::service::Service;
use atlock::service::queueing::runs::{RunEnded, RunRequest};
use atlock::service::queueing::wait::{WaitOptions, Waited};
use atlock::store::Granted;
use tempfile::TempDir;

use crate::redis_support::{Cluster, Server};
use crate::wait::wait_until;

pub const REPO: &str = "acme/infra";
pub const LONG: Duration = Duration::from_secs(30);

/// A mode with its stores.
pub struct World {
    pub folder: TempDir,
    pub server: Option<Server>,
    pub cluster: Option<Cluster>,
    pub mode: &'static str,
    pub sets: &'static str,
    pub timeouts: &'static str,
    pub repos: &'static str,
    pub instances: &'static str,
}

impl World {
    pub fn new(mode: &'static str) -> World {
        let cluster = (mode == "cluster").then(|| Cluster::start(0));
        let server = matches!(mode, "native" | "hybrid").then(|| Server::start(&[]));
        World {
            folder: TempDir::new().unwrap(),
            server,
            cluster,
            mode,
            sets: "each",
            timeouts: "default: 30m",
            repos: "['*']",
            instances: "single",
        }
    }

    /// Each mode, one after the other.
    pub fn each(check: impl Fn(&World)) {
        for mode in ["strict", "native", "cluster", "hybrid"] {
            check(&World::new(mode));
        }
    }

    pub fn open(&self) -> Service {
        let (mode, enabled) = match self.mode {
            "strict" => ("strict", false),
            "cluster" => ("native", true),
            mode => (mode, true),
        };
        let redis = match (&self.server, &self.cluster) {
            (Some(server), _) => format!("address: '{}', ", server.address()),
            (None, Some(cluster)) => format!("cluster_mode: true, addresses: {:?}, ", cluster.settings().addresses),
            (None, None) => String::new(),
        };
        let text = format!(
            "locking: {{backend: sled, data_dir: {:?}, enhanced: {{enabled: {enabled}, compatibility_mode: {mode}, instances: {}, \
             redis: {{{redis}timeouts: {{connect: 2s, operation: 2s}}}}, \
             priority_queue: {{enabled: true, repos: {}, sets: {}}}, timeouts: {{{}}}}}}}",
            self.folder.path().join("locks"),
            self.instances,
            self.repos,
            self.sets,
            self.timeouts
        );
        Service::open(&Config::parse(&text, "test").unwrap(), None, Arc::new(SystemClock)).unwrap()
    }

    /// Strict mode in this folder.
    pub fn strict_in(folder: &Path) -> Service {
        let text = format!(
            "locking: {{backend: sled, data_dir: {:?}, enhanced: {{priority_queue: {{enabled: true}}}}}}",
            folder.join("locks")
        );
        Service::open(&Config::parse(&text, "test").unwrap(), None, Arc::new(SystemClock)).unwrap()
    }

    /// The same mode with stores of its own.
    pub fn again(&self) -> World {
        World::new(self.mode)
    }

    pub fn shared(&self) -> Arc<Service> {
        Arc::new(self.open())
    }
}

pub fn lock(path: &str, num: i64) -> Vec<u8> {
    serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": REPO, "Path": path},
        "Pull": {"Num": num, "URL": format!("https://git.example.com/{num}"), "Author": "ada",
            "BaseRepo": {"FullName": REPO, "VCSHost": {"Hostname": "git.example.com", "Type": 0}}},
        "User": {"Username": "ada"}, "Workspace": "default", "Time": "2026-11-30T00:00:00Z",
    })
    .to_string()
    .into_bytes()
}

pub fn locks(paths: &[&str], num: i64) -> Vec<u8> {
    let locks: Vec<String> = paths.iter().map(|path| String::from_utf8(lock(path, num)).unwrap()).collect();
    format!("[{}]", locks.join(",")).into_bytes()
}

pub fn key(path: &str) -> String {
    format!("{REPO}/{path}/default/")
}

pub fn pull(num: i64) -> PullId {
    PullId { host: "git.example.com".to_owned(), num }
}

pub fn within(timeout: Duration) -> WaitOptions {
    WaitOptions { timeout: Some(timeout), ..WaitOptions::default() }
}

pub fn take(service: &Service, path: &str, num: i64) -> FencingToken {
    match service.try_lock(&lock(path, num)).unwrap() {
        Granted::Yes { token, .. } => token,
        other => panic!("{path} is not free for {num}: {other:?}"),
    }
}

/// The pull that holds a lock, or that is told to whoever is refused it.
pub fn refused_for(service: &Service, path: &str, num: i64) -> i64 {
    match service.try_lock(&lock(path, num)).unwrap() {
        Granted::Held { value } => ProjectLock::parse(&value).unwrap().pull().num,
        other => panic!("{path} is not refused to {num}: {other:?}"),
    }
}

pub fn release(service: &Service, path: &str, num: i64) {
    assert!(service.unlock(&lock(path, num)).unwrap().is_some(), "{num} has no lock at {path}");
}

pub fn holder(service: &Service, path: &str) -> Option<i64> {
    service.get_lock(&lock(path, 1)).unwrap().map(|value| ProjectLock::parse(&value).unwrap().pull().num)
}

pub fn place(service: &Service, path: &str, num: i64) -> Result<usize, Code> {
    service.position(&key(path), REPO, Some(&pull(num))).map_err(|error| error.code())
}

pub fn begin(service: &Service, num: i64, command: &str, applied: &[&str]) -> u64 {
    let applied: Vec<String> = applied.iter().map(|path| key(path)).collect();
    let request = serde_json::json!({
        "repo": REPO, "pull": {"host": "git.example.com", "num": num}, "command": command, "applied": applied,
    });
    service.run_begin(&serde_json::from_value::<RunRequest>(request).unwrap()).unwrap()
}

/// A plan of these projects that ends at once; whether the pull has each, in order.
pub fn plan(service: &Service, num: i64, paths: &[&str]) -> (Vec<bool>, RunEnded) {
    let run = begin(service, num, "plan", &[]);
    service.run_declare(run, &locks(paths, num)).unwrap();
    let acquired = paths.iter().map(|path| service.try_lock_in(run, &lock(path, num)).unwrap().acquired).collect();
    (acquired, service.run_end(run).unwrap())
}

/// A caller who waits; it has its place when this returns.
pub fn waits(service: &Arc<Service>, path: &'static str, num: i64, priority: Priority) -> JoinHandle<()> {
    let (handle, options) = (Arc::clone(service), WaitOptions { priority, ..within(LONG) });
    let waiting = thread::spawn(move || {
        let waited = handle.lock(&lock(path, num), &options).unwrap();
        assert!(matches!(waited, Waited::Locked { .. }), "{waited:?}");
    });
    wait_until("it waits", LONG, || place(service, path, num).is_ok());
    waiting
}

//! What the tests of those who wait share: locks, and a server with a queue over the embedded store, Redis, or both.
#![allow(clippy::unwrap_used, dead_code)]

use std::sync::Arc;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::queue::PullId;
use atlock::service::Service;
use atlock::service::queueing::runs::{InRun, RunRequest};
use atlock::store::Granted;
use tempfile::TempDir;

use crate::redis_support::Server;

pub const REPO: &str = "acme/infra";

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

pub fn key(path: &str) -> String {
    format!("{REPO}/{path}/default/")
}

pub fn pull(num: i64) -> PullId {
    PullId { host: "git.example.com".to_owned(), num }
}

/// A place where servers keep their locks: each is of its own mode.
pub struct Ground {
    pub mode: &'static str,
    pub folder: TempDir,
    redis: Option<Server>,
}

/// The embedded store, Redis, and both.
pub fn grounds() -> Vec<Ground> {
    let ground = |mode| {
        let redis = (mode != "strict").then(|| Server::start(&[]));
        Ground { mode, folder: TempDir::new().unwrap(), redis }
    };
    vec![ground("strict"), ground("native"), ground("hybrid")]
}

impl Ground {
    /// A server here, with these settings of `locking.enhanced` (YAML members).
    pub fn open(&self, settings: &str) -> Service {
        self.open_in("locks", settings)
    }

    /// The same, with its own data in this folder.
    pub fn open_in(&self, folder: &str, settings: &str) -> Service {
        let redis = self.redis.as_ref().map_or(String::new(), |redis| {
            format!("enabled: true, compatibility_mode: {}, redis: {{address: '{}'}}, ", self.mode, redis.address())
        });
        let folder = self.folder.path().join(folder);
        let text = format!(
            "locking: {{backend: sled, data_dir: {}, audit: {{file: {}}}, enhanced: {{{redis}{settings}}}}}",
            folder.display(),
            self.trail().display()
        );
        Service::open(&Config::parse(&text, "test").unwrap(), None, Arc::new(SystemClock)).unwrap()
    }

    /// The audit trail.
    pub fn trail(&self) -> std::path::PathBuf {
        self.folder.path().join("audit.log")
    }

    /// How many events of this kind the audit trail has.
    pub fn told(&self, kind: &str) -> usize {
        let text = std::fs::read_to_string(self.trail()).unwrap();
        text.lines().filter(|line| line.contains(&format!("\"kind\":\"{kind}\""))).count()
    }
}

pub fn is_granted(granted: &Granted) -> bool {
    matches!(granted, Granted::Yes { .. })
}

/// A lock that must be free.
pub fn take(service: &Service, path: &str, num: i64) {
    let granted = service.try_lock(&lock(path, num)).unwrap();
    assert!(is_granted(&granted), "{path} is not free for #{num}: {granted:?}");
}

/// A plan of a pull that asks for these locks; how each ended.
pub fn plan(service: &Service, num: i64, paths: &[&str]) -> Vec<InRun> {
    let run = service.run_begin(&begin(num)).unwrap();
    let tried = paths.iter().map(|path| service.try_lock_in(run, &lock(path, num)).unwrap()).collect();
    service.run_end(run).unwrap();
    tried
}

pub fn begin(num: i64) -> RunRequest {
    let json = format!(r#"{{"repo": "{REPO}", "pull": {{"host": "git.example.com", "num": {num}}}, "command": "plan"}}"#);
    serde_json::from_str(&json).unwrap()
}

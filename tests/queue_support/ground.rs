//! A server with settings of a test's own, over the embedded store, Redis, or both; and plans whose answers are looked at.
#![allow(clippy::unwrap_used, dead_code)]

use std::sync::Arc;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::service::Service;
use atlock::service::queueing::runs::{InRun, RunRequest};
use atlock::store::Granted;
use tempfile::TempDir;

use super::{REPO, lock};
use crate::redis_support::Server;

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

//! What the tests of the embedded store share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use atlock::call::{Call, Calls};
use atlock::clock::{Clock, SystemClock};
use atlock::domain::key::Fields;
use atlock::domain::lock::ProjectLock;
use atlock::error::Result;
use atlock::store::{Grant, Granted, LockKey, Store};

/// The machine's clock.
pub fn system_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// A call with plenty of time.
pub fn call() -> Call {
    call_within(Duration::from_secs(60))
}

/// A call with this much time.
pub fn call_within(timeout: Duration) -> Call {
    static CALLS: OnceLock<Calls> = OnceLock::new();
    CALLS.get_or_init(|| Calls::new(system_clock()).unwrap()).within(timeout)
}

/// A lock's JSON as Atlantis writes it, with `padding` more bytes.
pub fn lock_json(fields: Fields<'_>, num: i64, padding: usize) -> Vec<u8> {
    let text = |text: &str| serde_json::to_string(text).unwrap();
    format!(
        r#"{{"Project":{{"ProjectName":{},"RepoFullName":{},"Path":{}}},"Pull":{{"Num":{num},"Title":"{}"}},"User":{{"Username":"u"}},"Workspace":{},"Time":"2024-01-01T00:00:00Z"}}"#,
        text(fields.project),
        text(fields.repo),
        text(fields.path),
        "x".repeat(padding),
        text(fields.workspace),
    )
    .into_bytes()
}

/// Takes the lock of these fields for pull `num`.
pub fn grant(store: &dyn Store, fields: Fields<'_>, num: i64, padding: usize) -> Result<Granted> {
    let value = lock_json(fields, num, padding);
    let lock = ProjectLock::parse(&value).ok();
    store.grant(&Grant { key: LockKey::Project(&fields.key()), lock: lock.as_ref(), value: &value, in_order: false }, &call())
}

/// This test binary again, running only `test`, with its role and folder in the environment.
pub fn child(test: &str, role: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env("ATLOCK_TEST_ROLE", role).env("ATLOCK_TEST_FOLDER", folder);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// The role and folder of a child.
pub fn role() -> Option<(String, PathBuf)> {
    Some((std::env::var("ATLOCK_TEST_ROLE").ok()?, std::env::var_os("ATLOCK_TEST_FOLDER")?.into()))
}

/// A number that decides a test, from the environment or the clock, printed so that it can be given again.
pub fn seed(name: &str) -> u64 {
    let seed = std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| SystemClock.unix_micros());
    eprintln!("{name}={seed}");
    seed
}

/// A small generator of reproducible numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Every file below a folder with its content, to see whether anything was changed.
pub fn contents(folder: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// Copies a folder and all in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_folder(&path, &target) } else { std::fs::copy(&path, &target).map(drop).unwrap() }
    }
}

/// A small file system of its own, unmounted on drop.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path, size: &str) -> SmallDisk {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test mounts a tmpfs: run it as root, with CAP_SYS_ADMIN");
        SmallDisk(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

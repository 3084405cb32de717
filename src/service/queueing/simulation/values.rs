//! The few projects of one repository for whose locks pulls meet, and values that are never the same twice.

use crate::queue::PullId;
use crate::store::contract::local::EntryKey;

/// The repository.
pub(super) const REPO: &str = "a/b";
/// Its projects.
pub(super) const PATHS: [&str; 3] = ["x", "y", "z"];
/// The pulls that plan, wait and leave.
pub(super) const PULLS: std::ops::Range<i64> = 1..6;
/// The pull of a stock server.
pub(super) const OF_STOCK: i64 = 50;
/// Newcomers have numbers from here on.
pub(super) const NEWCOMERS: i64 = 100;

pub(super) fn key(path: &str) -> String {
    format!("{REPO}/{path}/default/")
}

pub(super) fn path_of(key: &str) -> &str {
    key.split('/').nth(2).expect("has a path")
}

pub(super) fn entry(key: &str) -> EntryKey {
    EntryKey::Project(key.to_owned())
}

pub(super) fn pull(num: i64) -> PullId {
    PullId { host: "git.example.com".to_owned(), num }
}

/// A lock of this pull, which is none other's.
pub(super) fn lock(path: &str, num: i64, number: u64) -> Vec<u8> {
    let value = serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": REPO, "Path": path},
        "Pull": {"Num": num, "URL": "", "Author": "ada",
            "BaseRepo": {"FullName": REPO, "VCSHost": {"Hostname": "git.example.com", "Type": 0}}},
        "User": {"Username": "ada"}, "Workspace": "default", "N": number,
    });
    value.to_string().into_bytes()
}

/// The number of a lock; `None`: nobody of the simulation asked for it.
pub(super) fn number_of(value: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(value).ok()?["N"].as_u64()
}

//! The few keys that the schedules use, so that callers meet, and values that are never the same twice.

use super::random::Random;
use crate::domain::lock::ProjectLock;
use crate::store::contract::local::EntryKey;

/// The name of the one pull status.
pub(super) const STATUS: &str = "h::a/b::1";
/// The repository of which one pull is released as a whole.
pub(super) const REPO: &str = "a/b";

pub(super) fn any_key(random: &Random) -> EntryKey {
    match random.below(6) {
        0 => EntryKey::Command("apply".to_owned()),
        1 => EntryKey::Status(STATUS.to_owned()),
        2 | 3 => EntryKey::Project("a/b/x/default/".to_owned()),
        4 => EntryKey::Project("a/b/y/default/".to_owned()),
        _ => EntryKey::Project("a/c/x/default/".to_owned()),
    }
}

/// The keys of the projects of [`REPO`].
pub(super) fn keys_of_repo() -> [EntryKey; 2] {
    ["x", "y"].map(|path| EntryKey::Project(format!("{REPO}/{path}/default/")))
}

/// A value for this key; pulls alternate.
pub(super) fn value_for(key: &EntryKey, number: u64) -> Vec<u8> {
    let value = match key {
        EntryKey::Project(name) => {
            let parts: Vec<&str> = name.split('/').collect();
            serde_json::json!({
                "Project": {"RepoFullName": format!("{}/{}", parts[0], parts[1]), "Path": parts[2], "ProjectName": ""},
                "Workspace": parts[3], "Pull": {"Num": 1 + number % 2}, "N": number,
            })
        }
        EntryKey::Status(_) => serde_json::json!({ "Pull": {}, "Projects": [], "N": number }),
        EntryKey::Command(_) | EntryKey::Queue(_) | EntryKey::Freezes => serde_json::json!({ "N": number }),
    };
    value.to_string().into_bytes()
}

/// The pull that a value names, if it is a project's lock.
pub(super) fn pull_of(value: &[u8]) -> Option<i64> {
    ProjectLock::parse(value).ok().map(|lock| lock.pull().num)
}

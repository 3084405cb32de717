//! Who asks for a lock, as the lock's JSON says it; and what a lock of a waiting pull looks like.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::ticket::{PullId, Waiter};
use crate::domain::json::parse_json;
use crate::domain::lock::ProjectLock;
use crate::error::Result;

impl PullId {
    /// The pull that holds this lock, or asks for it.
    pub fn of(lock: &ProjectLock<'_>) -> PullId {
        PullId { host: lock.host().to_ascii_lowercase(), num: lock.pull().num }
    }
}

/// The members of a lock that [`ProjectLock`] does not need. `null` is Go's zero value.
#[derive(Deserialize)]
struct LockJson<'a> {
    #[serde(rename = "Pull")]
    pull: PullJson,
    #[serde(rename = "Project", borrow)]
    project: &'a RawValue,
    #[serde(rename = "Workspace", borrow)]
    workspace: &'a RawValue,
}

#[derive(Deserialize)]
struct PullJson {
    #[serde(rename = "URL", default)]
    url: Option<String>,
    #[serde(rename = "Author", default)]
    author: Option<String>,
    #[serde(rename = "BaseRepo", default)]
    base_repo: Option<RepoJson>,
}

#[derive(Deserialize)]
struct RepoJson {
    #[serde(rename = "VCSHost", default)]
    host: Option<HostJson>,
}

#[derive(Deserialize)]
struct HostJson {
    #[serde(rename = "Type", default)]
    kind: Option<i64>,
}

impl Waiter {
    /// Who asks for this lock; `parsed` is what was read of the same value.
    ///
    /// Errors: `InvalidJson` for what is no lock.
    pub fn of(value: &[u8], parsed: &ProjectLock<'_>) -> Result<Waiter> {
        let lock: LockJson<'_> = parse_json(value)?;
        let host_type = lock.pull.base_repo.and_then(|repo| repo.host).and_then(|host| host.kind).unwrap_or_default();
        Ok(Waiter {
            pull: PullId::of(parsed),
            user: parsed.user().to_owned(),
            url: lock.pull.url.unwrap_or_default(),
            host_type,
            author: lock.pull.author.unwrap_or_default(),
            recipe: String::new(),
        })
    }

    /// The lock that this pull would have in place of the one who asks with `value`: for a refusal that has to name a holder where nobody
    /// holds the lock yet. It is never stored.
    pub fn would_be_lock(&self, repo: &str, value: &[u8]) -> Result<Vec<u8>> {
        let lock: LockJson<'_> = parse_json(value)?;
        let (owner, name) = repo.rsplit_once('/').unwrap_or(("", repo));
        let host = json!({"Hostname": self.pull.host, "Type": self.host_type});
        let base_repo = json!({
            "FullName": repo, "Owner": owner, "Name": name, "CloneURL": "", "SanitizedCloneURL": "", "VCSHost": host,
        });
        let pull = json!({
            "Num": self.pull.num, "HeadCommit": "", "URL": self.url, "HeadBranch": "", "BaseBranch": "", "Author": self.author, "State": 0,
            "BaseRepo": base_repo,
        });
        let user = json!({"Username": self.user, "Teams": null});
        let text = format!(
            r#"{{"Project":{},"Pull":{pull},"User":{user},"Workspace":{},"Time":"0001-01-01T00:00:00Z"}}"#,
            lock.project, lock.workspace
        );
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &[u8] = br#"{"Project":{"ProjectName":"p","RepoFullName":"group/sub/infra","Path":"."},"Pull":{"Num":7,"URL":"https://h/7","Author":"ada","BaseRepo":{"VCSHost":{"Hostname":"Git.Example.com","Type":2}}},"User":{"Username":"bob"},"Workspace":"default","Time":null}"#;

    #[test]
    fn a_would_be_lock_names_the_pull_that_waits_and_the_lock_that_is_asked_for() {
        let waiter = Waiter::of(LOCK, &ProjectLock::parse(LOCK).expect("is a lock")).expect("is read");
        assert_eq!((waiter.pull.num, &*waiter.pull.host, waiter.host_type, &*waiter.author), (7, "git.example.com", 2, "ada"));
        let asks = String::from_utf8(LOCK.to_vec()).expect("is text").replace("\"Num\":7", "\"Num\":9");
        let shown = waiter.would_be_lock("group/sub/infra", asks.as_bytes()).expect("is made");
        let shown = ProjectLock::parse(&shown).expect("is a lock");
        assert_eq!(PullId::of(&shown), waiter.pull);
        assert_eq!(shown.fields().key(), "group/sub/infra/./default/p");
        assert_eq!(shown.user(), "bob");
    }

    #[test]
    fn what_a_lock_leaves_out_is_empty() {
        let lock =
            br#"{"Project":{"RepoFullName":"a/b","Path":"."},"Pull":{"Num":1,"BaseRepo":{"VCSHost":null}},"Workspace":"w"}"#;
        let waiter = Waiter::of(lock, &ProjectLock::parse(lock).expect("is a lock")).expect("is read");
        assert_eq!((&*waiter.pull.host, waiter.host_type, &*waiter.url), ("", 0, ""));
    }
}

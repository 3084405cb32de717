//! Names of locks: how a key is made from a lock's fields, and what may be read back from a key.
//!
//! The format is Atlantis's own (`models.GenerateLockKey`, v0.40 and later): `{repo}/{path}/{workspace}/{project}`,
//! where the project may be empty but its slash stays. It is not injective: path `a`, workspace `b/c` and path `a/b`,
//! workspace `c` give one key. Such a pair shares one lock (the second taker is refused); see [`Target`] for what a
//! release by fields may touch.
//!
//! Atlantis before v0.40 gives keys without the project, `{repo}/{path}/{workspace}`: all projects of a folder and workspace are one
//! lock there. A server of such a release shares Redis and BoltDB file with its stock siblings, so it makes those keys
//! ([`KeyFormat::Old`]). One process makes keys in one format, from its first opening on ([`KeyFormat::settle`]): a store has locks
//! under keys of one format, and two formats beside each other would grant one lock twice.

use std::fmt;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// `locking.key_format`: how keys are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyFormat {
    /// That of Atlantis v0.40 and later.
    #[default]
    Current,
    /// That of Atlantis before v0.40: without the project.
    Old,
}

/// The format of this process: 0 while nothing was opened.
static OF_PROCESS: AtomicU8 = AtomicU8::new(0);

impl KeyFormat {
    fn number(self) -> u8 {
        match self {
            KeyFormat::Current => 1,
            KeyFormat::Old => 2,
        }
    }

    /// The format of this process.
    pub fn of_process() -> KeyFormat {
        if OF_PROCESS.load(Ordering::Relaxed) == KeyFormat::Old.number() { KeyFormat::Old } else { KeyFormat::Current }
    }

    /// Makes it the format of this process, before a store is opened.
    ///
    /// Errors: `InvalidConfig` if a store was opened with the other one.
    pub fn settle(self) -> Result<()> {
        match OF_PROCESS.compare_exchange(0, self.number(), Ordering::Relaxed, Ordering::Relaxed) {
            Err(settled) if settled != self.number() => {
                let text = format!(
                    "locking.key_format is {self} here, and this process has opened a store with {}: one process has one format; set the \
                     same one in both settings",
                    KeyFormat::of_process()
                );
                Err(Error::new(Code::InvalidConfig, text))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for KeyFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyFormat::Current => "current",
            KeyFormat::Old => "old",
        })
    }
}

/// The four fields that name a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Full name of the repository, for example `acme/infra` or `group/subgroup/infra`.
    pub repo: &'a str,
    /// Folder of the Terraform root below the repository's; `.` for the root itself.
    pub path: &'a str,
    /// Terraform workspace.
    pub workspace: &'a str,
    /// Name of the project in the repository's configuration, or empty; always empty where keys are old, which do not have it.
    pub project: &'a str,
}

impl<'a> Fields<'a> {
    /// The lock's key, in the format of this process.
    pub fn key(&self) -> String {
        self.key_in(KeyFormat::of_process())
    }

    /// The lock's key in a format.
    pub fn key_in(&self, format: KeyFormat) -> String {
        match format {
            KeyFormat::Current => self.current_key(),
            KeyFormat::Old => self.old_key(),
        }
    }

    fn current_key(&self) -> String {
        let mut key = self.old_key();
        key.push('/');
        key.push_str(self.project);
        key
    }

    /// Those of them that name the lock in the format of this process.
    #[must_use]
    pub fn of_key(self) -> Fields<'a> {
        match KeyFormat::of_process() {
            KeyFormat::Current => self,
            KeyFormat::Old => Fields { project: "", ..self },
        }
    }

    /// The key that Atlantis before v0.40 gave the same lock: without the project.
    pub fn old_key(&self) -> String {
        let mut key = String::with_capacity(self.repo.len() + self.path.len() + self.workspace.len() + self.project.len() + 3);
        // Writing to a String cannot fail.
        let _ = write!(key, "{}/{}/{}", self.repo, self.path, self.workspace);
        key
    }

    /// The fields that Atlantis reads from a key: `^(.*?\/.*?)\/(.*)\/(.*)\/(.*)$` in server/core/locking/locking.go.
    ///
    /// A guess, right for most keys and wrong for repositories in subgroups: `group/sub/repo` at `.` reads as
    /// repository `group/sub`, path `repo/.`. For display, and for [`Target::by_fields`].
    ///
    /// Before v0.40 it is `^(.*?\/.*?)\/(.*)\/(.*)$`.
    pub fn guess(key: &'a str) -> Option<Fields<'a>> {
        Fields::guess_in(KeyFormat::of_process(), key)
    }

    fn guess_in(format: KeyFormat, key: &'a str) -> Option<Fields<'a>> {
        // The pattern's dots do not match a line break.
        if key.contains('\n') {
            return None;
        }
        let (repo, rest) = {
            let owner_end = key.find('/')?;
            let name_end = owner_end + 1 + key[owner_end + 1..].find('/')?;
            (&key[..name_end], &key[name_end + 1..])
        };
        let (rest, project) = match format {
            KeyFormat::Current => rest.rsplit_once('/')?,
            KeyFormat::Old => (rest, ""),
        };
        let (path, workspace) = rest.rsplit_once('/')?;
        Some(Fields { repo, path, workspace, project })
    }
}

/// Which lock a caller means: a key, and, where the caller named its fields, the fields that the lock there must have.
///
/// The invariant: an operation that names fields never touches a lock of other fields that happens to share the key.
/// One exception keeps Atlantis working: its own client ([`Fields::guess`]) knows only keys and sends the fields that it
/// guessed. Fields that equal the guess therefore mean "the lock at this key", whatever its fields are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    key: String,
    guard: Option<Fields<'a>>,
}

impl<'a> Target<'a> {
    /// The lock at this key, whatever its fields.
    pub fn by_key(key: impl Into<String>) -> Target<'static> {
        Target { key: key.into(), guard: None }
    }

    /// The lock of these fields.
    pub fn by_fields(fields: Fields<'a>) -> Target<'a> {
        let fields = fields.of_key();
        let key = fields.key();
        let guard = if Fields::guess(&key) == Some(fields) { None } else { Some(fields) };
        Target { key, guard }
    }

    /// The lock of exactly these fields, for callers who are known not to guess.
    pub fn exactly(fields: Fields<'a>) -> Target<'a> {
        let fields = fields.of_key();
        Target { key: fields.key(), guard: Some(fields) }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The fields that the lock must have to be meant; `None`: any.
    pub fn guard(&self) -> Option<Fields<'a>> {
        self.guard
    }

    /// Whether a lock with these fields is the one meant.
    pub fn admits(&self, found: Fields<'_>) -> bool {
        self.guard.is_none_or(|wanted| wanted == found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(repo: &'a str, path: &'a str, workspace: &'a str, project: &'a str) -> Fields<'a> {
        Fields { repo, path, workspace, project }
    }

    #[test]
    fn key_keeps_the_slash_of_an_empty_project() {
        assert_eq!(fields("acme/infra", "a/b", "default", "").key(), "acme/infra/a/b/default/");
        assert_eq!(fields("acme/infra", ".", "default", "web").key(), "acme/infra/./default/web");
        assert_eq!(fields("acme/infra", ".", "default", "web").old_key(), "acme/infra/./default");
    }

    #[test]
    fn an_old_key_has_no_project() {
        let named = fields("acme/infra", "a/b", "default", "web");
        assert_eq!(named.key_in(KeyFormat::Old), "acme/infra/a/b/default");
        assert_eq!(named.key_in(KeyFormat::Current), "acme/infra/a/b/default/web");
        assert_eq!(Fields::guess_in(KeyFormat::Old, "acme/infra/a/b/default"), Some(fields("acme/infra", "a/b", "default", "")));
        assert_eq!(Fields::guess_in(KeyFormat::Old, "acme/infra/default"), None);
    }

    #[test]
    fn guess_reads_what_atlantis_reads() {
        assert_eq!(Fields::guess("acme/infra/a/b/default/"), Some(fields("acme/infra", "a/b", "default", "")));
        assert_eq!(Fields::guess("group/sub/repo/./default/"), Some(fields("group/sub", "repo/.", "default", "")));
        assert_eq!(Fields::guess("acme//.//"), Some(fields("acme/", ".", "", "")));
        for not_a_key in ["", "acme", "acme/infra", "acme/infra/.", "acme/infra/./default", "a\n/b/c/d/e"] {
            assert_eq!(Fields::guess(not_a_key), None, "{not_a_key:?}");
        }
    }

    #[test]
    fn fields_guard_unless_atlantis_could_have_guessed_them() {
        let subgroup = fields("group/sub/repo", ".", "default", "");
        let guessed = fields("group/sub", "repo/.", "default", "");
        assert!(Target::by_fields(guessed).admits(subgroup));
        assert!(Target::by_fields(subgroup).admits(subgroup));
        assert!(!Target::by_fields(subgroup).admits(guessed));
        assert!(!Target::by_fields(fields("o/r", "a", "b/c", "")).admits(fields("o/r", "a/b", "c", "")));
        assert!(Target::by_key("group/sub/repo/./default/").admits(subgroup));
        assert!(!Target::exactly(guessed).admits(subgroup));
    }
}

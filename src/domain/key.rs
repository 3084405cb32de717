//! Names of locks: how a key is made from a lock's fields, and what may be read back from a key.
//!
//! The format is Atlantis's own (`models.GenerateLockKey`, v0.40 and later): `{repo}/{path}/{workspace}/{project}`,
//! where the project may be empty but its slash stays. It is not injective: path `a`, workspace `b/c` and path `a/b`,
//! workspace `c` give one key. Such a pair shares one lock (the second taker is refused); see [`Target`] for what a
//! release by fields may touch.

use std::fmt::Write as _;

/// The four fields that name a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Full name of the repository, for example `acme/infra` or `group/subgroup/infra`.
    pub repo: &'a str,
    /// Folder of the Terraform root below the repository's; `.` for the root itself.
    pub path: &'a str,
    /// Terraform workspace.
    pub workspace: &'a str,
    /// Name of the project in the repository's configuration, or empty.
    pub project: &'a str,
}

impl<'a> Fields<'a> {
    /// The lock's key.
    pub fn key(&self) -> String {
        let mut key = self.old_key();
        key.push('/');
        key.push_str(self.project);
        key
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
    pub fn guess(key: &'a str) -> Option<Fields<'a>> {
        // The pattern's dots do not match a line break.
        if key.contains('\n') {
            return None;
        }
        let (repo, rest) = {
            let owner_end = key.find('/')?;
            let name_end = owner_end + 1 + key[owner_end + 1..].find('/')?;
            (&key[..name_end], &key[name_end + 1..])
        };
        let (rest, project) = rest.rsplit_once('/')?;
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
        let key = fields.key();
        let guard = if Fields::guess(&key) == Some(fields) { None } else { Some(fields) };
        Target { key, guard }
    }

    /// The lock of exactly these fields, for callers who are known not to guess.
    pub fn exactly(fields: Fields<'a>) -> Target<'a> {
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

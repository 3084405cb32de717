//! What the core reads of Atlantis's models. A value is kept byte for byte as the caller gave it; only the fields that
//! name a lock and its pull are parsed, in the field names of Atlantis's Go structs, so that fields of other Atlantis
//! versions survive.

use std::borrow::Cow;

use serde::Deserialize;

use crate::error::{Code, Error, Result};
use crate::key::Fields;

/// A pull request: full name of the repository, and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PullRef<'a> {
    /// Full name of the repository whose locks are meant (`Project.RepoFullName`).
    pub repo: &'a str,
    /// Number of the pull request.
    pub num: i64,
}

/// The fields of a `models.ProjectLock` that the core needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ProjectLock<'a> {
    #[serde(borrow, rename = "Project")]
    project: Project<'a>,
    #[serde(rename = "Pull")]
    pull: Pull,
    #[serde(borrow, rename = "Workspace")]
    workspace: Cow<'a, str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Project<'a> {
    // Absent before Atlantis v0.28.
    #[serde(borrow, rename = "ProjectName", default)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "RepoFullName")]
    repo: Cow<'a, str>,
    #[serde(borrow, rename = "Path")]
    path: Cow<'a, str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Pull {
    #[serde(rename = "Num")]
    num: i64,
}

impl<'a> ProjectLock<'a> {
    /// Reads the fields of one lock's JSON. All of it must be valid JSON.
    pub fn parse(json: &'a [u8]) -> Result<ProjectLock<'a>> {
        let lock: ProjectLock<'a> = parse_json(json).map_err(|e| e.context("not a lock in Atlantis's JSON"))?;
        if lock.project.repo.is_empty() {
            return Err(Error::new(Code::InvalidJson, "not a lock in Atlantis's JSON: Project.RepoFullName is empty"));
        }
        Ok(lock)
    }

    /// The fields that name it.
    pub fn fields(&self) -> Fields<'_> {
        Fields { repo: &self.project.repo, path: &self.project.path, workspace: &self.workspace, project: &self.project.name }
    }

    /// The pull that holds it.
    pub fn pull(&self) -> PullRef<'_> {
        PullRef { repo: &self.project.repo, num: self.pull.num }
    }
}

/// Parses JSON; the error's text names the byte offset at which it stopped.
pub fn parse_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|e| {
        let offset = byte_offset(json, e.line(), e.column());
        let text = e.to_string();
        let cause = text.rsplit_once(" at line ").map_or(text.as_str(), |(cause, _)| cause);
        Error::new(Code::InvalidJson, format!("{cause} at byte {offset} of {}", json.len()))
    })
}

/// serde_json tells line and column (both from 1, a column counted in bytes; column 0 is the line's start).
fn byte_offset(json: &[u8], line: usize, column: usize) -> usize {
    let line_start = match line.checked_sub(2) {
        None => 0,
        Some(nth) => json.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(nth).map_or(0, |(at, _)| at + 1),
    };
    (line_start + column.saturating_sub(1)).min(json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_what_it_needs() {
        let json = br#"{"Project":{"ProjectName":"w\u00e9b","RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":7,"New":[1]},"User":{},"Workspace":"default","Time":"x","Later":{"a":null}}"#;
        let lock = ProjectLock::parse(json).expect("parses");
        assert_eq!(lock.fields(), Fields { repo: "acme/infra", path: ".", workspace: "default", project: "wéb" });
        assert_eq!(lock.pull(), PullRef { repo: "acme/infra", num: 7 });
    }

    #[test]
    fn a_lock_without_a_project_name_is_one_of_an_old_version() {
        let json = br#"{"Project":{"RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":7},"Workspace":"default"}"#;
        assert_eq!(ProjectLock::parse(json).expect("parses").fields().project, "");
    }

    #[test]
    fn an_error_names_the_offset() {
        for (json, offset) in [
            (&b"{\"Project\":x"[..], "at byte 11 of 12"),
            (b"{\n\n  x}", "at byte 5 of 7"),
            (b"", "at byte 0 of 0"),
            (b"{}\n{}", "at byte"),
        ] {
            let error = ProjectLock::parse(json).expect_err("is refused");
            assert_eq!(error.code(), Code::InvalidJson);
            assert!(error.message().contains(offset), "{error}");
        }
    }
}

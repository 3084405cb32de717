//! What the core reads of Atlantis's models. A value is kept byte for byte as the caller gave it; what a valid lock is, is said in
//! `lock_reader.rs`, once for every door: what is not one is unreadable, is reported by its key, and stays where it is.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use super::key::Fields;
use super::lock_reader;
use super::scan::Fault;
use crate::error::{Code, Error, Result};

/// A pull request: full name of the repository, and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PullRef<'a> {
    /// Full name of the repository whose locks are meant (`Project.RepoFullName`).
    pub repo: &'a str,
    /// Number of the pull request.
    pub num: i64,
}

/// The members of a `models.ProjectLock` that the core needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectLock<'a> {
    repo: Cow<'a, str>,
    path: Cow<'a, str>,
    workspace: Cow<'a, str>,
    project: Cow<'a, str>,
    pull_num: i64,
    host: Cow<'a, str>,
    user: Cow<'a, str>,
}

const NOT_A_LOCK: &str = "not a lock in Atlantis's JSON";

/// The beginning of what stands for a sealed value that does not open (`crate::sealing`). It is no JSON.
const STAND_IN: &[u8] = b"atlock: sealed, and does not open: SHA-256 ";

/// What stands for a sealed value that does not open: no reader takes it for a lock, it is the same each time, and it shows nothing.
pub(crate) fn stand_in(sealed: &[u8]) -> Vec<u8> {
    let digest: String = Sha256::digest(sealed).iter().map(|byte| format!("{byte:02x}")).collect();
    [STAND_IN, digest.as_bytes()].concat()
}

/// Whether a value is such a stand-in.
pub(crate) fn is_stand_in(value: &[u8]) -> bool {
    value.starts_with(STAND_IN)
}

/// Looks whether Atlantis can read back a global lock of a command, a `command.Lock`: each member may be absent.
///
/// Errors: `InvalidJson`; the text names the byte.
pub fn check_command_lock(json: &[u8]) -> Result<()> {
    lock_reader::check_command_lock(json).map_err(|fault| fault_in("not a command's lock in Atlantis's JSON", &fault, json))
}

/// Looks whether Atlantis can read back a pull status, a `models.PullStatus`: each member may be absent.
///
/// Errors: `InvalidJson`; the text names the byte.
pub fn check_pull_status(json: &[u8]) -> Result<()> {
    lock_reader::check_pull_status(json).map_err(|fault| fault_in("not a pull status in Atlantis's JSON", &fault, json))
}

fn fault_in(what: &str, fault: &Fault, json: &[u8]) -> Error {
    if is_stand_in(json) {
        let text = "it is sealed, and does not open: something else than atlock changed it, or moved it here from another key";
        return Error::new(Code::InvalidJson, text);
    }
    let (at, length) = (fault.at.min(json.len()), json.len());
    Error::new(Code::InvalidJson, format!("{what}: {fault} at byte {at} of {length}"))
}

impl<'a> ProjectLock<'a> {
    /// Reads one lock's JSON, and checks all of it: the definition of a valid lock is that this succeeds.
    ///
    /// Errors: `InvalidJson`; the text names the byte, and repeats nothing of the value.
    pub fn parse(json: &'a [u8]) -> Result<ProjectLock<'a>> {
        let read = lock_reader::read(json).map_err(|fault| fault_in(NOT_A_LOCK, &fault, json))?;
        let missing = |name: &str| Error::new(Code::InvalidJson, format!("{NOT_A_LOCK}: {name} is missing"));
        let lock = ProjectLock {
            repo: read.repo.ok_or_else(|| missing("Project.RepoFullName"))?,
            path: read.path.ok_or_else(|| missing("Project.Path"))?,
            workspace: read.workspace.ok_or_else(|| missing("Workspace"))?,
            project: read.project.unwrap_or_default(),
            pull_num: read.pull_num.ok_or_else(|| missing("Pull.Num"))?,
            host: read.host.unwrap_or_default(),
            user: read.user.unwrap_or_default(),
        };
        if lock.repo.is_empty() {
            return Err(Error::new(Code::InvalidJson, format!("{NOT_A_LOCK}: Project.RepoFullName is empty")));
        }
        Ok(lock)
    }

    /// The fields that name it.
    pub fn fields(&self) -> Fields<'_> {
        self.all_fields().of_key()
    }

    /// The fields that name it in any format of keys.
    pub fn all_fields(&self) -> Fields<'_> {
        Fields { repo: &self.repo, path: &self.path, workspace: &self.workspace, project: &self.project }
    }

    /// The pull that holds it.
    pub fn pull(&self) -> PullRef<'_> {
        PullRef { repo: &self.repo, num: self.pull_num }
    }

    /// The Git host of its pull (`Pull.BaseRepo.VCSHost.Hostname`); empty if the lock does not tell.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Who took it (`User.Username`); empty if the lock does not tell.
    pub fn user(&self) -> &str {
        &self.user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_what_it_needs() {
        let json = br#"{"Project":{"ProjectName":"w\u00e9b","RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":7,"New":[1],"BaseRepo":{"VCSHost":{"Hostname":"example.com"}}},"User":{},"Workspace":"default","Later":{"a":null}}"#;
        let lock = ProjectLock::parse(json).expect("parses");
        assert_eq!(lock.fields(), Fields { repo: "acme/infra", path: ".", workspace: "default", project: "wéb" });
        assert_eq!(lock.pull(), PullRef { repo: "acme/infra", num: 7 });
        assert_eq!(lock.host(), "example.com");
    }

    #[test]
    fn a_lock_without_a_project_name_is_one_of_an_old_version() {
        let json = br#"{"Project":{"RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":7},"Workspace":"default"}"#;
        assert_eq!(ProjectLock::parse(json).expect("parses").fields().project, "");
    }

    #[test]
    fn an_error_names_the_member_and_nothing_of_the_value() {
        let json = br#"{"Project":{"RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":7,"BaseRepo":{"CloneURL":["https://secret@example.com"]}},"Workspace":"default"}"#;
        let error = ProjectLock::parse(json).expect_err("is refused");
        let at = json.iter().rposition(|byte| *byte == b'[').expect("is there");
        assert_eq!(
            error.message(),
            format!("not a lock in Atlantis's JSON: Pull.BaseRepo.CloneURL is not a text at byte {at} of {}", json.len())
        );
    }

    #[test]
    fn what_go_cannot_read_back_is_no_command_lock_and_no_status() {
        for (json, is_one) in [
            (r#"{"LockMetadata":{"UnixTime":1796000000},"CommandName":0}"#, true),
            ("{}", true),
            (r#"{"LockMetadata":null,"Later":[1]}"#, true),
            (r#"{"LockMetadata":{"UnixTime":"now"},"CommandName":0}"#, false),
            (r#"{"LockMetadata":{"UnixTime":1.5}}"#, false),
            (r#"{"CommandName":"apply"}"#, false),
            (r#"{"commandname":0}"#, false),
            (r#""x""#, false),
            ("[]", false),
            ("{", false),
        ] {
            assert_eq!(check_command_lock(json.as_bytes()).is_ok(), is_one, "{json}");
        }
        let project = r#"{"Workspace":"default","RepoRelDir":".","PolicyStatus":[{"PolicySetName":"p","Passed":true,"Approvals":1}],"Status":4}"#;
        for (json, is_one) in [
            (format!(r#"{{"Projects":[{project},null],"Pull":{{"Num":7}}}}"#), true),
            (r#"{"Projects":null,"Pull":{"Num":7}}"#.to_owned(), true),
            (r#"{"Projects":"none","Pull":{"Num":7}}"#.to_owned(), false),
            (r#"{"Projects":[1]}"#.to_owned(), false),
            (r#"{"Projects":[{"Status":"planned"}]}"#.to_owned(), false),
            (r#"{"Projects":[{"PolicyStatus":[{"Passed":1}]}]}"#.to_owned(), false),
            (r#"{"Pull":{"Num":"7"}}"#.to_owned(), false),
            ("[1]".to_owned(), false),
        ] {
            assert_eq!(check_pull_status(json.as_bytes()).is_ok(), is_one, "{json}");
        }
        let error = check_pull_status(br#"{"Projects":[{"Status":"planned"}]}"#).expect_err("is refused");
        assert_eq!(
            error.message(),
            "not a pull status in Atlantis's JSON: Projects.Status is not a whole number at byte 23 of 35"
        );
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

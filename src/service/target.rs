//! How a caller names a lock.

use std::borrow::Cow;

use serde::Deserialize;

use crate::domain::json::{Object, parse_object};
use crate::domain::key::{Fields, Target};
use crate::domain::limits::{MAX_KEY_BYTES, MAX_LOCK_BYTES, limit};
use crate::error::{Code, Error, Result};

/// The JSON by which a caller names a lock: any JSON object with a lock's `Project` and `Workspace` (a whole lock too), or
/// `{"Key": "…"}`.
#[derive(Debug, Deserialize)]
pub(super) struct TargetJson<'a> {
    #[serde(borrow, rename = "Key")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "Project")]
    project: Option<Object<ProjectJson<'a>>>,
    #[serde(borrow, rename = "Workspace", default)]
    workspace: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
struct ProjectJson<'a> {
    #[serde(borrow, rename = "ProjectName", default)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "RepoFullName")]
    repo: Cow<'a, str>,
    #[serde(borrow, rename = "Path")]
    path: Cow<'a, str>,
}

impl<'a> TargetJson<'a> {
    pub fn parse(json: &'a [u8]) -> Result<TargetJson<'a>> {
        limit("a lock's name", json.len(), MAX_LOCK_BYTES)?;
        parse_object(json)
    }

    /// The lock that is meant when the fields may be guessed from a key.
    pub fn target(&self) -> Result<Target<'_>> {
        self.named(Target::by_fields)
    }

    /// The lock that is meant when the fields are known.
    pub fn exact_target(&self) -> Result<Target<'_>> {
        self.named(Target::exactly)
    }

    fn named<'b>(&'b self, by_fields: impl FnOnce(Fields<'b>) -> Target<'b>) -> Result<Target<'b>> {
        let target = match (&self.key, &self.project) {
            (Some(key), None) => Target::by_key(key.as_ref()),
            (None, Some(Object(project))) => {
                by_fields(Fields { repo: &project.repo, path: &project.path, workspace: &self.workspace, project: &project.name })
            }
            _ => {
                return Err(Error::new(
                    Code::InvalidJson,
                    r#"a lock is named by {"Project": {"RepoFullName": …, "Path": …, "ProjectName": …}, "Workspace": …} or by {"Key": …}"#,
                ));
            }
        };
        limit("a lock's key", target.key().len(), MAX_KEY_BYTES)?;
        Ok(target)
    }
}

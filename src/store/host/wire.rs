//! The JSON that goes to a host store and comes back.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::json::parse_json;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::LockKey;
use crate::store::contract::copy::HostWrite;
use crate::store::contract::local::EntryKey;

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyJson<'a> {
    Project(&'a str),
    Command(&'a str),
}

impl<'a> From<LockKey<'a>> for KeyJson<'a> {
    fn from(key: LockKey<'a>) -> KeyJson<'a> {
        match key {
            LockKey::Project(key) => KeyJson::Project(key),
            LockKey::Command(name) => KeyJson::Command(name),
        }
    }
}

#[derive(Serialize)]
pub(super) struct KeyIn<'a> {
    pub key: KeyJson<'a>,
}

#[derive(Serialize)]
pub(super) struct GrantIn<'a> {
    pub key: KeyJson<'a>,
    pub value: &'a RawValue,
}

#[derive(Deserialize)]
pub(super) struct GrantOut<'a> {
    pub granted: bool,
    #[serde(default)]
    pub token: FencingToken,
    #[serde(borrow)]
    pub value: Option<&'a RawValue>,
}

#[derive(Serialize)]
pub(super) struct ReleaseIn<'a> {
    pub key: KeyJson<'a>,
    pub fields: Option<FieldsJson<'a>>,
    pub pull_num: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct FieldsJson<'a> {
    pub repo: &'a str,
    pub path: &'a str,
    pub workspace: &'a str,
    pub project: &'a str,
}

#[derive(Serialize)]
pub(super) struct PullIn<'a> {
    pub repo: &'a str,
    pub num: i64,
}

#[derive(Serialize)]
pub(super) struct StatusIn<'a> {
    pub key: &'a str,
}

#[derive(Serialize)]
pub(super) struct SwapIn<'a> {
    pub key: &'a str,
    pub expected: ExpectedJson<'a>,
    pub new: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ExpectedJson<'a> {
    Any(bool),
    Value(Option<&'a RawValue>),
}

#[derive(Deserialize)]
pub(super) struct SwapOut<'a> {
    pub swapped: bool,
    #[serde(borrow)]
    pub value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct EntryOut {
    pub key: Option<EntryKey>,
    pub value: Option<String>,
    #[serde(default)]
    pub unreadable: bool,
    pub mark: Option<String>,
    pub written_since: Option<bool>,
}

#[derive(Serialize)]
pub(super) struct ApplyIn<'a> {
    pub writes: Vec<WriteJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct WriteJson<'a> {
    pub key: &'a EntryKey,
    pub value: Option<&'a str>,
}

impl<'a> WriteJson<'a> {
    pub fn new(write: &HostWrite<'a>) -> Result<WriteJson<'a>> {
        let value = write.value.map(std::str::from_utf8).transpose().map_err(|e| {
            Error::new(Code::InvalidArgument, format!("the value for {:?} is not UTF-8, nothing was written: {e}", write.key))
        })?;
        Ok(WriteJson { key: write.key, value })
    }
}

pub(super) fn read<'a, T: Deserialize<'a>>(op: u32, output: &'a [u8]) -> Result<T> {
    parse_json(output).map_err(|e| Error::new(Code::Protocol, format!("the host store's answer to op {op}: {e}")))
}

pub(super) fn raw_bytes(value: &RawValue) -> Vec<u8> {
    value.get().as_bytes().to_vec()
}

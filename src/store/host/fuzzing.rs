//! A host store that answers anything, for `crate::fuzzing`.
#![allow(clippy::expect_used)] // a panic is what they tell by

use std::time::{Duration, Instant};

use super::{HostCalls, HostStore};
use crate::call::{Call, RequestId};
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Result};
use crate::store::contract::copy::CopyStore as _;
use crate::store::{DocumentKey, Expected, Grant, Granted, LockKey, Release, Store as _};

const LOCK: &[u8] = br#"{"Project":{"RepoFullName":"a/b","Path":"."},"Pull":{"Num":1},"Workspace":"default"}"#;

/// What every call answers.
#[derive(Debug)]
struct Says(Vec<u8>);

impl HostCalls for Says {
    fn call(&self, _op: u32, _input: &[u8]) -> Result<Vec<u8>> {
        Ok(self.0.clone())
    }
}

/// An answer to each operation.
pub(crate) fn answer(bytes: &[u8]) {
    let store = HostStore::new(Box::new(Says(bytes.to_vec())));
    let call = Call::new(RequestId::from_text("r"), Instant::now() + Duration::from_secs(60));
    let lock = ProjectLock::parse(LOCK).expect("is a lock");
    let key = LockKey::Project("a/b/./default/");
    let granted = store.grant(&Grant { key, lock: Some(&lock), value: LOCK, in_order: false }, &call);
    if let Ok(Granted::Yes { .. }) = granted {
        let told: serde_json::Value = serde_json::from_slice(bytes).expect("an answer is JSON");
        assert_eq!(told["granted"], true, "a lock is granted that nobody granted");
    }
    let release = Release { key, fields: None, pull_num: None, value: None };
    let answers = [
        granted.map(drop),
        store.release(&release, &call).map(drop),
        store.discard(key, &call).map(drop),
        store.get(key, &call).map(drop),
        store.list(&call).map(drop),
        store.release_by_pull(PullRef { repo: "a/b", num: 1 }, &call).map(drop),
        store.document(DocumentKey::PullStatus("h::a/b::1"), &call).map(drop),
        store.swap_document(DocumentKey::PullStatus("h::a/b::1"), Expected::Any, Some(b"{}"), &call).map(drop),
        store.ping(&call).map(drop),
        store.dump().map(drop),
    ];
    for answer in answers {
        assert!(answer.is_ok() || answer.is_err_and(|e| e.code() == Code::Protocol));
    }
}

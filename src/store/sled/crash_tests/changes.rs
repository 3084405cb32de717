//! Random changes, and a model of what they leave: the same changes over a map that cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use sled::IVec;

use super::super::meta::Meta;
use super::super::owned::OwnedGrant;
use super::super::simulated::Random;
use super::super::transaction::Transaction;
use super::super::{changes, key_state, record};
use crate::domain::key::{Fields, Target};
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::store::contract::local::{self, Change, EntryKey, Held, HostCopy, PullRelease, RedisRecord};
use crate::store::{Expected, Grant, LockKey, Release};

const REPO: &str = "acme/infra";

/// One caller's change.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Grant(String, i64, usize),
    Release(String, Option<i64>),
    Discard(String),
    ReleaseByPull(i64),
    Swap(i64, Option<Vec<u8>>),
    Local(Vec<Change>),
}

fn fields(project: &str) -> Fields<'_> {
    Fields { repo: REPO, path: ".", workspace: "default", project }
}

fn lock(project: &str, num: i64, padding: usize) -> Vec<u8> {
    let title = "x".repeat(padding);
    format!(
        r#"{{"Project":{{"ProjectName":"{project}","RepoFullName":"{REPO}","Path":"."}},"Pull":{{"Num":{num},"Title":"{title}"}},"Workspace":"default","Time":"2024-01-01T00:00:00Z"}}"#
    )
    .into_bytes()
}

impl Call {
    pub(super) fn random(random: &mut Random, now: u64) -> Call {
        let project = format!("p{}", random.below(12));
        let num = 1 + random.index(4) as i64;
        match random.below(100) {
            0..35 => Call::Grant(project, num, [0, 300, 1_000, 3_500, 9_000][random.index(5)]),
            35..50 => Call::Release(project, random.percent(30).then_some(num)),
            50..53 => Call::Discard(project),
            53..58 => Call::ReleaseByPull(num),
            58..70 => {
                // Some do not fit into the journal.
                let length = [0, 10, 2_000, 5_000, 40_000, 140_000][if random.percent(15) { 5 } else { random.index(5) }];
                Call::Swap(num, (length > 0).then(|| vec![b'a' + random.below(26) as u8; length]))
            }
            _ => Call::Local((0..1 + random.below(3)).map(|_| change(random, now)).collect()),
        }
    }

    /// Makes it; the answer as a text.
    pub(super) fn make(&self, tx: &mut Transaction<'_>) -> Result<String> {
        match self {
            Call::Grant(project, num, padding) => {
                let value = lock(project, *num, *padding);
                let (key, lock) = (fields(project).key(), ProjectLock::parse(&value).ok());
                let grant = Grant { key: LockKey::Project(&key), lock: lock.as_ref(), value: &value, in_order: false };
                changes::grant(tx, &OwnedGrant::from(&grant)).map(|answer| format!("{answer:?}"))
            }
            Call::Release(project, pull_num) => {
                let target = Target::by_fields(fields(project));
                let release = Release { pull_num: *pull_num, ..Release::of(&target) };
                changes::release(tx, &release).map(|answer| format!("{answer:?}"))
            }
            Call::Discard(project) => {
                let key = fields(project).key();
                changes::discard(tx, &EntryKey::from(LockKey::Project(&key))).map(|answer| format!("{answer:?}"))
            }
            Call::ReleaseByPull(num) => {
                let prefix = record::pull_prefix(PullRef { repo: REPO, num: *num });
                changes::release_by_pull(tx, &prefix).map(|answer| format!("{answer:?}"))
            }
            Call::Swap(num, new) => {
                changes::swap_document(tx, &status(*num), Expected::Any, new.as_deref()).map(|answer| format!("{answer:?}"))
            }
            Call::Local(changes) => changes.iter().try_for_each(|change| key_state::apply(tx, change)).map(|()| String::new()),
        }
    }
}

fn status(num: i64) -> EntryKey {
    EntryKey::Status(format!("github.com::{REPO}::{num}"))
}

fn change(random: &mut Random, now: u64) -> Change {
    let project = format!("p{}", random.below(12));
    let num = 1 + random.index(4) as i64;
    let key = if random.percent(15) { status(num) } else { EntryKey::Project(fields(&project).key()) };
    let token = FencingToken::new(now - random.below(1_000));
    let held = Held { value: lock(&project, num, random.index(2_000)), token };
    let some = random.percent(60).then(|| held.clone());
    let digest = random.percent(70).then(|| local::digest(&held.value));
    let release = PullRelease { repo: REPO.to_owned(), num, up_to: token };
    match random.below(16) {
        0 => Change::Redis(RedisRecord { announced: now, ..RedisRecord::default() }),
        1 => Change::CopyBegins,
        2..5 => Change::Intend(key, some),
        5 => Change::Decide(key),
        6 => Change::SetHere(key, some),
        7 => Change::Confirm(key, token),
        8 => Change::Set(key, some),
        9 => Change::Adopt(key, some, token),
        10 => Change::Conflict(key, held),
        11 => Change::EndConflict(key),
        12 => Change::ReleaseLater(release),
        13 => Change::ReleasedPull(release),
        14 if random.percent(50) => Change::Copying(key, digest),
        14 => Change::Copied(key, digest),
        _ if random.percent(50) => Change::HostCopy(HostCopy { seq: now, applying: random.percent(50) }),
        _ => Change::Forget(now - random.below(5_000), BTreeSet::new()),
    }
}

/// What a store must have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub entries: BTreeMap<Vec<u8>, IVec>,
    pub meta: Meta,
}

impl Model {
    /// What these calls, as one group, are answered and leave; `None` if nothing changes.
    pub(super) fn after(&self, calls: &[Call], now: u64) -> (Vec<Result<String>>, Option<Model>) {
        let mut tx = Transaction::new(&self.entries, self.meta, now);
        let answers = calls.iter().map(|call| call.make(&mut tx)).collect();
        let after = tx.into_group().map(|group| {
            let mut entries = self.entries.clone();
            for (key, value) in group.writes {
                match value {
                    Some(value) => drop(entries.insert(key, value)),
                    None => drop(entries.remove(&key)),
                }
            }
            Model { entries, meta: group.meta }
        });
        (answers, after)
    }
}

//! The runs that are open in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::place::Blocker;
use crate::error::{Code, Error, Result};
use crate::queue::{Priority, PullId};
use crate::sync::Mutex;

/// How long the reservations of a pull outlive the last sign of its run.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// What a run is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// A plan: the only one whose releases are deferred.
    Plan,
    /// An apply.
    Apply,
    /// An unlock.
    Unlock,
}

/// How far the set of a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SetState {
    NotAsked,
    Granted,
    Refused(Blocker),
}

/// The open runs.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub last: u64,
    pub open: BTreeMap<u64, Run>,
}

#[derive(Debug)]
pub(super) struct Run {
    pub repo: String,
    pub pull: PullId,
    pub command: Command,
    pub priority: Priority,
    pub applied: BTreeSet<String>,
    pub recipe: Arc<str>,
    /// The locks that a set is made of, by key; empty where locks are taken one by one.
    pub declared: BTreeMap<String, Vec<u8>>,
    pub set: SetState,
    /// Held by whoever asks for the set.
    pub asking: Arc<Mutex<()>>,
    /// What is released at the end, by key: the locks as they are stored.
    pub deferred: BTreeMap<String, Vec<u8>>,
}

impl Runs {
    /// The pulls of a repository that have a run.
    pub(super) fn pulls_of(&self, repo: &str) -> Vec<PullId> {
        self.open.values().filter(|run| run.repo == repo).map(|run| run.pull.clone()).collect()
    }

    /// What runs of this pull: the last that began.
    pub(super) fn command_of(&self, repo: &str, pull: &PullId) -> Option<Command> {
        let mut own = self.open.values().rev().filter(|run| run.repo == repo && run.pull.is(pull));
        own.next().map(|run| run.command)
    }

    /// The plan of a pull whose releases are deferred; `None` while the pull's locks are being given up by a person.
    pub(super) fn deferring(&mut self, repo: &str, num: i64) -> Option<&mut Run> {
        let of_pull = |run: &Run| run.repo == repo && run.pull.num == num;
        if self.open.values().any(|run| of_pull(run) && run.command == Command::Unlock) {
            return None;
        }
        self.open.values_mut().find(|run| of_pull(run) && run.command == Command::Plan)
    }

    pub(super) fn get(&mut self, id: u64) -> Result<&mut Run> {
        let none = || Error::new(Code::InvalidArgument, format!("there is no run {id}: it ended, or never began"));
        self.open.get_mut(&id).ok_or_else(none)
    }
}

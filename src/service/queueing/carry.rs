//! What goes along when a server that runs closes its stores and opens others: a change of mode, of settings or of the store.
//!
//! Invariants:
//! - Who waits hears `Closed` and keeps its place: it asks again as soon as the next stores are open, and finds its place there.
//! - A run goes on under its number, and what it gave up is still released at its end, and only by the grant that it had.
//! - What was carried is of one process: nothing of that is written down, and a crash in between is a crash of the runs.
//!
//! Who waits and does not come back, because its server died in between, leaves its place as by any crash: the place is passed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::Service;
use super::open_runs::{Command, Run, SetState};
use crate::error::{Code, Error, Result};
use crate::queue::{Priority, PullId};

/// What one opening leaves to the next.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The number of the last run that began.
    last_run: u64,
    /// The runs that are open, by number.
    runs: BTreeMap<u64, CarriedRun>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CarriedRun {
    repo: String,
    pull: PullId,
    command: Command,
    priority: Priority,
    applied: BTreeSet<String>,
    recipe: String,
    /// Locks, by key, as JSON texts.
    declared: BTreeMap<String, String>,
    /// The same of what is released at the end, as it is stored.
    deferred: BTreeMap<String, String>,
}

impl Service {
    /// As [`Service::close`], before the next opening in the same process: who waits keeps its place, and the runs are the answer, for
    /// [`Service::carry_on`].
    ///
    /// Errors: those of closing; `Closed` if that was done before.
    pub fn close_to_reopen(&self) -> Result<Carried> {
        self.check_open()?;
        self.queueing.keep_places();
        self.close()?;
        let mut runs = self.queueing.runs.lock();
        let open = std::mem::take(&mut runs.open);
        let runs_open = open.into_iter().map(|(id, run)| Ok((id, CarriedRun::of(run)?)));
        Ok(Carried { last_run: runs.last, runs: runs_open.collect::<Result<_>>()? })
    }

    /// The runs of the opening before go on here. To be called before anything else is asked.
    pub fn carry_on(&self, carried: Carried) -> Result<()> {
        self.check_open()?;
        let mut runs = self.queueing.runs.lock();
        runs.last = runs.last.max(carried.last_run);
        runs.open.extend(carried.runs.into_iter().map(|(id, run)| (id, run.into())));
        Ok(())
    }
}

impl CarriedRun {
    fn of(run: Run) -> Result<CarriedRun> {
        Ok(CarriedRun {
            repo: run.repo,
            pull: run.pull,
            command: run.command,
            priority: run.priority,
            applied: run.applied,
            recipe: run.recipe.to_string(),
            declared: texts(run.declared)?,
            deferred: texts(run.deferred)?,
        })
    }
}

impl From<CarriedRun> for Run {
    fn from(run: CarriedRun) -> Run {
        Run {
            repo: run.repo,
            pull: run.pull,
            command: run.command,
            priority: run.priority,
            applied: run.applied,
            recipe: run.recipe.as_str().into(),
            declared: run.declared.into_iter().map(|(key, lock)| (key, lock.into_bytes())).collect(),
            // Its locks are the pull's own by now, or it asks again.
            set: SetState::NotAsked,
            asking: Arc::default(),
            deferred: run.deferred.into_iter().map(|(key, lock)| (key, lock.into_bytes())).collect(),
        }
    }
}

fn texts(locks: BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, String>> {
    let text = |(key, lock): (String, Vec<u8>)| match String::from_utf8(lock) {
        Ok(lock) => Ok((key, lock)),
        Err(_) => Err(Error::new(Code::Internal, format!("the lock {key:?} of a run is no text"))),
    };
    locks.into_iter().map(text).collect()
}

//! A run: a plan, apply or unlock of a pull from begin to end, as Atlantis's command brackets it.
//!
//! Atlantis gives the locks of a pull up before it plans it again, and takes them one by one. To a queue that looks like a release, and the
//! pull would lose its turn with each push. So inside a plan run a release of the pull's own lock is deferred: the caller is answered with the
//! lock, and the store keeps it. The pull's own `try_lock` in the run cancels the deferral; what is left is released at the run's end.
//!
//! Invariants:
//! - A deferred lock is released at the end of its run only if the very same grant holds it ([`Release::only_if_it_is`]).
//! - A lock of a project that was applied when the run began is not released by the run: its change is not merged.
//! - What a person gives up (`unlock` on the page, an unlock run) is never deferred.
//!
//! A run lives in its process. A crash ends it, and leaves what was deferred held, as a crash of Atlantis leaves the locks of its plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::Service;
use super::attempt::{Asker, Attempt, Join};
use super::memory::micros;
use super::open_runs::{Command, LEASE, Run, SetState};
use super::place::{InRun, ReadQueue, Waiting};
use super::sets::members;
use super::wait::is_of;
use crate::domain::limits::{MAX_KEY_BYTES, MAX_RECIPE_BYTES, limit};
use crate::domain::lock::PullRef;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::queue::PullId;
use crate::store::{LockKey, Release};
use crate::sync::mark;

/// The most labels of a pull that rules about priority look at.
const MAX_LABELS: usize = 100;
/// The longest of these labels, in bytes.
const MAX_LABEL_BYTES: usize = 1 << 10;

/// A run that begins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// Full name of the repository.
    pub repo: String,
    /// Its pull.
    pub pull: PullId,
    /// What it does.
    pub command: Command,
    /// The branch into which the pull is to go, and its author: rules about priority look at them.
    #[serde(default)]
    pub base: String,
    /// See [`RunRequest::base`].
    #[serde(default)]
    pub author: String,
    /// The labels that the pull has, for the same rules: 100 at most.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The keys of the projects that were applied when the run began.
    #[serde(default)]
    pub applied: Vec<String>,
    /// What a server needs to plan the pull again when the pull is next, in the caller's own words: [`Service::next`] gives them back.
    #[serde(default)]
    pub recipe: String,
}

/// How a run ended.
#[derive(Debug, Default, Serialize)]
pub struct RunEnded {
    /// The keys of the locks that the pull gave up in the run.
    pub released: Vec<String>,
    /// What the pull waits for, with its places.
    pub waiting: BTreeMap<String, Waiting>,
}

impl Service {
    /// A run begins; returns its number.
    ///
    /// Errors: `QueueDisabled`; `NoPull` for a number below 1; `TooLarge`.
    pub fn run_begin(&self, request: &RunRequest) -> Result<u64> {
        self.check_open()?;
        self.need_queue_of(&request.repo)?;
        limit("a repository's name", request.repo.len(), MAX_KEY_BYTES)?;
        limit("a recipe", request.recipe.len(), MAX_RECIPE_BYTES)?;
        check_labels(&request.labels)?;
        if request.pull.num <= 0 {
            let text = format!("pull {} has no run: the number of a pull request is above 0", request.pull.num);
            return Err(Error::new(Code::NoPull, text));
        }
        let priority = self.queueing.settings.priority_of(&request.repo, &request.base, &request.author, &request.labels);
        let run = Run {
            repo: request.repo.clone(),
            pull: PullId { host: request.pull.host.to_ascii_lowercase(), num: request.pull.num },
            command: request.command,
            priority,
            applied: request.applied.iter().cloned().collect(),
            recipe: request.recipe.as_str().into(),
            declared: BTreeMap::new(),
            set: SetState::NotAsked,
            asking: Arc::default(),
            deferred: BTreeMap::new(),
        };
        let (repo, pull) = (run.repo.clone(), run.pull.clone());
        let id = {
            let mut runs = self.queueing.runs.lock();
            runs.last += 1;
            let id = runs.last;
            runs.open.insert(id, run);
            id
        };
        // What is reserved to the pull stays so while it runs; ticks go on with that. What fails here is in the status.
        let _ = self.change(&repo, |queue, now| {
            let until = now + micros(LEASE);
            Ok((queue.extend(&pull, until), queue.claim(&pull, until)))
        });
        Ok(id)
    }

    /// All locks that a plan is going to take, a JSON array of locks. With `sets: whole` they are taken at once, or none newly.
    ///
    /// Errors: `InvalidArgument` for locks of another repository or pull, or for one key twice; `TooLarge` for more than 500.
    pub fn run_declare(&self, run: u64, locks: &[u8]) -> Result<()> {
        let mut runs = self.queueing.runs.lock();
        let run = runs.get(run)?;
        run.declared = members(locks, |asker| check_member(run, asker))?;
        run.set = SetState::NotAsked;
        Ok(())
    }

    /// As [`Service::try_lock`], inside a run: whoever is refused joins the queue, and a lock that the pull has is kept.
    pub fn try_lock_in(&self, id: u64, lock: &[u8]) -> Result<InRun> {
        self.counted(
            Operation::TryLock,
            self.router.timeout(),
            |answer: &InRun| !answer.acquired,
            |_, call| {
                let asker = Asker::of(lock)?;
                let (priority, recipe, is_of_set) = {
                    let mut runs = self.queueing.runs.lock();
                    let run = runs.get(id)?;
                    check_member(run, &asker)?;
                    (run.priority, Arc::clone(&run.recipe), self.is_whole() && run.declared.contains_key(&asker.key))
                };
                let join = Join { priority, calls: false, recipe: &recipe };
                if is_of_set && let Some(refused) = self.take_set(id, &asker)? {
                    return Ok(refused);
                }
                match self.attempt(&asker, Some(join), call)? {
                    Attempt::Granted { token } => Ok(InRun { acquired: true, token, value: lock.to_vec(), waiting: None }),
                    Attempt::Own { value } => self.keep(id, &asker, value),
                    Attempt::Refused { value, waiting } => {
                        Ok(InRun { acquired: false, token: FencingToken::NONE, value, waiting })
                    }
                }
            },
        )
    }

    /// The pull has the lock already: it is not given up at the run's end.
    fn keep(&self, id: u64, asker: &Asker<'_>, value: Vec<u8>) -> Result<InRun> {
        let held = self.store().held(LockKey::Project(&asker.key), &self.step())?;
        self.queueing.runs.lock().get(id)?.deferred.remove(&asker.key);
        let token = held.filter(|held| held.value == value).map(|held| held.token).unwrap_or_default();
        Ok(InRun { acquired: true, token, value, waiting: None })
    }

    /// A run ends: what it gave up and did not take again is released, and whoever waits for that is next.
    ///
    /// Errors: those of a release. The run is over all the same; what was not released stays held.
    pub fn run_end(&self, id: u64) -> Result<RunEnded> {
        let run = {
            let mut runs = self.queueing.runs.lock();
            runs.get(id)?;
            runs.open.remove(&id)
        };
        let Some(run) = run else { return Ok(RunEnded::default()) };
        let mut ended = RunEnded::default();
        let mut failed = None;
        for (key, value) in run.deferred.iter().filter(|(key, _)| !run.applied.contains(*key)) {
            let release = Release { key: LockKey::Project(key), fields: None, pull_num: None, value: None }.only_if_it_is(value);
            let call = self.step();
            match self.release(Operation::Unlock, &release, self.store(), &call) {
                Ok(Some(_)) => {
                    mark!("queue: a run gives up a lock at its end");
                    ended.released.push(key.clone());
                }
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // What fails here is in the status, and the next tick tries again.
        if let Ok(queue) = self.after_run(&run, &ended.released)
            && let Some(ticket) = queue.ticket(&run.pull)
        {
            let place = |key: &String| Waiting::of(&queue, &run.pull, key, "held", &self.queueing.rules);
            ended.waiting = ticket.wants.keys().filter_map(|key| Some((key.clone(), place(key)?))).collect();
        }
        failed.map_or(Ok(ended), Err)
    }

    /// The pull of a run that ended may be planned again, and who waits for what was released is next.
    fn after_run(&self, run: &Run, released: &[String]) -> Result<ReadQueue> {
        let changed = self.change(&run.repo, |queue, now| {
            queue.claim(&run.pull, 0);
            self.dispatch_in(&run.repo, queue, released, now)
        })?;
        self.queueing.dispatched(&run.repo, changed.answer);
        self.queueing.nudge_after_dispatch(&run.repo, &changed.queue);
        Ok(changed.queue)
    }

    /// Defers the release of one lock that its pull gives up in its own plan; returns the lock then.
    pub(in crate::service) fn defer(&self, repo: &str, num: i64, key: LockKey<'_>) -> Result<Option<Vec<u8>>> {
        let LockKey::Project(key) = key else { return Ok(None) };
        if !self.queueing.is_enabled() || self.queueing.runs.lock().deferring(repo, num).is_none() {
            return Ok(None);
        }
        let Some(value) = self.store().get(LockKey::Project(key), &self.step())? else { return Ok(None) };
        let mut runs = self.queueing.runs.lock();
        let Some(run) = runs.deferring(repo, num).filter(|run| is_of(&value, &run.pull, repo)) else { return Ok(None) };
        run.deferred.insert(key.to_owned(), value.clone());
        Ok(Some(value))
    }

    /// The same for all locks of a pull; `None` where nothing is deferred.
    pub(in crate::service) fn defer_all(&self, pull: PullRef<'_>) -> Result<Option<crate::store::Listing>> {
        if !self.queueing.is_enabled() || self.queueing.runs.lock().deferring(pull.repo, pull.num).is_none() {
            return Ok(None);
        }
        let all = self.store().list(&self.calls.within(self.router.timeout() + super::super::GROWING))?;
        let mut runs = self.queueing.runs.lock();
        let Some(run) = runs.deferring(pull.repo, pull.num) else { return Ok(None) };
        let mut deferred = crate::store::Listing::default();
        for value in all.values() {
            if let Ok(asker) = Asker::of(value)
                && is_of(value, &run.pull, pull.repo)
            {
                run.deferred.insert(asker.key, value.to_vec());
                deferred.push(value);
            }
        }
        Ok(Some(deferred))
    }

    /// A pull gave up what it had, and so what it waits for: `atlantis unlock`, a merge, a close.
    pub(in crate::service) fn pull_left(&self, pull: PullRef<'_>) {
        if self.queueing.is_for(pull.repo) {
            let left = PullId { host: String::new(), num: pull.num };
            // What fails is in the status; a place that nobody comes for is passed.
            let changed = self.change(pull.repo, |queue, now| {
                queue.leave(&left, None);
                self.dispatch_in(pull.repo, queue, &[], now)
            });
            if let Ok(changed) = changed {
                self.queueing.dispatched(pull.repo, changed.answer);
            }
        }
        self.queueing.wake();
    }

    pub(super) fn need_queue(&self) -> Result<()> {
        if self.queueing.is_enabled() {
            return Ok(());
        }
        Err(Error::new(Code::QueueDisabled, "there is no queue: set locking.enhanced.priority_queue.enabled to true"))
    }

    /// Errors: `QueueDisabled`, also where the repository has none.
    pub(super) fn need_queue_of(&self, repo: &str) -> Result<()> {
        self.need_queue()?;
        self.queueing.left_out(repo).map_or(Ok(()), |why| Err(Error::new(Code::QueueDisabled, why)))
    }
}

fn check_labels(labels: &[String]) -> Result<()> {
    if labels.len() > MAX_LABELS {
        return Err(Error::new(Code::TooLarge, format!("{} labels of a pull are over the limit of {MAX_LABELS}", labels.len())));
    }
    labels.iter().try_for_each(|label| limit("a label", label.len(), MAX_LABEL_BYTES))
}

fn check_member(run: &Run, asker: &Asker<'_>) -> Result<()> {
    if asker.repo() == run.repo && asker.pull().is(&run.pull) {
        return Ok(());
    }
    let text = format!(
        "the run of pull #{} of {:?} cannot take a lock for pull #{} of {:?}",
        run.pull.num,
        run.repo,
        asker.pull().num,
        asker.repo()
    );
    Err(Error::new(Code::InvalidArgument, text))
}

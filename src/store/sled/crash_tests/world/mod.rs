//! One folder, its lives, and what it must have.

mod harm;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::committer::Writer;
use super::super::files::Files;
use super::super::folder::Folder;
use super::super::job::{self, Job};
use super::super::journal::Journal;
use super::super::open::{self, Opened};
use super::super::simulated::{Disk, Image, Process, Random};
use super::super::tree::Tree;
use super::changes::{Call, Model};
use super::faults::{Kind, Plan, hook};
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::sealing::Sealing;

pub(super) const DIR: &str = "/data/locks";
/// Where a store may have been damaged.
const PARTS: [&str; 4] = ["sled", "journal", "format.json", "sled.saved"];

/// What was met, of all that can be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Coverage {
    counts: BTreeMap<String, u64>,
    digest: u64,
}

impl Coverage {
    fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Coverage) {
        other.counts.iter().for_each(|(what, count)| *self.counts.entry(what.clone()).or_default() += count);
    }

    /// What should be met in any run.
    pub(super) fn missing(&self) -> Vec<String> {
        const PLACES: [&str; 8] = ["Look", "Copy", "Rename", "RemoveFolder", "SyncFile", "SyncFolder", "WriteBlocks", "Append"];
        const OTHERS: [&str; 13] = [
            "crash",
            "kill",
            "closed",
            "round the journal",
            "unknown, made",
            "unknown, not made",
            "refused",
            "full",
            "damage: refused",
            "damage: complete",
            "older: refused",
            "older: complete",
            "not opened: StoreNotWritable",
        ];
        let faults = ["Dies", "Fails"].into_iter().flat_map(|kind| PLACES.map(|place| format!("{kind} at {place}")));
        faults.chain(OTHERS.map(str::to_owned)).filter(|what| !self.counts.contains_key(what)).collect()
    }
}

/// Time goes on by the group.
#[derive(Debug)]
pub(super) struct StepClock(Instant, AtomicU64);

impl StepClock {
    pub(super) fn new() -> Arc<StepClock> {
        Arc::new(StepClock(Instant::now(), AtomicU64::new(0)))
    }
}

impl Clock for StepClock {
    fn now(&self) -> Instant {
        self.0 + Duration::from_micros(self.1.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> u64 {
        1_700_000_000_000_000 + self.1.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) {
        self.1.fetch_add(u64::try_from(time.as_micros()).expect("is short"), Ordering::SeqCst);
    }
}

struct World {
    seed: u64,
    random: Random,
    disk: Arc<Disk>,
    clock: Arc<StepClock>,
    /// What was acknowledged.
    known: Model,
    /// Before the last group of that.
    before: Model,
    /// What there is if the last group, whose outcome is unknown, was made.
    perhaps: Option<Model>,
    /// An older `sled/`.
    older: Option<Image>,
    coverage: Coverage,
    /// What happened, for who looks at a violation.
    log: Vec<String>,
}

/// An open store.
pub(super) struct Store {
    pub(super) writer: Writer,
    tree: Arc<Tree>,
    folder: Folder,
}

impl Store {
    pub(super) fn open(process: &Process, clock: &Arc<StepClock>) -> Result<Store> {
        let files: Arc<dyn Files> = Arc::new(process.clone());
        let Opened { folder, db, meta, log, journal, ground } = open::open(&files, Path::new(DIR), &**clock)?;
        let (tree, clock) = (Arc::new(Tree::new(db, Sealing::PLAIN)), Arc::clone(clock));
        let ground = Arc::new(ground);
        let writer = Writer { tree: Arc::clone(&tree), meta, log, journal, ground, clock, hook: Arc::new(|_| Ok(())) };
        Ok(Store { writer, tree, folder })
    }

    pub(super) fn content(&self) -> Model {
        let entries = |view: super::super::read::View<'_>| {
            let all = view.scan_prefix(&[]).map(|entry| entry.expect("is read"));
            Ok(all.map(|(key, value)| (key.to_vec(), value)).filter(|(key, _)| key != super::super::record::META_KEY).collect())
        };
        Model { entries: self.tree.read(entries).expect("is read"), meta: self.writer.meta }
    }

    /// As the committer's thread and the store do it.
    pub(super) fn close(mut self) -> Result<()> {
        let checkpoint = self.tree.health().check().and_then(|()| self.tree.health().watch(|| self.writer.checkpoint()));
        drop(self.writer);
        let closed = self.tree.close();
        drop(self.folder);
        checkpoint.and(closed)
    }
}

/// Runs one seed.
pub(super) fn run(seed: u64) -> Coverage {
    let mut random = Random::new(seed);
    let disk = Disk::new();
    let clock = StepClock::new();
    let lives = 2 + random.below(5);
    let (known, before) = (Model::default(), Model::default());
    let mut world = World {
        seed,
        random,
        disk,
        clock,
        known,
        before,
        perhaps: None,
        older: None,
        coverage: Coverage::default(),
        log: Vec::new(),
    };
    for _ in 0..lives {
        let plan = Plan::random(&mut world.random);
        world.live(plan);
        if world.random.percent(12) {
            world.harm();
        }
    }
    world.disk.limit(None);
    world.live(Plan::none());
    world.coverage
}

impl World {
    fn course(&self) -> String {
        format!("seed {}: {}", self.seed, self.log.join("; "))
    }

    fn live(&mut self, plan: Plan) {
        let kind = plan.kind;
        self.log.push(format!("{plan:?}"));
        if kind == Kind::Full {
            let most = if self.random.percent(50) { 300_000 } else { 1_500_000 };
            let room = self.random.index(most);
            self.disk.limit(Some(self.disk.used() + room));
        }
        let plan = Arc::new(Mutex::new(plan));
        let process = self.disk.process(hook(&plan));
        match Store::open(&process, &self.clock) {
            Ok(store) => {
                self.adopt(&store.content());
                self.log.push(format!("opened at {}", self.known.meta.sequence));
                self.use_store(store, &process);
            }
            Err(error) => self.not_opened(&error, &plan.lock()),
        }
        self.end(&process);
        self.disk.limit(None);
        let plan = plan.lock();
        self.coverage.digest ^= plan.digest.rotate_left(self.coverage.counts.len() as u32);
        if let Some(what) = plan.hit {
            self.coverage.count(format!("{kind:?} at {what:?}"));
        }
    }

    fn not_opened(&mut self, error: &Error, plan: &Plan) {
        self.log.push(format!("not opened, {:?}: {error}", plan.hit));
        let may_be_full = plan.kind == Kind::Full;
        assert!(plan.hit.is_some() || may_be_full, "{}: nothing failed, and it does not open: {error}", self.course());
        if may_be_full {
            assert_eq!(error.code(), Code::StoreNotWritable, "{}: {error}", self.course());
            self.coverage.count("full");
        }
        self.coverage.count(format!("not opened: {:?}", error.code()));
    }

    /// What was found after opening: all that is known, and of what is not all or nothing. From then on it is known.
    fn adopt(&mut self, found: &Model) {
        let perhaps = self.perhaps.take();
        if let Some(made) = perhaps.filter(|made| made == found) {
            self.coverage.count("unknown, made");
            self.before = std::mem::replace(&mut self.known, made);
        } else {
            self.assert_is(found, &self.known);
            self.coverage.count("unknown, not made");
        }
    }

    fn assert_is(&self, found: &Model, wanted: &Model) {
        let keys: BTreeSet<_> = found.entries.keys().chain(wanted.entries.keys()).collect();
        let differ: Vec<_> = keys
            .into_iter()
            .filter(|key| found.entries.get(*key) != wanted.entries.get(*key))
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect();
        let (found, wanted, course) = (found.meta, wanted.meta, self.course());
        assert!(differ.is_empty() && found == wanted, "{course}: found {found:?}, wanted {wanted:?}, other at {differ:?}");
    }

    fn use_store(&mut self, mut store: Store, process: &Process) {
        let groups = [0, 3, 20, 60][self.random.index(4)];
        for _ in 0..groups {
            if !self.group(&mut store) {
                // It answers nothing any more.
                assert!(!self.group(&mut store), "{}", self.course());
                self.log.push(format!("failed: {:?}", store.tree.health().check()));
                self.leave(store, process, true);
                return;
            }
        }
        let found = store.content();
        self.assert_is(&found, &self.known);
        self.leave(store, process, false);
    }

    /// One group of changes. Whether the store still works.
    fn group(&mut self, store: &mut Store) -> bool {
        let had_failed = store.tree.health().check().is_err();
        self.clock.sleep(Duration::from_micros(1 + self.random.below(2_000)));
        let now = self.clock.unix_micros();
        let calls: Vec<_> = (0..1 + self.random.below(3)).map(|_| Call::random(&mut self.random, now)).collect();
        let is_large = calls.iter().any(|call| matches!(call, Call::Swap(_, Some(value)) if value.len() > 130_000));
        let (wanted, after) = self.known.after(&calls, now);
        let mut group: Vec<Box<dyn job::Change>> = Vec::new();
        let slots: Vec<_> = calls
            .into_iter()
            .map(|call| {
                let (job, slot) = Job::new(move |tx: &mut super::super::transaction::Transaction<'_>| call.make(tx));
                group.push(Box::new(job));
                slot
            })
            .collect();
        store.writer.commit(group);
        self.log.push(format!("group {}", self.known.meta.sequence + 1));
        let answers: Vec<_> = slots.into_iter().map(|slot| slot.wait(Instant::now())).collect();
        let failure = |answer: &Result<String>| answer.as_ref().err().map(Error::code);
        if store.tree.health().check().is_ok() {
            assert_eq!(answers, wanted, "{}", self.course());
            if let Some(after) = after {
                if is_large {
                    self.coverage.count("round the journal");
                }
                self.before = std::mem::replace(&mut self.known, after);
            }
            return true;
        }
        let codes: Vec<_> = answers.iter().map(failure).collect();
        assert!(codes.iter().all(Option::is_some), "{}: a store that has failed answers {answers:?}", self.course());
        if had_failed {
            assert!(codes.iter().all(|code| *code == Some(Code::StoreFailed)), "{}: {answers:?}", self.course());
        } else if codes.contains(&Some(Code::OutcomeUnknown)) {
            self.perhaps = after;
        } else {
            self.coverage.count("refused");
        }
        false
    }

    fn leave(&mut self, store: Store, process: &Process, has_failed: bool) {
        match self.random.below(3) {
            // The process is ended before it closes anything.
            0 if !process.is_dead() => {
                self.power_or_kill();
                drop(store.close());
            }
            _ => {
                let closed = store.close();
                if closed.is_ok() && !has_failed && !process.is_dead() {
                    self.coverage.count("closed");
                    if self.random.percent(40) {
                        self.older = Some(self.disk.image(&Path::new(DIR).join("sled")));
                    }
                }
            }
        }
    }

    fn end(&mut self, process: &Process) {
        if process.is_dead() || self.random.percent(70) {
            self.power_or_kill();
        }
    }

    fn power_or_kill(&mut self) {
        if self.random.percent(65) {
            let random = &mut self.random;
            self.disk.crash(&mut |end| random.below(end));
            self.coverage.count("crash");
            self.log.push("crash".to_owned());
        } else {
            self.disk.kill();
            self.coverage.count("kill");
            self.log.push("kill".to_owned());
        }
    }
}

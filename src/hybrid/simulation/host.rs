//! Atlantis's own store (its BoltDB file) on the one server's machine: the real host store and the real copying run over these calls.
//!
//! Models: each operation of `docs/host-store.md` as one transaction of a file, which is on the disk when the call returns; the mark, and
//! whether anything was written since. Calls are late, fail, hang for minutes, and the process dies before the write or after it. A file is
//! full: it takes nothing, or only an empty change. While the server is down, the file is deleted, or an older copy is put back; at a start it
//! cannot be read. All that begins with the first start that has read the file: before, nobody else knows its locks.
//!
//! Cannot express: a damaged file (`go/internal/boltcheck`), bytes that are not UTF-8, two calls at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::schedule::Scheduled;
use super::show::texts;
use super::values::pull_of;
use super::world::{Instance, World};
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::store::Store as _;
use crate::store::contract::local::EntryKey;
use crate::store::host::{
    HostCalls, HostStore, OP_APPLY, OP_DUMP, OP_GET, OP_GRANT, OP_PING, OP_PULL_STATUS, OP_RELEASE, OP_RELEASE_BY_PULL,
    OP_SWAP_PULL_STATUS,
};
use crate::sync::tasks;

/// What the file has.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) entries: BTreeMap<EntryKey, Vec<u8>>,
    mark: Option<String>,
    written_since: bool,
}

/// The file, and what it does wrong.
pub(super) struct HostFile {
    content: Mutex<Content>,
    /// Older copies.
    copies: Mutex<Vec<Content>>,
    pub(super) may_fail: AtomicBool,
    pub(super) is_full: AtomicBool,
    /// It cannot be read until the next start.
    is_unreadable: AtomicBool,
    /// Whether the locks in it are known elsewhere.
    was_read: AtomicBool,
}

impl HostFile {
    pub(super) fn new(may_fail: bool) -> HostFile {
        HostFile {
            content: Mutex::default(),
            copies: Mutex::default(),
            may_fail: AtomicBool::new(may_fail),
            is_full: AtomicBool::default(),
            is_unreadable: AtomicBool::default(),
            was_read: AtomicBool::default(),
        }
    }

    pub(super) fn content(&self) -> Content {
        self.content.lock().clone()
    }

    /// A server has begun with what is in the file.
    pub(super) fn was_read(&self) {
        self.was_read.store(true, Ordering::SeqCst);
    }

    pub(super) fn heal(&self) {
        for flag in [&self.may_fail, &self.is_full, &self.is_unreadable] {
            flag.store(false, Ordering::SeqCst);
        }
    }
}

/// What a process does to the file.
#[derive(Debug)]
struct Calls {
    world: Weak<World>,
    me: usize,
}

#[derive(Deserialize)]
struct Apply {
    writes: Vec<Write>,
    mark: Option<String>,
}

#[derive(Deserialize)]
struct Write {
    key: EntryKey,
    value: Option<String>,
}

fn fails(text: &str) -> Error {
    Error::new(Code::HostStore, text)
}

impl HostCalls for Calls {
    fn call(&self, op: u32, input: &[u8]) -> Result<Vec<u8>> {
        let world = &self.world.upgrade().ok_or_else(|| fails("the simulation is over"))?;
        self.on_the_way(world);
        if tasks::is_dying() {
            return Err(fails("the process is dead"));
        }
        if op != OP_DUMP || !world.modes.file_decides.load(Ordering::SeqCst) {
            world.host_trouble(op)?;
            if world.host.is_unreadable.load(Ordering::SeqCst) {
                return Err(fails("it cannot be read"));
            }
        }
        let answer = world.host.execute(op, input);
        world.say(|| format!("  {}: file, op {op} {} → {}", self.me, String::from_utf8_lossy(input), answer.is_ok()));
        self.on_the_way(world);
        answer
    }
}

impl Calls {
    fn on_the_way(&self, world: &World) {
        tasks::give_way();
        world.may_die(self.me);
    }
}

/// What an operation of strict mode is given.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    new: Option<&'a RawValue>,
    expected: Option<serde_json::Value>,
    pull_num: Option<i64>,
    repo: Option<String>,
    num: Option<i64>,
}

impl Content {
    /// An operation by which the file alone decides: strict mode's, or a stock server's.
    fn decide(&mut self, op: u32, input: &[u8]) -> Result<Vec<u8>> {
        let asked: Asked<'_> = serde_json::from_slice(input).expect("is as documented");
        let key = || serde_json::from_str::<EntryKey>(asked.key.expect("has a key").get()).expect("is a key");
        let status = || EntryKey::Status(serde_json::from_str(asked.key.expect("has a key").get()).expect("is a name"));
        let json = |value: Option<&Vec<u8>>| {
            value.map_or_else(|| "null".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
        };
        let answer = match op {
            OP_GRANT => match self.entries.get(&key()) {
                Some(_) => format!(r#"{{"granted":false,"value":{}}}"#, json(self.entries.get(&key()))),
                None => {
                    self.set(key(), asked.value.map(|value| value.get().into()));
                    r#"{"granted":true}"#.to_owned()
                }
            },
            OP_RELEASE => {
                let held =
                    self.entries.get(&key()).filter(|held| asked.pull_num.is_none_or(|num| pull_of(held) == Some(num))).cloned();
                if held.is_some() {
                    self.set(key(), None);
                }
                json(held.as_ref())
            }
            OP_GET => json(self.entries.get(&key())),
            OP_RELEASE_BY_PULL => {
                let start = format!("{}/", asked.repo.expect("has a repository"));
                let is_meant = |key: &EntryKey, value: &[u8]| {
                    matches!(key, EntryKey::Project(name) if name.starts_with(&start)) && pull_of(value) == asked.num
                };
                let meant: Vec<_> = self
                    .entries
                    .iter()
                    .filter(|(key, value)| is_meant(key, value))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                meant.iter().for_each(|(key, _)| self.set(key.clone(), None));
                format!("[{}]", meant.iter().map(|(_, value)| json(Some(value))).collect::<Vec<_>>().join(","))
            }
            OP_PULL_STATUS => json(self.entries.get(&status())),
            OP_SWAP_PULL_STATUS => {
                let current = self.entries.get(&status()).map(|value| serde_json::from_slice(value).expect("is JSON"));
                let expected = asked.expected.expect("expects something");
                if expected["any"] == true || expected["value"] == current.unwrap_or(serde_json::Value::Null) {
                    self.set(status(), asked.new.map(|new| new.get().into()).filter(|new: &Vec<u8>| new != b"null"));
                    r#"{"swapped":true}"#.to_owned()
                } else {
                    format!(r#"{{"swapped":false,"value":{}}}"#, json(self.entries.get(&status())))
                }
            }
            _ => return Err(fails("no such operation")),
        };
        Ok(answer.into_bytes())
    }

    fn set(&mut self, key: EntryKey, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.entries.insert(key, value),
            None => self.entries.remove(&key),
        };
        self.written_since = true;
    }
}

impl HostFile {
    fn execute(&self, op: u32, input: &[u8]) -> Result<Vec<u8>> {
        let mut content = self.content.lock();
        match op {
            OP_PING => Ok(b"{}".to_vec()),
            OP_DUMP => {
                let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("is a text");
                let entries = content.entries.iter().map(|(key, value)| json!({ "key": key, "value": text(value) }));
                let mark = content.mark.iter().map(|mark| json!({ "mark": mark, "written_since": content.written_since }));
                Ok(serde_json::to_vec(&entries.chain(mark).collect::<Vec<_>>()).expect("is JSON"))
            }
            OP_APPLY => {
                let Apply { writes, mark } = serde_json::from_slice(input).expect("is as documented");
                if self.is_full.load(Ordering::SeqCst) && !writes.is_empty() {
                    return Err(fails("the disk is full"));
                }
                for Write { key, value } in writes {
                    match value {
                        Some(value) => content.entries.insert(key, value.into_bytes()),
                        None => content.entries.remove(&key),
                    };
                }
                content.written_since = mark.is_none();
                content.mark = mark.or(content.mark.take());
                Ok(b"{}".to_vec())
            }
            _ => content.decide(op, input),
        }
    }
}

impl Scheduled<'_> {
    /// A file that could not be read is followed from the next start on; then it has everything soon.
    pub(super) fn copy_is_complete(&self) {
        /// Who was refused is tried again within minutes.
        const LOOKS: u32 = 400;
        let world = self.world;
        for _ in 0..LOOKS {
            let Some(instance) = world.instance(0).filter(|_| world.plan.host) else { return };
            let is_followed = instance.store.report().host_store.is_some_and(|report| report.followed);
            if !is_followed {
                world.crash(0);
                self.begin(0);
            }
            world.clock.advance(Duration::from_secs(1));
            while self.resume_one() {}
            self.pause();
            if is_followed {
                // What a command of a dead process changed a moment ago has not been seen yet.
                let (compares, of) = (Arc::clone(world), Arc::clone(&instance));
                self.within_task("the comparison", move || compares.compare_all_of(&of));
            }
            let is_complete = move || instance.core.local.store().host_lacks(1).is_ok_and(|lacking| lacking.is_empty());
            if is_followed && self.within_task("the copy", is_complete) {
                let local = world.clone();
                return self.within_task("the copy's end", move || {
                    assert_eq!(local.host.content().entries, local.entries(), "the file differs from Redis")
                });
            }
        }
        panic!("the file is not brought up to date");
    }
}

impl World {
    /// The host store of a new process; before that, somebody may have done something to the file.
    pub(super) fn open_host(self: &Arc<Self>, me: usize) -> Option<HostStore> {
        if !self.plan.host {
            return None;
        }
        if !self.plan.modes && self.host.was_read.load(Ordering::SeqCst) && self.host.may_fail.load(Ordering::SeqCst) {
            self.tamper_with_host();
        }
        Some(HostStore::new(Box::new(Calls { world: Arc::downgrade(self), me })))
    }

    fn tamper_with_host(&self) {
        let (file, random) = (&self.host, &self.random);
        file.is_unreadable.store(random.percent(10), Ordering::SeqCst);
        match random.below(10) {
            0 => {
                self.say(|| "the file is deleted".to_owned());
                *file.content.lock() = Content::default();
            }
            1..=2 => {
                let mut copies = file.copies.lock();
                let nth = random.index(copies.len() + 1);
                if let Some(copy) = copies.get(nth) {
                    self.say(|| "an older copy of the file is put back".to_owned());
                    *file.content.lock() = copy.clone();
                }
                copies.truncate(nth);
            }
            3..=5 => file.copies.lock().push(file.content()),
            _ => {}
        }
    }

    /// What goes wrong at a call: an error, or nothing, perhaps late.
    fn host_trouble(&self, op: u32) -> Result<()> {
        let (file, random) = (&self.host, &self.random);
        if !file.may_fail.load(Ordering::SeqCst) || !random.percent(10) {
            return Ok(());
        }
        let late = match random.below(10) {
            0..=3 => Duration::from_millis(random.below(3000)),
            4 => Duration::from_secs(random.below(300)),
            5..=6 => {
                let was_full = file.is_full.fetch_not(Ordering::SeqCst);
                self.say(|| format!("the file's disk is {}", if was_full { "empty" } else { "full" }));
                Duration::ZERO
            }
            _ => return Err(fails("it fails")),
        };
        self.say(|| format!("  the file is late, op {op}: {late:?}"));
        self.clock.sleep(late);
        Ok(())
    }

    /// What a rollback would find: where the file is followed and nothing is noted as lacking, it has what the local store has. Of the keys that
    /// change meanwhile nothing is said.
    pub(super) fn check_copy(&self, instance: &Instance) {
        if !self.plan.host || !instance.store.report().host_store.is_some_and(|report| report.followed) {
            return;
        }
        let local = instance.core.local.store();
        let Ok(lacking) = local.host_lacks(usize::MAX) else { return };
        let Ok(before) = local.everything() else { return };
        let content = self.host.content();
        let (Ok(lacking_after), Ok(after)) = (local.host_lacks(usize::MAX), local.everything()) else { return };
        let after: BTreeMap<EntryKey, _> = after.into_iter().map(|(key, state)| (key, state.value)).collect();
        let is_lacking = |key: &EntryKey| lacking.iter().chain(&lacking_after).any(|mark| mark.key == *key);
        for (key, state) in before.iter().filter(|(key, _)| !is_lacking(key)) {
            if after.get(key) != Some(&state.value) {
                continue;
            }
            let (ours, copied) = (state.value.as_ref().map(|held| &held.value), content.entries.get(key));
            assert!(copied == ours, "of the {key} nothing is lacking: {} here, {} in the file", texts(ours), texts(copied));
        }
    }

    /// A hybrid server's process ends in good order. If it says that all is written, the file has what callers were told.
    pub(super) fn close_hybrid(&self, who: usize, instance: &Instance) {
        let Some(_no_more_looks) = instance.due.try_lock() else { return };
        let knows_all = instance.knows_all();
        let answer = instance.store.close();
        // What the file refuses was named.
        let is_whole =
            knows_all && instance.store.report().host_store.is_some_and(|report| report.followed && report.refused == 0);
        self.say(|| format!("instance {who} is closed: {answer:?}, the file has all: {is_whole}"));
        self.modes.file_has_all.store(is_whole && answer.is_ok(), Ordering::SeqCst);
        if is_whole && answer.is_ok() && self.under_way.lock().is_empty() {
            self.oracle().check_file(self.host.content().entries);
        }
        self.die(who);
    }
}

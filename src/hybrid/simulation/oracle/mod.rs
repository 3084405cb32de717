//! What callers were told, and whether an answer, or what the stores have in the end, fits that.
//!
//! It knows neither Redis nor disks nor who decided; only what was asked for and answered, and what was under way at once. Where an end is
//! unknown, it excuses either end: such a lock may be there or not. Two acknowledged holders of one key are never excused, unless a release
//! that is under way, or whose end is unknown, may have taken one of them.

mod end;
mod releases;

use std::collections::{BTreeMap, BTreeSet};

use super::schedule::REMEMBERED;
use super::show::{text, texts};
use super::values::pull_of;
use crate::config::Durability;
use crate::error::{Code, Result};
use crate::hybrid::probe::REMEMBERED_MICROS;
use crate::store::Granted;
use crate::store::contract::local::EntryKey;

/// Numbers what is under way.
pub(super) type Number = u64;

#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    /// Who was told to hold a key, and was not told, or seen, to be released.
    holders: BTreeMap<EntryKey, BTreeSet<Vec<u8>>>,
    /// Asked for, and perhaps granted.
    maybe: BTreeMap<EntryKey, BTreeSet<Vec<u8>>>,
    /// Perhaps released, and since when.
    perhaps_gone: BTreeMap<Vec<u8>, u64>,
    /// Told to be released, though not by name: it may take until the end.
    going: BTreeMap<Vec<u8>, u64>,
    /// Told to be released, and when, by Redis's clock.
    gone: BTreeMap<Vec<u8>, u64>,
    /// Released so long before Redis went back that no local store remembers the release.
    may_return: BTreeSet<Vec<u8>>,
    /// Requests whose end nobody knows: they may be executed until their time is over.
    open: BTreeSet<String>,
    /// Asked for by a stock server: while Redis is away, no other server learns of such a lock.
    of_stock: BTreeSet<Vec<u8>>,
    /// Told to be released by a call that failed in part, because the local store may not have it.
    told_in_part: BTreeSet<Vec<u8>>,
    /// Those of a process that has died since: after an hour Redis has forgotten such a release, too (docs/reliability.md).
    unlearned: BTreeSet<Vec<u8>>,
    /// Released, in this order.
    turns: Vec<(EntryKey, Vec<u8>)>,
    /// What Atlantis's own store had when an older data folder was put back beside it.
    in_newer_file: BTreeSet<Vec<u8>>,
    /// Servers that Redis forgot, and since when they agree with it again.
    forgotten: Vec<(usize, Option<u64>)>,
    /// With `durability: async` a crash may take what a caller was told from the local store, and leave what it asked for.
    is_async: bool,
    /// Told not to have been granted.
    never: BTreeSet<Vec<u8>>,
    /// When a pull was released as a whole: from, until.
    released_pulls: Vec<(i64, u64, u64)>,
    /// When a lock was asked for, and when it was told to be held.
    asked_at: BTreeMap<Vec<u8>, u64>,
    granted_at: BTreeMap<Vec<u8>, u64>,
    /// By how much whoever granted a lock was wrong about Redis's clock, where that is more than usual.
    wrong_by: BTreeMap<Vec<u8>, u64>,
    /// Keys at which a server put back, after more than an hour, what another had released.
    brought_back: BTreeSet<EntryKey>,
    /// The releases and swaps under way.
    releasing: BTreeMap<Number, Releasing>,
    /// How often a release began or ended at a key, or its status was swapped.
    touched: BTreeMap<EntryKey, u64>,
    /// What Redis's clock shows.
    now: u64,
}

/// By how much whoever grants a lock is wrong about Redis's clock as a rule, microseconds: the time of a question. While Redis is away, a
/// release by pull reaches what was taken until then by that clock.
const CLOCK_ERROR: u64 = 10_000;

/// A release that is under way, and what the oracle knew when it began.
#[derive(Clone, Debug)]
struct Releasing {
    keys: Vec<EntryKey>,
    pull: Option<i64>,
    /// One release takes at most one lock of a key; one of a whole pull may take several.
    takes_many: bool,
    /// Who held one of the keys when it began, and is meant.
    before: Vec<Vec<u8>>,
    /// Whether another one was under way at one of the keys meanwhile.
    met_another: bool,
    began: u64,
}

impl Releasing {
    fn may_take(&self, key: &EntryKey, value: &[u8]) -> bool {
        self.keys.contains(key) && self.pull.is_none_or(|num| pull_of(value) == Some(num))
    }
}

/// What a read may rest on.
pub(super) struct Reading {
    before: Option<Vec<u8>>,
    touched: u64,
}

impl Oracle {
    pub(super) fn new(durability: Durability) -> Oracle {
        Oracle { is_async: durability == Durability::Async, ..Oracle::default() }
    }

    /// Time goes on.
    pub(super) fn at(&mut self, now: u64) {
        self.now = now;
    }

    /// The same, whenever it is looked at: what callers know.
    pub(super) fn without_time(&self) -> Oracle {
        Oracle { now: 0, in_newer_file: BTreeSet::new(), ..self.clone() }
    }

    /// Who was told to hold the key, if that is one.
    pub(super) fn holder(&self, key: &EntryKey) -> Option<Vec<u8>> {
        let holders = self.holders.get(key)?;
        if holders.len() == 1 { holders.first().cloned() } else { None }
    }

    /// The keys that anybody was told to hold.
    pub(super) fn keys(&self) -> Vec<EntryKey> {
        self.holders.keys().cloned().collect()
    }

    /// Whether it was told to be held, and nobody may have released it.
    pub(super) fn surely_holds(&self, value: &[u8]) -> bool {
        !self.perhaps_gone.contains_key(value) && self.holders.values().any(|holders| holders.contains(value))
    }

    /// Whether it was released, for all that callers know, longer ago than so many microseconds.
    pub(super) fn was_released_before(&self, value: &[u8], micros: u64) -> bool {
        let released = [self.gone.get(value), self.going.get(value), self.perhaps_gone.get(value)];
        released.into_iter().flatten().min().is_some_and(|at| self.now.saturating_sub(*at) > micros)
    }

    /// A caller asks for the key: from now on it may be granted.
    pub(super) fn asks(&mut self, key: &EntryKey, value: &[u8]) {
        self.asked_at.insert(value.to_vec(), self.now);
        self.maybe.entry(key.clone()).or_default().insert(value.to_vec());
    }

    /// A stock server's caller asks for the key.
    pub(super) fn asks_stock(&mut self, key: &EntryKey, value: &[u8]) {
        self.of_stock.insert(value.to_vec());
        self.asks(key, value);
    }

    fn no_longer_asks(&mut self, key: &EntryKey, value: &[u8]) {
        self.maybe.entry(key.clone()).or_default().remove(value);
    }

    /// A caller was told that this is not granted.
    fn refused(&mut self, key: &EntryKey, value: Vec<u8>) {
        self.no_longer_asks(key, &value);
        self.never.insert(value);
    }

    fn granted(&mut self, key: &EntryKey, value: &[u8]) {
        self.no_longer_asks(key, value);
        self.granted_at.entry(value.to_vec()).or_insert(self.now);
        if !self.gone.contains_key(value) {
            self.holders.entry(key.clone()).or_default().insert(value.to_vec());
            // Its token may be from before a release of its pull that was over when it was asked for.
            if self.wrong_by.contains_key(value) && self.met_its_pulls_release(value) {
                self.may_be_gone(value.to_vec());
            }
            self.check_holders(key);
        }
    }

    /// One key has one holder: of those that were told to hold it, all but one may be gone.
    fn check_holders(&self, key: &EntryKey) {
        let Some(holders) = self.holders.get(key) else { return };
        let certain: Vec<&Vec<u8>> = holders.iter().filter(|value| !self.perhaps_gone.contains_key(*value)).collect();
        let releases = || self.releasing.values().filter(|releasing| certain.iter().any(|value| releasing.may_take(key, value)));
        let excused = if releases().any(|releasing| releasing.takes_many) { usize::MAX } else { releases().count() };
        let texts = || certain.iter().map(|value| text(value)).collect::<Vec<String>>().join(" and ");
        assert!(certain.len() <= excused.saturating_add(1), "two holders of the {key}: {}", texts());
    }

    pub(super) fn released(&mut self, key: &EntryKey, value: &[u8]) {
        self.released_since(key, value, self.now);
    }

    /// A release that began then has released it: perhaps at once, however late that is told.
    fn released_since(&mut self, key: &EntryKey, value: &[u8], began: u64) {
        self.gone.entry(value.to_vec()).or_insert(began);
        self.turns.push((key.clone(), value.to_vec()));
        self.no_longer_asks(key, value);
        if let Some(holders) = self.holders.get_mut(key) {
            holders.remove(value);
        }
    }

    /// An operation that may release what is at this key has an unknown end.
    pub(super) fn perhaps_released(&mut self, key: &EntryKey, pull: Option<i64>) {
        let values = [self.holders.get(key), self.maybe.get(key)];
        let meant = values.into_iter().flatten().flatten().filter(|value| pull.is_none_or(|num| pull_of(value) == Some(num)));
        let meant: Vec<_> = meant.cloned().collect();
        meant.into_iter().for_each(|value| self.may_be_gone(value));
    }

    fn may_be_gone(&mut self, value: Vec<u8>) {
        self.perhaps_gone.entry(value).or_insert(self.now);
    }

    /// Somebody whose rules allow that took this value away, or wrote over it.
    pub(super) fn was_overwritten(&mut self, value: &[u8]) {
        self.may_be_gone(value.to_vec());
    }

    /// Redis has gone back to an older state, or lost all. With a disk that fails, or is too late, beside that, a release that is in Redis alone
    /// is lost.
    pub(super) fn redis_lost_data(&mut self) {
        self.may_return.append(&mut self.told_in_part);
        let is_forgotten = |(_, at): &(&Vec<u8>, &u64)| self.now.saturating_sub(**at) > REMEMBERED_MICROS;
        let forgotten: Vec<_> =
            self.gone.iter().chain(&self.going).filter(is_forgotten).map(|(value, _)| value.clone()).collect();
        self.may_return.extend(forgotten);
    }

    /// A process dies. What its local store did not learn, no other learns but of Redis.
    pub(super) fn process_died(&mut self) {
        self.unlearned.extend(self.told_in_part.iter().cloned());
    }

    /// Redis has forgotten a server, which was away for so long, or whose entry was evicted: the server takes that for a Redis that lost data, until the
    /// two agree. A stock server's lock that it knows leaves nothing behind when it is released, and is put back; to other servers that looks as
    /// if Redis had gone back (docs/reliability.md).
    pub(super) fn was_forgotten(&mut self, who: usize) {
        self.forgotten.push((who, None));
    }

    /// A server takes Redis for one that has lost data: a lock of which it did not hear for more than an hour is gone, and so is Redis's memory of its
    /// release. Until the two agree it takes stock's locks for lost, too, as one that was forgotten (docs/reliability.md).
    pub(super) fn believes_in_a_loss(&mut self, who: usize) {
        let believes = self.forgotten.iter().any(|(server, until)| *server == who && until.is_none());
        let mut released = self.gone.keys().chain(self.going.keys()).chain(self.perhaps_gone.keys());
        if !believes && released.any(|value| self.was_released_before(value, REMEMBERED)) {
            self.was_forgotten(who);
        }
    }

    /// A server says that it agrees with Redis.
    pub(super) fn agrees(&mut self, who: usize) {
        self.forgotten
            .iter_mut()
            .filter(|(server, until)| *server == who && until.is_none())
            .for_each(|(_, until)| *until = Some(self.now));
    }

    /// A server put this into Redis, beside a stock server. If it was released more than an hour ago, Redis has forgotten that. To a server that
    /// knows of that release Redis has gone back behind whatever came since (docs/reliability.md).
    pub(super) fn was_put(&mut self, key: &EntryKey, value: &[u8]) {
        if self.was_released_before(value, REMEMBERED) {
            self.brought_back.insert(key.clone());
        }
    }

    /// An older data folder is put back beside an Atlantis's own store that has this.
    pub(super) fn folder_is_older(&mut self, file: impl Iterator<Item = Vec<u8>>) {
        self.in_newer_file.extend(file);
    }

    /// The server that was asked for this lock was wrong about Redis's clock by so many microseconds: a question may take longer than usual.
    pub(super) fn granter_was_wrong_by(&mut self, value: &[u8], micros: u64) {
        if micros > CLOCK_ERROR {
            self.wrong_by.insert(value.to_vec(), micros);
        }
    }

    pub(super) fn grant_answered(&mut self, key: &EntryKey, value: Vec<u8>, answer: &Result<Granted>) {
        match answer {
            Ok(Granted::Yes { .. }) => self.granted(key, &value),
            Err(e) if e.code() == Code::OutcomeUnknown => {}
            Ok(Granted::Held { .. } | Granted::NotYet) | Err(_) => self.refused(key, value),
        }
    }

    pub(super) fn begin_read(&self, key: &EntryKey) -> Reading {
        Reading { before: self.holder(key), touched: self.touched(key) }
    }

    /// Nothing released what the key held when the read began: the read must tell of it.
    pub(super) fn read_answered(&self, key: &EntryKey, reading: Reading, answer: Result<Option<Vec<u8>>>) {
        let Reading { before, touched } = reading;
        let is_quiet = touched == self.touched(key) && !self.releasing.values().any(|releasing| releasing.keys.contains(key));
        if let (Ok(found), Some(holder), true) = (answer, before, is_quiet)
            && !self.perhaps_gone.contains_key(&holder)
        {
            assert!(found.as_ref() == Some(&holder), "{} holds the {key}, told is: {}", text(&holder), texts(&found));
        }
    }

    fn touched(&self, key: &EntryKey) -> u64 {
        self.touched.get(key).copied().unwrap_or_default()
    }

    fn touch(&mut self, keys: &[EntryKey]) {
        keys.iter().for_each(|key| *self.touched.entry(key.clone()).or_default() += 1);
    }
}

//! What is there in the end, or where nothing is under way, fits what callers were told.

use std::collections::BTreeMap;

use super::{CLOCK_ERROR, Oracle};
use crate::hybrid::probe::REMEMBERED_MICROS;
use crate::hybrid::simulation::schedule::REMEMBERED;
use crate::hybrid::simulation::show::{text, texts};
use crate::hybrid::simulation::values::pull_of;
use crate::store::contract::local::{EntryKey, MAX_TOMBSTONES};

impl Oracle {
    /// Whether it may seem lost to a server that was forgotten, or that meets an old lock which another brought back: a stock server's
    /// lock, or, after a crash with `durability: async`, one that was asked for and refused.
    fn may_seem_lost(&self, key: &EntryKey, value: &[u8]) -> bool {
        let asked = self.asked_at.get(value);
        let is_from_before =
            self.forgotten.iter().any(|(_, until)| asked.is_some_and(|asked| until.is_none_or(|until| *asked <= until)));
        let is_stocks = self.of_stock.contains(value) && (is_from_before || self.brought_back.contains(key));
        is_stocks || (is_from_before && self.is_async && self.never.contains(value))
    }

    /// Whether it is in such a file, and the data folder has forgotten that it was released: it passes for one that strict mode took. Or that is
    /// forgotten because the key changed hands so often since, and by a clock that was wrong: then tokens are in no order, either.
    fn may_seem_new(&self, key: &EntryKey, value: &[u8]) -> bool {
        let is_old = |at: &u64| self.now.saturating_sub(*at) > REMEMBERED_MICROS;
        let mut of_key = self.turns.iter().rev().filter(|(of, _)| of == key);
        let has_fallen_out = of_key.position(|(_, gone)| gone == value).is_some_and(|later| later >= MAX_TOMBSTONES);
        let is_forgotten = self.gone.get(value).is_some_and(is_old) || has_fallen_out;
        (self.in_newer_file.contains(value) && is_forgotten) || (has_fallen_out && !self.wrong_by.is_empty())
    }

    /// Whether the lock was taken so near to a release of its pull that the two servers' clocks cannot tell which came first.
    pub(super) fn met_its_pulls_release(&self, holder: &[u8]) -> bool {
        let asked = self.asked_at.get(holder).copied().unwrap_or_default();
        let granted = self.granted_at.get(holder).copied().unwrap_or(u64::MAX);
        let error = self.wrong_by.get(holder).copied().unwrap_or(CLOCK_ERROR);
        let met = |from: u64, until: u64| asked <= until.saturating_add(error) && from <= granted.saturating_add(error);
        self.released_pulls.iter().any(|(num, from, until)| pull_of(holder) == Some(*num) && met(*from, *until))
    }

    /// What a server alone believes, while nothing is under way, is what it told its callers.
    pub(in crate::hybrid::simulation) fn check_belief(&self, believed: &BTreeMap<EntryKey, Vec<u8>>) {
        for key in self.holders.keys().filter(|key| key.lock().is_some()) {
            let Some(holder) = self.holder(key).filter(|holder| !self.perhaps_gone.contains_key(holder)) else { continue };
            let known = believed.get(key);
            assert!(known == Some(&holder), "{} holds the {key}, the local store believes: {}", text(&holder), texts(known));
        }
    }

    /// What a server leaves in the file when it is closed, whether it has asked Redis since it began or not: of what it was told to have released in
    /// part, it may not know that.
    pub(in crate::hybrid::simulation) fn check_file(&self, mut entries: BTreeMap<EntryKey, Vec<u8>>) {
        entries.retain(|_, value| !self.unlearned.contains(value));
        self.check_end(&entries, None);
    }

    /// In the end there is what was acknowledged, and nothing that was released or refused.
    ///
    /// `remembered`: for how long Redis tells servers of releases that their local stores do not have: those of other servers, and with
    /// `durability: async` a server's own before a crash. A server that saw a lock and was away for longer cannot know whether the lock was
    /// released or lost. In doubt, the lock stays.
    pub(in crate::hybrid::simulation) fn check_end(&self, entries: &BTreeMap<EntryKey, Vec<u8>>, remembered: Option<u64>) {
        // What nobody here asked for is another program's, which may write the same bytes anywhere, and again.
        for (key, value) in entries.iter().filter(|(_, value)| self.asked_at.contains_key(*value)) {
            // What was perhaps released before may have been so ever since: for that long Redis has remembered it.
            let first = self.perhaps_gone.get(value).copied().unwrap_or(u64::MAX);
            let may_stay = |at: &u64| remembered.is_some_and(|remembered| self.now.saturating_sub(first.min(*at)) > remembered);
            let going = self.going.get(value).filter(|_| !self.met_its_pulls_release(value));
            let released = self.gone.get(value).or(going).is_some_and(|at| !may_stay(at));
            let is_unlearned = self.unlearned.contains(value) && self.was_released_before(value, REMEMBERED);
            let is_excused = self.may_return.contains(value)
                || self.may_seem_lost(key, value)
                || self.may_seem_new(key, value)
                || is_unlearned;
            let released = released && !is_excused;
            assert!(!released, "the {key} is held by one who released it: {}", text(value));
            let never = self.never.contains(value) && !self.may_seem_lost(key, value);
            assert!(!never, "the {key} is held by one who was refused: {}", text(value));
        }
        for (key, holder) in self.holders.iter().flat_map(|(key, holders)| holders.iter().map(move |holder| (key, holder))) {
            let found = entries.get(key);
            let excused = self.perhaps_gone.contains_key(holder) || self.met_its_pulls_release(holder);
            assert!(found == Some(holder) || excused, "the {key} was lost by {}: {:?}", text(holder), found.map(|v| text(v)));
        }
    }
}

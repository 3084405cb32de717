//! What callers were told, and whether an answer, or what the store has, fits that.
//!
//! It knows neither stores nor queues' documents; only what was asked for and answered, and what was under way at once. Each lock has a
//! number of its own. Where an end is not known, both ends are right until somebody has looked.

use std::collections::{BTreeMap, BTreeSet};

use crate::sync::tasks::Group;

/// How a lock stands, by what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for; it may be held.
    Asked,
    Holds,
    /// Released, or refused: nothing brings it back.
    Over,
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    key: String,
    num: i64,
    state: State,
    /// A release may have met it.
    may_go: bool,
    /// The set of which it is a part.
    set: Option<u64>,
    /// Who is asking for it.
    asks: Option<Group>,
    /// What had happened by the time when it was asked for, and when it was over.
    asked_at: u64,
    over_at: u64,
    /// When it was last told to be released, as a part of a set: it may have been taken again since.
    released_at: u64,
}

impl Known {
    fn is_certain(&self) -> bool {
        self.state == State::Holds && !self.may_go
    }
}

/// What a release names.
#[derive(Clone, Debug)]
pub(super) enum Names {
    Key(String, Option<i64>),
    Pull(i64),
    Locks(BTreeSet<u64>),
}

impl Names {
    fn fits(&self, number: u64, known: &Known) -> bool {
        match self {
            Names::Key(key, num) => known.key == *key && num.is_none_or(|num| known.num == num),
            Names::Pull(num) => known.num == *num,
            Names::Locks(numbers) => numbers.contains(&number),
        }
    }
}

#[derive(Clone, Debug)]
struct Releasing {
    names: Names,
    /// `None`: its answer was lost.
    process: Option<Group>,
}

/// The locks of a set, which are all granted or none.
#[derive(Clone, Debug)]
struct Set {
    num: i64,
    numbers: BTreeSet<u64>,
    process: Option<Group>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    /// Whether servers may not know of each other's releases.
    is_blind: bool,
    /// How much has happened.
    events: u64,
    /// How many releases and sets were begun.
    begun: u64,
    locks: BTreeMap<u64, Known>,
    releasing: BTreeMap<u64, Releasing>,
    sets: BTreeMap<u64, Set>,
}

impl Oracle {
    pub(super) fn new(is_blind: bool) -> Oracle {
        Oracle { is_blind, ..Oracle::default() }
    }

    pub(super) fn asks(&mut self, number: u64, key: &str, num: i64, set: Option<u64>, process: Group) {
        let known = Known {
            key: key.to_owned(),
            num,
            state: State::Asked,
            may_go: false,
            set,
            asks: Some(process),
            asked_at: self.tells(),
            over_at: 0,
            released_at: 0,
        };
        self.locks.insert(number, known);
    }

    /// Something happens: its place in the order of all that does.
    fn tells(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    pub(super) fn begin_set(&mut self, id: u64, num: i64, numbers: BTreeSet<u64>, process: Group) {
        self.begun += 1;
        self.sets.insert(id, Set { num, numbers, process: Some(process) });
    }

    pub(super) fn end_set(&mut self, id: u64) {
        if let Some(set) = self.sets.get_mut(&id) {
            set.process = None;
        }
    }

    /// `asked` was answered with `held`, which is itself or an older lock of its pull.
    pub(super) fn acquired(&mut self, asked: u64, held: Option<u64>) {
        let wanted = self.locks[&asked].clone();
        let held = held.unwrap_or_else(|| panic!("{} is held by a lock of #{} that nobody asked for", wanted.key, wanted.num));
        let known = &self.locks[&held];
        assert_eq!((&known.key, known.num), (&wanted.key, wanted.num), "another lock is taken for one's own");
        let is_over = known.state == State::Over;
        assert!(
            !is_over || known.over_at > wanted.asked_at || self.is_blind,
            "#{} is told to have v{held}, which was over",
            wanted.num
        );
        let is_gone = is_over || known.released_at > wanted.asked_at;
        if held != asked {
            self.refused(asked);
        }
        if is_gone {
            // It was released before the answer was there.
            return self.unknown(asked);
        }
        self.holds(held);
    }

    /// It is held: by nobody else.
    fn holds(&mut self, number: u64) {
        let key = self.locks[&number].key.clone();
        for (other, known) in self.locks.iter().filter(|(other, known)| **other != number && known.key == key) {
            assert!(known.state != State::Holds || known.may_go, "{key} is held by v{number}, and by v{other} of #{}", known.num);
        }
        let met = self.releasing.values().any(|releasing| releasing.names.fits(number, &self.locks[&number]));
        let known = self.locks.get_mut(&number).expect("is known");
        known.may_go |= met;
        known.state = State::Holds;
        known.asks = None;
    }

    pub(super) fn refused(&mut self, number: u64) {
        let now = self.tells();
        let known = self.locks.get_mut(&number).expect("is known");
        known.asks = None;
        if known.state == State::Asked {
            (known.state, known.over_at) = (State::Over, now);
        }
    }

    /// Nobody knows what came of it.
    pub(super) fn unknown(&mut self, number: u64) {
        self.locks.get_mut(&number).expect("is known").asks = None;
    }

    pub(super) fn begin_release(&mut self, id: u64, names: Names, process: Group) {
        for (number, known) in &mut self.locks {
            known.may_go |= known.state != State::Over && names.fits(*number, known);
        }
        self.begun += 1;
        self.releasing.insert(id, Releasing { names, process: Some(process) });
    }

    /// It released these, and nothing else.
    pub(super) fn released(&mut self, id: u64, released: impl IntoIterator<Item = Option<u64>>) {
        let (releasing, now) = (self.releasing.remove(&id).expect("is under way"), self.tells());
        for number in released {
            let number = number.expect("a lock that nobody asked for is released");
            let known = self.locks.get_mut(&number).expect("is known");
            assert!(releasing.names.fits(number, known), "v{number} is released by {releasing:?}");
            // A server that sees no Redis may know a lock that another one released.
            assert!(known.state != State::Over || self.is_blind, "v{number} is released twice");
            // A lock of a set may be taken again in the same plan; whoever looks sees that.
            if known.set.is_none() {
                (known.state, known.over_at) = (State::Over, now);
            } else {
                known.released_at = now;
            }
        }
    }

    pub(super) fn release_unknown(&mut self, id: u64) {
        if let Some(releasing) = self.releasing.get_mut(&id) {
            releasing.process = None;
        }
    }

    /// A process died: what it was asked has no answer.
    pub(super) fn died(&mut self, process: Group) {
        for known in self.locks.values_mut().filter(|known| known.asks == Some(process)) {
            known.asks = None;
        }
        for releasing in self.releasing.values_mut().filter(|releasing| releasing.process == Some(process)) {
            releasing.process = None;
        }
        for set in self.sets.values_mut().filter(|set| set.process == Some(process)) {
            set.process = None;
        }
    }

    /// The locks that this pull holds for certain, by key.
    pub(super) fn held_by(&self, num: i64) -> BTreeMap<String, u64> {
        let held = self.locks.iter().filter(|(_, known)| known.num == num && known.is_certain());
        held.map(|(number, known)| (known.key.clone(), *number)).collect()
    }

    /// Whether the pull may hold this.
    pub(super) fn perhaps_holds(&self, num: i64, key: &str) -> bool {
        self.locks.values().any(|known| known.num == num && known.key == key && known.state != State::Over)
    }

    /// The lock that the pull may hold here, if not one of this set.
    pub(super) fn perhaps_held(&self, num: i64, key: &str, but: Option<u64>) -> Option<u64> {
        let may = |known: &Known| known.num == num && known.key == key && known.state != State::Over && known.set != but;
        let held = self.locks.iter().filter(|(_, known)| may(known));
        held.max_by_key(|(number, known)| (known.state == State::Holds, **number)).map(|(number, _)| *number)
    }

    /// Whether a release may have met this lock.
    pub(super) fn perhaps_released(&self, number: u64) -> bool {
        self.locks.get(&number).is_some_and(|known| known.may_go)
    }

    /// Whether it is certain that this lock is held.
    pub(super) fn surely_holds(&self, number: u64) -> bool {
        self.locks.get(&number).is_some_and(Known::is_certain)
    }

    /// What the store had since `before`.
    pub(super) fn check(&self, before: &Oracle, found: &[Option<u64>]) {
        for number in found {
            let number = number.expect("a lock is there that nobody asked for");
            assert!(self.locks.contains_key(&number), "nobody asked for v{number}");
            let was_over = before.locks.get(&number).is_some_and(|known| known.state == State::Over);
            assert!(!was_over, "v{number} is there, and was released or refused: {:?}", self.locks[&number]);
        }
        for (number, known) in self.locks.iter().filter(|(number, known)| known.is_certain() && before.surely_holds(**number)) {
            assert!(found.contains(&Some(*number)), "{} was lost by v{number} of #{}", known.key, known.num);
        }
    }

    /// What the store had since `before`, if no release was under way meanwhile and nothing is late: it is so, then. With `is_all` each
    /// set is granted or not, but for those of `acquiring`, which may still be taken back. With `is_over` nothing that has no answer is carried out
    /// any more: what was asked for is over if it is not there.
    pub(super) fn settle(
        &mut self,
        before: &Oracle,
        found: &[Option<u64>],
        is_all: bool,
        is_over: bool,
        acquiring: &BTreeSet<i64>,
    ) {
        let is_under_way = |oracle: &Oracle| oracle.releasing.values().any(|releasing| releasing.process.is_some());
        if before.begun != self.begun || is_under_way(before) || is_under_way(self) {
            return;
        }
        // Hybrid mode may still carry out a release whose end nobody knows, at its next recovery, and strict mode may still write it.
        self.releasing.retain(|_, _| !is_over);
        self.settle_sets(before, found, is_all, acquiring);
        // Since when it is over is not known; now it is.
        let now = self.tells();
        let releasing = &self.releasing;
        let may_still_go = |number: u64, known: &Known| releasing.values().any(|releasing| releasing.names.fits(number, known));
        for (number, known) in &mut self.locks {
            let is_there = found.contains(&Some(*number));
            let is_provisional = known.set.is_some_and(|set| self.sets.contains_key(&set));
            if before.locks.get(number) != Some(known) {
                continue;
            }
            match known.state {
                State::Holds if known.may_go && !(is_there && may_still_go(*number, known)) => {
                    known.may_go = false;
                    (known.state, known.over_at) = if is_there { (State::Holds, 0) } else { (State::Over, now) };
                }
                State::Asked if known.asks.is_none() && !is_provisional => {
                    if is_there {
                        (known.state, known.may_go) = (State::Holds, false);
                    } else if is_over {
                        (known.state, known.over_at) = (State::Over, now);
                    }
                }
                State::Asked | State::Holds | State::Over => {}
            }
        }
    }

    /// L7: of a set that nobody asks for any more, and that is not on its way, all is there or nothing.
    fn settle_sets(&mut self, before: &Oracle, found: &[Option<u64>], is_all: bool, acquiring: &BTreeSet<i64>) {
        let locks = &self.locks;
        self.sets.retain(|id, set| {
            let was_over = before.sets.get(id).is_some_and(|set| set.process.is_none());
            if !was_over || !is_all || acquiring.contains(&set.num) {
                return true;
            }
            let untouched = set.numbers.iter().filter(|number| !locks[number].may_go && locks[number].state != State::Over);
            let (there, not): (Vec<u64>, Vec<u64>) = untouched.partition(|number| found.contains(&Some(**number)));
            assert!(there.is_empty() || not.is_empty(), "of the set {id} of #{} {there:?} is there, and {not:?} is not", set.num);
            false
        });
    }

    /// How many sets are not decided.
    pub(super) fn undecided_sets(&self) -> usize {
        self.sets.len()
    }
}

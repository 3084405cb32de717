//! Which operations are under way, and those that have ended and wait for the shadow's thread.
//!
//! Invariants:
//! - Two operations on one key of which one may change it either stand in the queue in the order in which the store that decides
//!   made them, or are both marked as crossed. An operation is in the queue before it is under way no more, so that one that
//!   begins later stands behind it.
//! - Nobody waits: the lock is held for a look at maps and a push, and a full queue takes nothing.
//! - An operation that was not taken is known as a gap to whoever reads on.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use super::observed::{Answer, Asked, Crossed, Observed};
use crate::store::contract::local::EntryKey;
use crate::sync::{Condvar, Mutex};

/// Most operations that wait for the shadow's thread.
pub(super) const MOST: usize = 4096;
/// About the most memory that they take.
const MOST_BYTES: usize = 64 << 20;

/// The operations.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<EntryKey, Slot>,
    wide: HashMap<u64, Wide>,
    next: u64,
    queue: VecDeque<Observed>,
    bytes: usize,
    gap: bool,
    /// Whether the thread is at work on one.
    at_work: bool,
    closed: bool,
}

/// The operations that are under way at one key.
#[derive(Debug, Default)]
struct Slot {
    inside: u32,
    changes: u32,
    crossed: bool,
}

/// An operation on many keys that is under way.
#[derive(Debug)]
struct Wide {
    changes: bool,
    crossed: Crossed,
}

/// An operation that is under way.
#[derive(Debug)]
pub(super) struct Begun {
    asked: Asked,
    wide: Option<u64>,
    since: Instant,
}

/// What the thread is to do.
pub(super) enum Next {
    /// Follow this one.
    Follow(Box<Observed>),
    /// Operations were not told, and there is nothing else.
    Gap,
    /// Nothing yet.
    Nothing,
    /// End.
    Close,
}

impl Traffic {
    /// An operation begins; `None` once it is closed.
    pub fn begin(&self, asked: Asked) -> Option<Begun> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let wide = state.enter(&asked);
        drop(state);
        Some(Begun { asked, wide, since: Instant::now() })
    }

    /// It has ended like this; returns whether that was taken.
    pub fn end(&self, begun: Begun, answer: Answer) -> bool {
        let Begun { asked, wide, since } = begun;
        let took = since.elapsed();
        let mut state = self.state.lock();
        let crossed = state.leave(&asked, wide);
        let observed = Observed { asked, answer, crossed, took, after_gap: state.gap };
        let bytes = observed.bytes();
        let is_taken = !state.closed && state.queue.len() < MOST && (state.bytes + bytes <= MOST_BYTES || state.queue.is_empty());
        state.gap = !is_taken;
        if is_taken {
            state.bytes += bytes;
            state.queue.push_back(observed);
            self.changed.notify_all();
        }
        is_taken
    }

    /// The next one, for the thread, which waits for it until then.
    pub fn next(&self, until: Instant) -> Next {
        let mut state = self.state.lock();
        state.at_work = false;
        self.changed.notify_all();
        loop {
            if state.closed {
                return Next::Close;
            }
            if let Some(observed) = state.queue.pop_front() {
                state.bytes = state.bytes.saturating_sub(observed.bytes());
                state.at_work = true;
                return Next::Follow(Box::new(observed));
            }
            if std::mem::take(&mut state.gap) {
                state.at_work = true;
                return Next::Gap;
            }
            if self.changed.wait_until(&mut state, until).timed_out() {
                return Next::Nothing;
            }
        }
    }

    /// Takes nothing more.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.queue.clear();
        self.changed.notify_all();
    }

    /// How many wait for the thread.
    pub fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.queue.len() + usize::from(state.at_work)
    }
}

impl State {
    /// Returns the number of one on many keys.
    fn enter(&mut self, asked: &Asked) -> Option<u64> {
        let changes = asked.changes();
        let Some(key) = asked.key() else {
            let mut crossed = Crossed { all: self.wide.values().any(|wide| wide.changes), keys: HashSet::new() };
            crossed.keys.extend(self.slots.iter().filter(|(_, slot)| slot.changes > 0).map(|(key, _)| key.clone()));
            if changes {
                self.slots.values_mut().for_each(|slot| slot.crossed = true);
                self.wide.values_mut().for_each(|wide| wide.crossed.all = true);
            }
            self.next += 1;
            self.wide.insert(self.next, Wide { changes, crossed });
            return Some(self.next);
        };
        let is_wide_change = self.wide.values().any(|wide| wide.changes);
        if changes {
            for wide in self.wide.values_mut() {
                wide.crossed.keys.insert(key.clone());
            }
        }
        let slot = self.slots.entry(key.clone()).or_default();
        slot.crossed |= is_wide_change || slot.changes > 0 || (changes && slot.inside > 0);
        slot.inside += 1;
        slot.changes += u32::from(changes);
        None
    }

    fn leave(&mut self, asked: &Asked, wide: Option<u64>) -> Crossed {
        if let Some(wide) = wide.and_then(|wide| self.wide.remove(&wide)) {
            return wide.crossed;
        }
        let Some((key, slot)) = asked.key().and_then(|key| Some((key, self.slots.get_mut(key)?))) else {
            return Crossed { all: true, keys: HashSet::new() };
        };
        let crossed = slot.crossed;
        slot.inside = slot.inside.saturating_sub(1);
        slot.changes = slot.changes.saturating_sub(u32::from(asked.changes()));
        if slot.inside == 0 {
            self.slots.remove(key);
        }
        Crossed { all: crossed, keys: HashSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shadow::observed::Said;

    fn key(name: &str) -> EntryKey {
        EntryKey::Project(name.to_owned())
    }

    fn get(name: &str) -> Asked {
        Asked::Get(key(name))
    }

    fn discard(name: &str) -> Asked {
        Asked::Discard(key(name))
    }

    fn list() -> Asked {
        Asked::List { fill: false, fragile: false }
    }

    fn by_pull() -> Asked {
        Asked::ReleaseByPull { repo: "acme/infra".to_owned(), num: 1 }
    }

    /// Begins all, ends all; whether each was crossed, and at which keys.
    fn crossed(together: &[Asked]) -> Vec<(bool, usize)> {
        let traffic = Traffic::default();
        let begun: Vec<_> = together.iter().map(|asked| traffic.begin(asked.clone()).expect("is open")).collect();
        begun.into_iter().for_each(|begun| assert!(traffic.end(begun, Answer::Was(Said::Nothing))));
        let mut found = Vec::new();
        while let Next::Follow(observed) = traffic.next(Instant::now()) {
            found.push((observed.crossed.all, observed.crossed.keys.len()));
        }
        found
    }

    #[test]
    fn who_crosses_whom_is_known_to_both() {
        for (together, wanted) in [
            (vec![get("a"), get("a")], vec![(false, 0), (false, 0)]),
            (vec![get("a"), discard("a")], vec![(true, 0), (true, 0)]),
            (vec![discard("a"), get("a")], vec![(true, 0), (true, 0)]),
            (vec![discard("a"), discard("b")], vec![(false, 0), (false, 0)]),
            (vec![list(), get("a"), list()], vec![(false, 0), (false, 0), (false, 0)]),
            (vec![list(), discard("a"), discard("a"), discard("b")], vec![(false, 2), (true, 0), (true, 0), (false, 0)]),
            (vec![discard("a"), list()], vec![(false, 0), (false, 1)]),
            (vec![by_pull(), get("a")], vec![(false, 0), (true, 0)]),
            (vec![get("a"), by_pull(), list()], vec![(true, 0), (false, 0), (true, 0)]),
            (vec![list(), by_pull()], vec![(true, 0), (false, 0)]),
            (vec![by_pull(), by_pull(), discard("a")], vec![(true, 1), (true, 1), (true, 0)]),
        ] {
            assert_eq!(crossed(&together), wanted, "{together:?}");
        }
        let traffic = Traffic::default();
        for asked in [discard("a"), discard("a"), by_pull(), list()] {
            let begun = traffic.begin(asked).expect("is open");
            traffic.end(begun, Answer::NotKnown);
        }
        while let Next::Follow(observed) = traffic.next(Instant::now()) {
            assert!(!observed.crossed.all && observed.crossed.keys.is_empty(), "one after the other: {observed:?}");
        }
    }

    #[test]
    fn a_full_queue_takes_nothing_and_leaves_a_gap() {
        let traffic = Traffic::default();
        let one = || traffic.end(traffic.begin(get("a")).expect("is open"), Answer::NotKnown);
        assert!((0..MOST).all(|_| one()));
        assert!(!one());
        assert!(matches!(traffic.next(Instant::now()), Next::Follow(observed) if !observed.after_gap));
        assert!(one());
        let after_gap = std::iter::from_fn(|| match traffic.next(Instant::now()) {
            Next::Follow(observed) => Some(observed.after_gap),
            _ => None,
        });
        assert_eq!(after_gap.collect::<Vec<_>>().iter().filter(|gap| **gap).count(), 1, "behind the gap, and there alone");
        assert_eq!((0..=MOST).filter(|_| !one()).count(), 1);
        for _ in 0..MOST {
            assert!(matches!(traffic.next(Instant::now()), Next::Follow(observed) if !observed.after_gap));
        }
        assert!(matches!(traffic.next(Instant::now()), Next::Gap), "there is nobody behind it");
        assert!(matches!(traffic.next(Instant::now() + Duration::from_millis(1)), Next::Nothing));
        traffic.close();
        assert!(traffic.begin(get("a")).is_none() && matches!(traffic.next(Instant::now()), Next::Close));
    }
}

//! One change at a time for each key, within this process.
//!
//! What the local store is handed of a key must be in the order in which Redis changed it. Changes of different keys do not wait for
//! each other. A waiting caller gives up at its deadline.
//!
//! Invariant: a lock that somebody is about to release, and that the local store therefore does not show any more, is known here until it
//! is released, or shown there again.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use crate::sync::{Condvar, Mutex};

use crate::error::{Code, Error, Result};
use crate::store::contract::local::EntryKey;

/// Which keys are locked. Safe from any thread.
#[derive(Debug, Default)]
pub(crate) struct KeyLocks {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The keys that somebody has, and of each the lock there that is about to be released.
    held: HashMap<EntryKey, Option<Vec<u8>>>,
    /// How many locks were to be released so far.
    releases: u64,
}

/// Some keys are the caller's until this is dropped.
#[derive(Debug)]
pub(crate) struct KeyGuard<'a> {
    locks: &'a KeyLocks,
    keys: Vec<EntryKey>,
}

impl KeyLocks {
    /// Waits for all of these keys at once, so that no two callers wait for each other.
    pub(crate) fn take(&self, keys: &[EntryKey], deadline: Instant) -> Result<KeyGuard<'_>> {
        let mut state = self.state.lock();
        while keys.iter().any(|key| state.held.contains_key(key)) {
            if self.ended.wait_until(&mut state, deadline).timed_out() && keys.iter().any(|key| state.held.contains_key(key)) {
                let text = "another change of the same lock was under way until the deadline; nothing was changed: try again";
                return Err(Error::new(Code::Timeout, text));
            }
        }
        state.held.extend(keys.iter().map(|key| (key.clone(), None)));
        Ok(KeyGuard { locks: self, keys: keys.to_vec() })
    }

    /// The keys of which changes are under way.
    pub(crate) fn under_way(&self) -> BTreeSet<EntryKey> {
        self.state.lock().held.keys().cloned().collect()
    }

    /// The keys at which `look` found one of these locks, or somebody is about to release one: whether that happens is known once one has
    /// their locks. What is about to be released is looked up first: what is not yet, or not any more, is where `look` looks.
    pub(crate) fn with_what_is_released<E>(
        &self,
        is_meant: impl Fn(&[u8]) -> bool,
        look: impl Fn() -> Result<BTreeSet<EntryKey>, E>,
    ) -> Result<BTreeSet<EntryKey>, E> {
        loop {
            let (mut keys, releases): (BTreeSet<EntryKey>, u64) = {
                let state = self.state.lock();
                let is_meant = |value: &Option<Vec<u8>>| value.as_deref().is_some_and(&is_meant);
                (state.held.iter().filter(|(_, value)| is_meant(value)).map(|(key, _)| key.clone()).collect(), state.releases)
            };
            keys.extend(look()?);
            // One that began in between may be in neither.
            if self.state.lock().releases == releases {
                return Ok(keys);
            }
        }
    }
}

impl KeyGuard<'_> {
    /// Whoever has the key is about to release this lock.
    pub(crate) fn releases(&self, key: &EntryKey, value: &[u8]) {
        let mut state = self.locks.state.lock();
        state.held.insert(key.clone(), Some(value.to_vec()));
        state.releases += 1;
    }
}

impl Drop for KeyGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.locks.state.lock();
        for key in &self.keys {
            state.held.remove(key);
        }
        drop(state);
        self.locks.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::sync::explore::explore;
    use crate::sync::tasks::give_way;

    #[test]
    fn a_key_has_one_holder_and_others_go_on() {
        let locks = KeyLocks::default();
        let key = |name: &str| EntryKey::Project(name.to_owned());
        let soon = || Instant::now() + Duration::from_millis(20);
        let first = locks.take(&[key("a"), key("b")], soon()).expect("is free");
        assert_eq!(locks.take(&[key("c"), key("b")], soon()).expect_err("waits").code(), Code::Timeout);
        let other = locks.take(&[key("c")], soon()).expect("was not kept by the one who gave up");
        drop((first, other));
        locks.take(&[key("a"), key("b"), key("c")], soon()).expect("all are free");
    }

    /// In every order of three callers, of whom two want the same keys the other way round.
    #[test]
    fn no_two_have_a_key_and_none_waits_for_ever() {
        let orders = explore(
            |tasks, clock| {
                let locks = Arc::new(KeyLocks::default());
                let (held, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
                let key = |name: &str| EntryKey::Project(name.to_owned());
                for keys in [vec![key("a"), key("b")], vec![key("b"), key("a")], vec![key("b")]] {
                    let (locks, held, most, clock) = (Arc::clone(&locks), Rc::clone(&held), Rc::clone(&most), Arc::clone(clock));
                    tasks.start(0, "takes", move || {
                        let guard = locks.take(&keys, clock.now() + Duration::from_secs(1)).expect("is free in time");
                        held.set(held.get() + 1);
                        most.set(held.get().max(most.get()));
                        give_way();
                        held.set(held.get() - 1);
                        drop(guard);
                    });
                }
                most
            },
            |most| assert_eq!(most.get(), 1),
        );
        assert!(orders > 100, "{orders}");
    }

    #[test]
    fn what_is_being_released_is_found_though_nobody_shows_it() {
        let locks = KeyLocks::default();
        let key = EntryKey::Command("apply".to_owned());
        let found = |shown: &Cell<bool>| {
            let look = || Ok::<_, Error>(shown.get().then(|| key.clone()).into_iter().collect());
            locks.with_what_is_released(|value| value == b"meant", look).expect("looks")
        };
        let shown = Cell::new(false);
        assert!(found(&shown).is_empty());
        let guard = locks.take(std::slice::from_ref(&key), Instant::now()).expect("is free");
        assert!(found(&shown).is_empty(), "another change is under way");
        guard.releases(&key, b"another");
        assert!(found(&shown).is_empty());
        guard.releases(&key, b"meant");
        assert!(found(&shown).contains(&key));
        drop(guard);
        assert!(found(&shown).is_empty());
    }

    /// A release that begins during the look hides the lock from that.
    #[test]
    fn what_is_to_be_released_during_the_look_is_found() {
        let locks = KeyLocks::default();
        let key = EntryKey::Command("apply".to_owned());
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            if looks.get() == 1 {
                let guard = locks.take(std::slice::from_ref(&key), Instant::now()).expect("is free");
                guard.releases(&key, b"meant");
                return Ok::<_, Error>(BTreeSet::new());
            }
            // It was not released after all.
            Ok(BTreeSet::from([key.clone()]))
        };
        assert!(locks.with_what_is_released(|value| value == b"meant", look).expect("looks").contains(&key));
    }

    #[test]
    fn the_same_key_twice_is_one_lock() {
        let locks = KeyLocks::default();
        let key = EntryKey::Command("apply".to_owned());
        drop(locks.take(&[key.clone(), key.clone()], Instant::now()).expect("is free"));
        locks.take(&[key], Instant::now()).expect("is free again");
    }
}

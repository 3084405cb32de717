//! One change at a time for each key, within this process.
//!
//! What the local store is handed of a key must be in the order in which Redis changed it. Changes of different keys do not wait for
//! each other. A waiting caller gives up at its deadline.

use std::collections::HashSet;
use std::time::Instant;

use crate::sync::{Condvar, Mutex};

use crate::error::{Code, Error, Result};
use crate::store::contract::local::EntryKey;

/// Which keys are locked. Safe from any thread.
#[derive(Debug, Default)]
pub(crate) struct KeyLocks {
    held: Mutex<HashSet<EntryKey>>,
    ended: Condvar,
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
        let mut held = self.held.lock();
        while keys.iter().any(|key| held.contains(key)) {
            if self.ended.wait_until(&mut held, deadline).timed_out() && keys.iter().any(|key| held.contains(key)) {
                let text = "another change of the same lock was under way until the deadline; nothing was changed: try again";
                return Err(Error::new(Code::Timeout, text));
            }
        }
        held.extend(keys.iter().cloned());
        Ok(KeyGuard { locks: self, keys: keys.to_vec() })
    }
}

impl Drop for KeyGuard<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held.lock();
        for key in &self.keys {
            held.remove(key);
        }
        drop(held);
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
    fn the_same_key_twice_is_one_lock() {
        let locks = KeyLocks::default();
        let key = EntryKey::Command("apply".to_owned());
        drop(locks.take(&[key.clone(), key.clone()], Instant::now()).expect("is free"));
        locks.take(&[key], Instant::now()).expect("is free again");
    }
}

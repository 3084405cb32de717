//! One change at a time for each key, within this process.
//!
//! What the local store is told of a key must be in the order in which Redis changed it. Changes of different keys do not wait for
//! each other. A waiting caller gives up at its deadline.

use std::collections::HashSet;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Code, Error, Result};
use crate::store::contract::local::EntryKey;

/// Who has which key. Safe from any thread.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<EntryKey>>,
    ended: Condvar,
}

/// Some keys are the caller's until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    keys: Vec<EntryKey>,
}

impl Turns {
    /// Waits for all of these keys at once, so that no two callers wait for each other.
    pub(super) fn take(&self, keys: &[EntryKey], deadline: Instant) -> Result<Turn<'_>> {
        let mut taken = self.taken.lock();
        while keys.iter().any(|key| taken.contains(key)) {
            if self.ended.wait_until(&mut taken, deadline).timed_out() && keys.iter().any(|key| taken.contains(key)) {
                let text = "another change of the same lock was under way until the deadline; nothing was changed: try again";
                return Err(Error::new(Code::Timeout, text));
            }
        }
        taken.extend(keys.iter().cloned());
        Ok(Turn { turns: self, keys: keys.to_vec() })
    }
}

#[cfg(test)]
impl Turns {
    /// Whether somebody has this key's turn.
    pub(super) fn is_taken(&self, key: &EntryKey) -> bool {
        self.taken.lock().contains(key)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock();
        for key in &self.keys {
            taken.remove(key);
        }
        drop(taken);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_has_one_turn_and_others_go_on() {
        let turns = Turns::default();
        let key = |name: &str| EntryKey::Project(name.to_owned());
        let soon = || Instant::now() + Duration::from_millis(20);
        let first = turns.take(&[key("a"), key("b")], soon()).expect("is free");
        assert_eq!(turns.take(&[key("c"), key("b")], soon()).expect_err("waits").code(), Code::Timeout);
        let other = turns.take(&[key("c")], soon()).expect("was not kept by the one who gave up");
        drop((first, other));
        turns.take(&[key("a"), key("b"), key("c")], soon()).expect("all are free");
    }

    #[test]
    fn the_same_key_twice_is_one_turn() {
        let turns = Turns::default();
        let key = EntryKey::Command("apply".to_owned());
        drop(turns.take(&[key.clone(), key.clone()], Instant::now()).expect("is free"));
        turns.take(&[key], Instant::now()).expect("is free again");
    }
}

//! The places that pulls were told.
//!
//! Invariant: such a place is there until its pull tries again for that lock, or leaves, or may have missed three reservations; and its
//! ticket stays the same one.

use std::collections::BTreeMap;

use super::scene::RESERVATION;
use super::values::pull;
use crate::queue::Queue;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Names its ticket, once somebody has looked.
    seq: Option<u64>,
    missed: u32,
    /// When somebody began to look.
    at: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Places(BTreeMap<(i64, String), Place>);

impl Places {
    pub(super) fn told(&mut self, num: i64, key: &str, now: u64) {
        self.0.insert((num, key.to_owned()), Place { seq: None, missed: 0, at: now });
    }

    /// The pull may have the lock soon, or may leave.
    pub(super) fn gives_up(&mut self, num: i64, key: Option<&str>) {
        self.0.retain(|(of, at), _| *of != num || key.is_some_and(|key| key != at));
    }

    /// What the queue was between two moments, `began` and `now`; `told` is what was known at the first.
    pub(super) fn check(&mut self, told: &Places, queue: &Queue, began: u64, now: u64) {
        for ((num, key), before) in &told.0 {
            let id = (*num, key.clone());
            if self.0.get(&id) != Some(before) {
                continue;
            }
            let ticket = queue.ticket(&pull(*num)).filter(|ticket| ticket.want(key).is_some());
            if let Some(ticket) = ticket {
                let is_same = before.seq.is_none_or(|seq| seq == ticket.seq);
                assert!(is_same, "#{num} waits for {key} from another place than before");
                self.0.insert(id, Place { seq: Some(ticket.seq), missed: ticket.missed, at: began });
                continue;
            }
            let reservation = u64::try_from(RESERVATION.as_micros()).expect("is short");
            let more = now.saturating_sub(before.at) / reservation + 1;
            let may_have_left = u64::from(before.missed) + more >= 3;
            assert!(may_have_left, "#{num} has no place for {key} any more, at {now}: {before:?} in {queue:?}");
            self.0.remove(&id);
        }
    }
}

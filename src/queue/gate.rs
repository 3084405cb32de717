//! What the grant of a key obeys, derived from the tickets alone.

use std::collections::{BTreeMap, BTreeSet};

use super::state::Queue;
use super::ticket::{PullId, Want};

/// Whom a key that is free may be granted to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// To anybody: nobody waits for the key.
    Open,
    /// To nobody, until it is known who is next.
    Closed,
    /// To this pull alone.
    Reserved(PullId),
}

impl Gate {
    /// Whether a grant to this pull may be made.
    pub fn admits(&self, pull: Option<&PullId>) -> bool {
        match self {
            Gate::Open => true,
            Gate::Closed => false,
            Gate::Reserved(to) => pull.is_some_and(|pull| pull.is(to)),
        }
    }
}

/// Whether a key has a gate, by this document, that lets the pull in; `None` if it keeps the pull out. What cannot be read keeps nobody
/// out: order only delays, and must not block.
pub fn lets_in(document: &[u8], key: &str, pull: &PullId) -> Option<bool> {
    let Ok(queue) = Queue::decode(Some(document)) else { return Some(false) };
    let gate = queue.gate(key);
    gate.admits(Some(pull)).then_some(gate != Gate::Open)
}

impl Queue {
    /// What the grant of this key obeys.
    pub fn gate(&self, key: &str) -> Gate {
        let mut gate = Gate::Open;
        for ticket in &self.tickets {
            match ticket.want(key) {
                Some(Want::Reserved { .. }) => return Gate::Reserved(ticket.pull().clone()),
                Some(Want::Waiting) => gate = Gate::Closed,
                None => {}
            }
        }
        gate
    }

    /// The gates of all keys that are wanted; every other one is open.
    pub fn gates(&self) -> BTreeMap<&str, Gate> {
        let mut gates = BTreeMap::new();
        for ticket in &self.tickets {
            for (key, want) in &ticket.wants {
                if want.is_reserved() {
                    gates.insert(key.as_str(), Gate::Reserved(ticket.pull().clone()));
                } else {
                    gates.entry(key.as_str()).or_insert(Gate::Closed);
                }
            }
        }
        gates
    }

    /// Whether this key, if it is free, may be granted to this pull.
    pub fn admits(&self, key: &str, pull: Option<&PullId>) -> bool {
        self.gate(key).admits(pull)
    }

    /// The keys whose holders a dispatch must know when these were freed: those of them that are wanted, and all keys of each whole
    /// set that has one of the keys to look at. Without any: all that are wanted.
    pub fn keys_to_look_at(&self, freed: &[String]) -> BTreeSet<String> {
        let wanted = || self.tickets.iter().flat_map(|ticket| ticket.wants.keys());
        if freed.is_empty() {
            return wanted().cloned().collect();
        }
        let mut keys: BTreeSet<String> = wanted().filter(|key| freed.contains(key)).cloned().collect();
        let mut sets: Vec<_> = self.tickets.iter().filter(|ticket| ticket.whole).collect();
        loop {
            let before = sets.len();
            sets.retain(|set| {
                let concerned = set.wants.keys().any(|key| keys.contains(key));
                if concerned {
                    keys.extend(set.wants.keys().cloned());
                }
                !concerned
            });
            if sets.len() == before {
                return keys;
            }
        }
    }
}

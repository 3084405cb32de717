//! What goes wrong in one life, by chance.

use std::io::ErrorKind;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::simulated::{Fate, Hook, Operation, Random, What};

/// The kind of a life's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    None,
    /// One operation is the last.
    Dies,
    /// One operation fails.
    Fails,
    /// From one on, all fail.
    GoesOn,
    /// The disk has room for little more.
    Full,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub kind: Kind,
    /// At which operation.
    at: u64,
    part: u8,
    error: ErrorKind,
    seen: u64,
    /// The operation that met the fault first.
    pub hit: Option<What>,
    /// What was done, and how it ended: the course of events.
    pub digest: u64,
}

impl Plan {
    pub(super) fn random(random: &mut Random) -> Plan {
        let kind = match random.below(100) {
            0..40 => Kind::Dies,
            40..65 => Kind::Fails,
            65..75 => Kind::GoesOn,
            75..87 => Kind::Full,
            _ => Kind::None,
        };
        // Opening is half of all that matters.
        let end = if random.percent(50) { 70 } else { 400 };
        let at = random.below(end);
        let part = match random.below(4) {
            0 => 0,
            1 => 255,
            _ => random.below(256) as u8,
        };
        let error = if random.percent(40) { ErrorKind::StorageFull } else { ErrorKind::Other };
        Plan { kind, at, part, error, seen: 0, hit: None, digest: 0 }
    }

    /// Nothing goes wrong.
    pub(super) fn none() -> Plan {
        Plan { kind: Kind::None, at: 0, part: 0, error: ErrorKind::Other, seen: 0, hit: None, digest: 0 }
    }

    fn fate(&mut self, operation: &Operation<'_>) -> Fate {
        self.seen += 1;
        let fate = match self.kind {
            Kind::Dies if self.seen == self.at + 1 => Fate::Dies(self.part),
            Kind::Fails if self.seen == self.at + 1 => Fate::Fails(self.error, self.part),
            Kind::GoesOn if self.seen > self.at => Fate::Fails(self.error, self.part),
            _ => Fate::Done,
        };
        if fate != Fate::Done {
            self.hit.get_or_insert(operation.what);
        }
        let text = format!("{operation:?} {fate:?}");
        self.digest = xxhash_rust::xxh3::xxh3_64_with_seed(text.as_bytes(), self.digest);
        fate
    }
}

/// The hook of a life with this plan.
pub(super) fn hook(plan: &Arc<Mutex<Plan>>) -> Hook {
    let plan = Arc::clone(plan);
    Arc::new(move |operation| plan.lock().fate(operation))
}

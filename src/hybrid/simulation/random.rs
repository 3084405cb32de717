//! Chance: one source for everything that happens, drawn from in order, so that a seed repeats its schedule.
//!
//! Real threads that draw at the same time would draw in any order: the simulation has one thread.

use parking_lot::Mutex;

use crate::store::sled::simulated;

/// The disk's numbers, for all who share the world.
#[derive(Debug)]
pub(crate) struct Random(Mutex<simulated::Random>);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Mutex::new(simulated::Random::new(seed)))
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.0.lock().below(end)
    }

    /// One of the indexes of a list of this length.
    pub(crate) fn index(&self, len: usize) -> usize {
        self.0.lock().index(len)
    }

    pub(crate) fn percent(&self, chance: u64) -> bool {
        self.0.lock().percent(chance)
    }
}

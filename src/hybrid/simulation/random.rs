//! Chance: one source for everything that happens, drawn from in order, so that a seed repeats its schedule.
//!
//! Real threads that draw at the same time would draw in any order: only single courses of events have threads.

use parking_lot::Mutex;

/// `SplitMix64` (Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug)]
pub(super) struct Random(Mutex<u64>);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(Mutex::new(seed))
    }

    fn next(&self) -> u64 {
        let mut state = self.0.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of the indexes of a list of this length.
    pub(super) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("is small")
    }

    pub(super) fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

//! Time, which passes only when the schedule lets it pass or somebody waits: Redis's clock, and the machines', which differ from
//! it by a constant.
//!
//! Beyond it: clocks that drift, and a wall clock that is set while a server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::random::Random;
use crate::clock::Clock;

/// Redis's clock, and the time that passes for everybody.
#[derive(Debug)]
pub(super) struct SimulatedClock {
    base: Instant,
    micros: AtomicU64,
    random: Random,
    /// Whether there are real threads that wait for each other: nobody is to wait in simulated time then.
    pub(super) has_threads: AtomicBool,
}

impl SimulatedClock {
    pub(super) fn new(seed: u64) -> SimulatedClock {
        SimulatedClock {
            base: Instant::now(),
            micros: AtomicU64::new(0),
            random: Random::new(seed),
            has_threads: AtomicBool::new(false),
        }
    }

    pub(super) fn advance(&self, time: Duration) {
        self.micros.fetch_add(u64::try_from(time.as_micros()).expect("is short"), Ordering::SeqCst);
    }

    pub(super) fn advance_to(&self, moment: Instant) {
        self.advance(moment.saturating_duration_since(self.now()));
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Instant {
        self.base + Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> u64 {
        1_700_000_000_000_000 + self.micros.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) {
        self.advance(time);
    }

    fn jitter(&self) -> f64 {
        f64::from(u32::try_from(self.random.below(1001)).expect("is small")) / 1000.0
    }
}

/// The clock of one server's machine: its wall clock is ahead of Redis's, or behind.
#[derive(Debug)]
pub(super) struct MachineClock {
    pub(super) of_redis: Arc<SimulatedClock>,
    /// Microseconds.
    pub(super) ahead: i64,
}

impl Clock for MachineClock {
    fn now(&self) -> Instant {
        self.of_redis.now()
    }

    fn unix_micros(&self) -> u64 {
        self.of_redis.unix_micros().saturating_add_signed(self.ahead)
    }

    fn sleep(&self, time: Duration) {
        self.of_redis.sleep(time);
    }

    fn jitter(&self) -> f64 {
        self.of_redis.jitter()
    }
}

//! Time, which passes only when the schedule lets it pass: Redis's clock, and the machines', which differ from it, drift, and are set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::random::Random;
use crate::clock::Clock;
use crate::sync::tasks;

/// Redis's clock, and the time that passes for everybody.
#[derive(Debug)]
pub(crate) struct SimulatedClock {
    base: Instant,
    micros: AtomicU64,
    /// By how much the processes are late: a test says so.
    pub(crate) late_micros: AtomicU64,
    random: Random,
}

impl SimulatedClock {
    pub(crate) fn new(seed: u64) -> SimulatedClock {
        SimulatedClock {
            base: Instant::now(),
            micros: AtomicU64::new(0),
            late_micros: AtomicU64::new(0),
            random: Random::new(seed),
        }
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.micros.fetch_add(u64::try_from(time.as_micros()).expect("is short"), Ordering::SeqCst);
    }

    pub(crate) fn advance_to(&self, moment: Instant) {
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

    /// A task gives way until then.
    fn sleep(&self, time: Duration) {
        if tasks::in_task() { tasks::sleep_until(self.now() + time) } else { self.advance(time) }
    }

    fn lateness(&self) -> Duration {
        Duration::from_micros(self.late_micros.load(Ordering::SeqCst))
    }

    fn jitter(&self) -> f64 {
        f64::from(u32::try_from(self.random.below(1001)).expect("is small")) / 1000.0
    }
}

/// When somebody corrects a clock that has drifted by so much, microseconds.
const CORRECTED: i64 = 15_000_000;

/// The clock of one server's machine: its wall clock is ahead of Redis's, or behind, and goes faster or slower. Together that stays below the
/// minute by which clocks may differ (docs/reliability.md).
#[derive(Debug)]
pub(crate) struct MachineClock {
    of_redis: Arc<SimulatedClock>,
    /// Microseconds.
    ahead: AtomicI64,
    /// Microseconds a second.
    drift: i64,
}

impl MachineClock {
    pub(crate) fn new(of_redis: Arc<SimulatedClock>, ahead: i64, drift: i64) -> MachineClock {
        MachineClock { of_redis, ahead: AtomicI64::new(ahead), drift }
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::SeqCst);
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Instant {
        self.of_redis.now()
    }

    fn unix_micros(&self) -> u64 {
        let seconds = i64::try_from(self.of_redis.micros.load(Ordering::SeqCst) / 1_000_000).expect("is short");
        self.of_redis.unix_micros().saturating_add_signed(self.ahead.load(Ordering::SeqCst) + seconds * self.drift % CORRECTED)
    }

    fn sleep(&self, time: Duration) {
        self.of_redis.sleep(time);
    }

    fn lateness(&self) -> Duration {
        self.of_redis.lateness()
    }

    fn jitter(&self) -> f64 {
        self.of_redis.jitter()
    }
}

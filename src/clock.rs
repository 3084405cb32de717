//! Time and randomness, injected so that tests can decide both.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Monotonic time, for deadlines.
    fn now(&self) -> Instant;
    /// Wall clock, microseconds since 1970, for fencing tokens.
    fn unix_micros(&self) -> u64;
    /// Waits for so long.
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
    /// By how much this process is late just now: how much longer a short sleep lasts than was asked for. It waits for a processor, then.
    ///
    /// Takes a millisecond, and as long as the process is late.
    fn lateness(&self) -> Duration {
        const SHORT: Duration = Duration::from_millis(1);
        let asked = self.now();
        self.sleep(SHORT);
        self.now().saturating_duration_since(asked).saturating_sub(SHORT)
    }
    /// A number from 0 to 1, so that several servers do not do the same at the same moments.
    fn jitter(&self) -> f64 {
        getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_micros(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

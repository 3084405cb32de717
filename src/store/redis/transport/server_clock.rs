//! What time it is on the server, in microseconds since 1970: an offset to this process's monotonic clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

/// Safe from any thread.
#[derive(Debug)]
pub(in crate::store::redis) struct ServerClock {
    base: Instant,
    offset: AtomicI64,
}

impl ServerClock {
    /// A clock that knows nothing yet, of which nobody will ask what it showed before `base`.
    pub(super) fn new(base: Instant) -> ServerClock {
        ServerClock { base, offset: AtomicI64::new(0) }
    }

    /// Learns that the server's clock showed `micros` some time before `received`. That it did so only then is what counts: the
    /// moments that follow are early rather than late.
    pub(in crate::store::redis) fn learn(&self, micros: i64, received: Instant) {
        self.offset.store(micros - self.since_base(received), Ordering::Relaxed);
    }

    /// What the server's clock shows at `moment`.
    pub(in crate::store::redis) fn at(&self, moment: Instant) -> i64 {
        self.since_base(moment) + self.offset.load(Ordering::Relaxed)
    }

    fn since_base(&self, moment: Instant) -> i64 {
        i64::try_from(moment.saturating_duration_since(self.base).as_micros()).unwrap_or(i64::MAX / 2)
    }
}

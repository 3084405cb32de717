//! How long the way to a server takes, there and back.
//!
//! It is the shortest exchange of the last ten to twenty seconds: what an exchange takes beyond it, commands waited or worked. That is how BBR
//! finds the round trip of a path (Cardwell, Cheng, Gunn, Yeganeh, Jacobson, ACM Queue 14(5), 2016, `RTprop`).

use std::time::{Duration, Instant};

/// How long a shortest exchange is collected for.
const WINDOW: Duration = Duration::from_secs(10);

/// The shortest exchanges of this window and of the one before.
#[derive(Default)]
pub(super) struct RoundTrip {
    begun: Option<Instant>,
    shortest: Option<Duration>,
    before: Option<Duration>,
}

impl RoundTrip {
    /// An exchange took this long, and ends now.
    pub(super) fn learn(&mut self, took: Duration, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        if now.duration_since(begun) >= WINDOW {
            (self.before, self.shortest, self.begun) = (self.shortest.take(), None, Some(now));
        }
        self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
    }

    /// `None` before the first exchange.
    pub(super) fn get(&self) -> Option<Duration> {
        self.shortest.into_iter().chain(self.before).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_exchange_counts_until_it_is_old() {
        let (mut trip, start) = (RoundTrip::default(), Instant::now());
        let (at, micros) = (|secs| start + Duration::from_secs(secs), Duration::from_micros);
        assert_eq!(trip.get(), None);
        trip.learn(micros(500), at(0));
        trip.learn(micros(60), at(1));
        trip.learn(micros(9_000), at(9));
        assert_eq!(trip.get(), Some(micros(60)));
        // The way is longer now: that is known when no window has the short one any more.
        trip.learn(micros(700), at(11));
        assert_eq!(trip.get(), Some(micros(60)));
        trip.learn(micros(800), at(22));
        assert_eq!(trip.get(), Some(micros(700)));
        // A shorter way is known at once.
        trip.learn(micros(40), at(23));
        assert_eq!(trip.get(), Some(micros(40)));
    }
}

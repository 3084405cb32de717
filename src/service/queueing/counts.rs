//! What was counted of waiting and holding since the start, and what the last look at everything found.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::queue::{Event, Priority, Queue};
use crate::sync::Mutex;

/// Upper bounds of the buckets of waits, in seconds: from a lock that was just released to the longest that a caller may wait.
const WAITS: [f64; 14] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0, 86_400.0];

type Label = [(&'static str, &'static str); 1];

/// What was counted since the start, and last seen. Safe from any thread.
#[derive(Debug)]
pub(in crate::service) struct Waits {
    pub(super) counts: Mutex<Counts>,
    registry: Registry,
    waited: Histogram,
    reservations: Family<Label, Counter>,
    deadlocks: Family<Label, Counter>,
    tickets: Family<Label, Gauge>,
    oldest: Gauge<f64, AtomicU64>,
    old_locks: Gauge,
    freezes: Gauge,
}

/// Sums and numbers, of which averages are made.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) waited: Duration,
    pub(super) waits: u64,
    pub(super) held: Duration,
    pub(super) holds: u64,
    /// When this process took the locks that it knows to be held.
    since: HashMap<String, Instant>,
}

/// What a look at everything found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    tickets: [i64; PRIORITIES.len()],
    oldest: Option<u64>,
}

const PRIORITIES: [(Priority, &str); 4] =
    [(Priority::Low, "low"), (Priority::Normal, "normal"), (Priority::High, "high"), (Priority::Critical, "critical")];

impl Seen {
    /// A queue was looked at.
    pub(super) fn add(&mut self, queue: &Queue) {
        for ticket in queue.tickets() {
            self.tickets[ticket.priority as usize] += 1;
            self.oldest = Some(self.oldest.map_or(ticket.since, |oldest| oldest.min(ticket.since)));
        }
    }
}

impl Default for Waits {
    fn default() -> Waits {
        let mut waits = Waits {
            counts: Mutex::default(),
            registry: Registry::with_prefix("atlock"),
            waited: Histogram::new(WAITS),
            reservations: Family::default(),
            deadlocks: Family::default(),
            tickets: Family::default(),
            oldest: Gauge::default(),
            old_locks: Gauge::default(),
            freezes: Gauge::default(),
        };
        let registry = &mut waits.registry;
        registry.register("queue_tickets", "Pulls that wait, when all queues were last looked at", waits.tickets.clone());
        let help = "How long the pull has waited that waits the longest";
        registry.register_with_unit("queue_oldest", help, Unit::Seconds, waits.oldest.clone());
        let help = "How long callers waited who got their lock";
        registry.register_with_unit("queue_wait", help, Unit::Seconds, waits.waited.clone());
        registry.register(
            "reservations",
            "Free locks that were kept for a pull, and what came of it",
            waits.reservations.clone(),
        );
        registry.register("deadlocks", "Circles of pulls that hold what the next one waits for", waits.deadlocks.clone());
        registry.register(
            "locks_old",
            "Locks that are held for longer than locking.enhanced.timeouts.max",
            waits.old_locks.clone(),
        );
        registry.register("freezes", "Freezes in force", waits.freezes.clone());
        waits
    }
}

impl Waits {
    /// All of it as OpenMetrics text, without the end line.
    pub(in crate::service) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        // The one end line is that of all families.
        text.truncate(text.strip_suffix("# EOF\n").map_or(text.len(), str::len));
        text
    }

    /// A caller waited, and has the lock.
    pub(super) fn waited(&self, how_long: Duration) {
        self.waited.observe(how_long.as_secs_f64());
        let mut counts = self.counts.lock();
        counts.waited += how_long;
        counts.waits += 1;
    }

    pub(in crate::service) fn taken(&self, key: &str, now: Instant) {
        self.counts.lock().since.insert(key.to_owned(), now);
    }

    pub(in crate::service) fn released(&self, key: &str, now: Instant) {
        let mut counts = self.counts.lock();
        if let Some(since) = counts.since.remove(key) {
            counts.held += now - since;
            counts.holds += 1;
        }
    }

    /// A circle was confirmed.
    pub(super) fn deadlock(&self) {
        self.deadlocks.get_or_create(&[("result", "found")]).inc();
    }

    /// A pull gave locks back to end a circle.
    pub(super) fn yielded(&self) {
        self.deadlocks.get_or_create(&[("result", "yielded")]).inc();
    }

    pub(super) fn count(&self, events: &[Event]) {
        for event in events {
            let result = match event {
                Event::Reserved { .. } => "made",
                Event::Missed { .. } => "missed",
                Event::Withdrawn { .. } => "withdrawn",
                Event::Took { .. } | Event::Left { .. } => continue,
            };
            self.reservations.get_or_create(&[("result", result)]).inc();
        }
    }

    /// All queues were looked at, at this time, microseconds since 1970.
    pub(super) fn saw(&self, seen: &Seen, now: u64) {
        for ((_, name), tickets) in PRIORITIES.iter().zip(seen.tickets) {
            self.tickets.get_or_create(&[("priority", *name)]).set(tickets);
        }
        let age = seen.oldest.map_or(0, |oldest| now.saturating_sub(oldest));
        self.oldest.set(Duration::from_micros(age).as_secs_f64());
    }

    /// So many locks are old, and so many freezes in force.
    pub(super) fn saw_locks(&self, old: usize, freezes: usize) {
        self.old_locks.set(i64::try_from(old).unwrap_or(i64::MAX));
        self.freezes.set(i64::try_from(freezes).unwrap_or(i64::MAX));
    }
}

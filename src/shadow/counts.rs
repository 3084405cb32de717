//! What is counted and told of a shadow.
//!
//! Invariant: each operation that is told to the shadow is counted once, by its name and by what came of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

use crate::operation::Operation;
use crate::sync::Mutex;

/// Differences that are remembered.
const REMEMBERED: usize = 20;
/// Upper bounds of the histogram's buckets, in seconds.
const BUCKETS: [f64; 14] = [50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1.0, 5.0];
/// The operations that a shadow follows.
const FOLLOWED: [Operation; 11] = [
    Operation::TryLock,
    Operation::Unlock,
    Operation::List,
    Operation::GetLock,
    Operation::UnlockByPull,
    Operation::LockCommand,
    Operation::UnlockCommand,
    Operation::CheckCommandLock,
    Operation::PullStatus,
    Operation::SwapPullStatus,
    Operation::Discard,
];

/// What came of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Same,
    Different,
    Uncertain,
    Dropped,
    Failed,
}

const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Same, "same"),
    (Outcome::Different, "different"),
    (Outcome::Uncertain, "uncertain"),
    (Outcome::Dropped, "dropped"),
    (Outcome::Failed, "failed"),
];

/// How the shadow stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is being opened.
    #[default]
    Opening,
    /// It follows.
    Following,
    /// It was opened, and does not answer.
    Failing,
    /// It cannot be opened, or must not be.
    Refused,
}

/// An operation on which the shadow decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// When it was found, microseconds since 1970.
    pub at: u64,
    /// The operation.
    pub operation: &'static str,
    /// What it was asked of: a lock, a command's lock, a pull status.
    pub key: String,
    /// What was decided.
    pub decided: String,
    /// What the shadow would have decided.
    pub shadow: String,
}

/// What an operator sees of a shadow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Which store it is.
    pub store: String,
    /// How it stands.
    pub state: State,
    /// Why it does not follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Whether it has all project locks, so that a difference is one.
    pub in_step: bool,
    /// Operations that were told to it.
    pub operations: u64,
    /// It decided the same.
    pub same: u64,
    /// It decided otherwise.
    pub different: u64,
    /// Not compared: operations that crossed, or the first at a key after that.
    pub uncertain: u64,
    /// Not compared: too many waited.
    pub dropped: u64,
    /// Not compared: the shadow did not answer.
    pub failed: u64,
    /// How many wait now.
    pub waiting: usize,
    /// How long an operation took in the store that decides, milliseconds, on average over those that were compared.
    pub decided_ms: f64,
    /// How long it took in the shadow.
    pub shadow_ms: f64,
    /// The last differences, the newest last.
    pub differences: Vec<Difference>,
}

/// The counters. Safe from any thread.
#[derive(Debug)]
pub(super) struct Counts {
    registry: Registry,
    operations: Family<[(&'static str, &'static str); 2], Counter>,
    durations: Family<[(&'static str, &'static str); 2], Histogram>,
    in_step: Gauge,
    totals: [AtomicU64; OUTCOMES.len()],
    compared: AtomicU64,
    decided_micros: AtomicU64,
    shadow_micros: AtomicU64,
    told: Mutex<Reported>,
}

#[derive(Debug, Default)]
struct Reported {
    state: State,
    because: Option<String>,
    differences: VecDeque<Difference>,
}

impl Counts {
    pub fn new() -> Counts {
        let mut counts = Counts {
            registry: Registry::with_prefix("atlock_shadow"),
            operations: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_step: Gauge::default(),
            totals: Default::default(),
            compared: AtomicU64::new(0),
            decided_micros: AtomicU64::new(0),
            shadow_micros: AtomicU64::new(0),
            told: Mutex::default(),
        };
        for operation in FOLLOWED {
            for (_, result) in OUTCOMES {
                drop(counts.operations.get_or_create(&[("operation", operation.name()), ("result", result)]));
            }
        }
        let registry = &mut counts.registry;
        registry.register("operations", "Operations by what the shadow would have decided", counts.operations.clone());
        registry.register_with_unit(
            "duration",
            "How long operations took that were compared, in the store that decides and in the shadow",
            Unit::Seconds,
            counts.durations.clone(),
        );
        registry.register("in_step", "1 while the shadow has all project locks", counts.in_step.clone());
        counts
    }

    pub fn count(&self, operation: Operation, outcome: Outcome) {
        let (_, result) = OUTCOMES[outcome as usize];
        self.operations.get_or_create(&[("operation", operation.name()), ("result", result)]).inc();
        self.totals[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How long both took.
    pub fn took(&self, operation: Operation, decided: Duration, shadow: Duration) {
        for (store, took, sum) in [("decides", decided, &self.decided_micros), ("shadow", shadow, &self.shadow_micros)] {
            self.durations.get_or_create(&[("operation", operation.name()), ("store", store)]).observe(took.as_secs_f64());
            sum.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.compared.fetch_add(1, Ordering::Relaxed);
    }

    pub fn differs(&self, difference: Difference) {
        let differences = &mut self.told.lock().differences;
        if differences.len() == REMEMBERED {
            differences.pop_front();
        }
        differences.push_back(difference);
    }

    pub fn stands(&self, state: State, because: Option<String>) {
        let mut told = self.told.lock();
        (told.state, told.because) = (state, because);
    }

    pub fn is_in_step(&self, is_in_step: bool) {
        self.in_step.set(i64::from(is_in_step));
    }

    /// Why it does not follow.
    pub fn warning(&self) -> Option<String> {
        self.told.lock().because.clone()
    }

    pub fn report(&self, store: &str, waiting: usize) -> Report {
        let of = |outcome: Outcome| self.totals[outcome as usize].load(Ordering::Relaxed);
        let [same, different, uncertain, dropped, failed] = OUTCOMES.map(|(outcome, _)| of(outcome));
        let compared = self.compared.load(Ordering::Relaxed).max(1);
        #[allow(clippy::cast_precision_loss)]
        let average = |sum: &AtomicU64| (sum.load(Ordering::Relaxed) / compared) as f64 / 1e3;
        let told = self.told.lock();
        Report {
            store: store.to_owned(),
            state: told.state,
            because: told.because.clone(),
            in_step: self.in_step.get() == 1,
            operations: same + different + uncertain + dropped + failed,
            same,
            different,
            uncertain,
            dropped,
            failed,
            waiting,
            decided_ms: average(&self.decided_micros),
            shadow_ms: average(&self.shadow_micros),
            differences: told.differences.iter().cloned().collect(),
        }
    }

    /// Whole families of OpenMetrics text, without the end line.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        text.trim_end_matches("# EOF\n").to_owned()
    }
}

//! Hybrid mode for Prometheus: counters of what it did, and gauges of what its report says at the moment of asking.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::breaker::{Breaker, State};
use super::status::Report;

/// Upper bounds of the histogram's buckets, in seconds: reading all of Redis takes a minute at most.
const BUCKETS: [f64; 12] = [1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1.0, 5.0, 15.0, 60.0];

type Label = [(&'static str, &'static str); 1];

/// What was done since the start. The breaker counts its transitions itself.
#[derive(Debug)]
pub(super) struct Metrics {
    recovered: Counter,
    not_recovered: Counter,
    durations: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics { recovered: Counter::default(), not_recovered: Counter::default(), durations: Histogram::new(BUCKETS) }
    }
}

impl Metrics {
    /// A recovery ended well.
    pub fn recovered(&self, took: Duration) {
        self.recovered.inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// A recovery failed; it will be tried again.
    pub fn not_recovered(&self) {
        self.not_recovered.inc();
    }

    /// Whole families of OpenMetrics text, without the end line.
    pub fn text(&self, report: &Report, breaker: &Breaker) -> String {
        let mut registry = Registry::with_prefix("atlock");
        self.register_breaker(&mut registry, breaker);
        let mut gauge = |name, help, value: usize| registry.register(name, help, ConstGauge::new(value as u64));
        gauge("fallback_active", "Whether the local store decides in Redis's place", report.fallback_active.into());
        gauge("armed", "Whether the local store may grant while Redis is away", report.armed.into());
        gauge("unsynced_keys", "Keys decided here that Redis does not know of yet", report.journal_length);
        gauge("conflicts", "Locks that both stores granted", report.conflicts.len());
        self.register_recoveries(&mut registry);
        register_stores(&mut registry, report);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &registry);
        text
    }

    fn register_breaker(&self, registry: &mut Registry, breaker: &Breaker) {
        let (states, transitions) = (Family::<Label, Gauge>::default(), Family::<Label, Counter>::default());
        for (state, name) in [(State::Closed, "closed"), (State::Open, "open"), (State::HalfOpen, "half_open")] {
            states.get_or_create_owned(&[("state", name)]).set((breaker.state() == state).into());
            transitions.get_or_create_owned(&[("to", name)]).inc_by(breaker.transitions(state));
        }
        registry.register("circuit_state", "1 for the breaker's state, 0 for the others", states);
        registry.register("circuit_transitions", "How often the breaker entered a state", transitions);
    }

    fn register_recoveries(&self, registry: &mut Registry) {
        let recoveries = Family::<Label, Counter>::default();
        for (result, counter) in [("ok", &self.recovered), ("failed", &self.not_recovered)] {
            recoveries.get_or_create_owned(&[("result", result)]).inc_by(counter.get());
        }
        let help = "How often both stores were brought together, the start included";
        registry.register("recoveries", help, recoveries);
        let help = "How long the recoveries took that ended well";
        registry.register_with_unit("recovery_duration", help, Unit::Seconds, self.durations.clone());
    }
}

fn register_stores(registry: &mut Registry, report: &Report) {
    let (healthy, response) = (Family::<Label, Gauge>::default(), Family::<Label, Gauge<f64, AtomicU64>>::default());
    for (store, health) in [("enhanced", &report.enhanced), ("legacy", &report.legacy)] {
        healthy.get_or_create_owned(&[("store", store)]).set(health.healthy.into());
        response.get_or_create_owned(&[("store", store)]).set(health.response_time_ms / 1e3);
    }
    registry.register("store_healthy", "Whether the store answered its last probe", healthy);
    registry.register_with_unit("store_response", "How long the store's last probe took", Unit::Seconds, response);
}

//! What the service did, for an operator and for Prometheus: how often, how long it took, how it ended. Counters only ever
//! grow, from zero at the service's start.
//!
//! Counting costs an operation some tens of nanoseconds: the children of each store are looked up by index, never by label.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::call::AnsweredBy;
use crate::config::Mode;
use crate::operation::{Ending, OPERATIONS, Operation};

/// The content type of [`Service::metrics`](crate::service::Service::metrics).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the histogram's buckets, in seconds: from a held lock on the embedded store to the longest timeouts.
const BUCKETS: [f64; 18] =
    [25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5, 5.0, 10.0];

/// The counters that [`Service::status`](crate::service::Service::status) shows, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Operations that strict mode's store answered, or in hybrid mode the local store where Redis is not asked at all.
    pub legacy_ops: u64,
    /// Operations that Redis answered.
    pub enhanced_ops: u64,
    /// Operations that the local store answered in Redis's place.
    pub fallback_ops: u64,
    /// Operations that ended with an error; each is counted with its store, too.
    pub errors: u64,
}

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Counters and histograms of one service. Safe from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    operations: Family<Labels<3>, Counter>,
    durations: Family<Labels<2>, Histogram>,
    errors: Family<Labels<2>, Counter>,
    /// By [`AnsweredBy`]; a store that never answered has no series.
    stores: [OnceLock<StoreMetrics>; 3],
}

/// The children of one store, by [`Operation`].
#[derive(Debug)]
struct StoreMetrics([OperationMetrics; OPERATIONS.len()]);

#[derive(Debug)]
struct OperationMetrics {
    ok: Counter,
    /// Operations that grant nothing have none.
    refused: Option<Counter>,
    error: Counter,
    /// From the first operation on: it has a line for each bound, and most operations are never asked for.
    duration: OnceLock<Histogram>,
}

impl Metrics {
    /// Zeroes, for a service of this mode.
    pub fn new(mode: Mode) -> Metrics {
        let info = Family::<Labels<2>, Gauge>::default();
        info.get_or_create(&[("version", env!("CARGO_PKG_VERSION")), ("mode", mode.name())]).set(1);
        let metrics = Metrics {
            registry: Registry::with_prefix("atlock"),
            operations: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            errors: Family::default(),
            stores: Default::default(),
        };
        for store in stores(mode) {
            metrics.store(*store);
        }
        metrics.registered(info)
    }

    fn registered(mut self, info: Family<Labels<2>, Gauge>) -> Metrics {
        let registry = &mut self.registry;
        registry.register("info", "Always 1; the labels tell the library's version and mode", info);
        registry.register("operations", "Operations by the store that answered and how they ended", self.operations.clone());
        registry.register("errors", "Operations that ended with an error, by its code", self.errors.clone());
        let help = "How long operations took, for the caller";
        registry.register_with_unit("operation_duration", help, Unit::Seconds, self.durations.clone());
        self
    }

    /// Counts one operation.
    pub fn count(&self, operation: Operation, store: AnsweredBy, ending: Ending, took: Duration) {
        let metrics = &self.store(store).0[operation as usize];
        let name = OPERATIONS[operation as usize].1;
        let labels = [("operation", name), ("store", store.name())];
        match (ending, &metrics.refused) {
            (Ending::Refused, Some(refused)) => refused.inc(),
            (Ending::Ok | Ending::Refused, _) => metrics.ok.inc(),
            (Ending::Error(code), _) => {
                self.errors.get_or_create(&[("store", store.name()), ("code", code.name())]).inc();
                metrics.error.inc()
            }
        };
        metrics.duration.get_or_init(|| self.durations.get_or_create_owned(&labels)).observe(took.as_secs_f64());
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let of = |store: AnsweredBy| self.stores[store as usize].get().map_or((0, 0), StoreMetrics::totals);
        let (legacy, enhanced, fallback) = (of(AnsweredBy::Legacy), of(AnsweredBy::Enhanced), of(AnsweredBy::Fallback));
        Snapshot {
            legacy_ops: legacy.0,
            enhanced_ops: enhanced.0,
            fallback_ops: fallback.0,
            errors: legacy.1 + enhanced.1 + fallback.1,
        }
    }

    /// How many of these operations ended as asked, and how many otherwise.
    pub fn ended(&self, operation: Operation) -> (u64, u64) {
        let of_store = |store: &StoreMetrics| {
            let metrics = &store.0[operation as usize];
            (metrics.ok.get(), metrics.refused.as_ref().map_or(0, Counter::get) + metrics.error.get())
        };
        let all = self.stores.iter().filter_map(OnceLock::get).map(of_store);
        all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Adds a counter that is kept elsewhere.
    pub fn register(&mut self, name: &str, help: &str, counter: Counter) {
        self.registry.register(name, help, counter);
    }

    /// All of it as OpenMetrics text, without the end line: more may follow.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        text
    }

    fn store(&self, store: AnsweredBy) -> &StoreMetrics {
        self.stores[store as usize].get_or_init(|| {
            let by = ("store", store.name());
            StoreMetrics(OPERATIONS.map(|(operation, name)| {
                let ended = |result| self.operations.get_or_create_owned(&[("operation", name), by, ("result", result)]);
                let grants = matches!(operation, Operation::TryLock | Operation::LockCommand | Operation::Lock);
                OperationMetrics {
                    ok: ended("ok"),
                    refused: grants.then(|| ended("refused")),
                    error: ended("error"),
                    duration: OnceLock::new(),
                }
            }))
        })
    }
}

impl StoreMetrics {
    /// All operations, and those that ended with an error.
    fn totals(&self) -> (u64, u64) {
        let errors: u64 = self.0.iter().map(|metrics| metrics.error.get()).sum();
        let others: u64 = self.0.iter().map(|metrics| metrics.ok.get() + metrics.refused.as_ref().map_or(0, Counter::get)).sum();
        (errors + others, errors)
    }
}

/// A family of its own, as OpenMetrics text: how many warnings the status has now.
pub fn warnings(count: usize) -> String {
    format!(
        "# HELP atlock_warnings Conditions that endanger a promise; the status tells them.\n\
         # TYPE atlock_warnings gauge\natlock_warnings {count}\n"
    )
}

/// The stores that may answer in this mode.
fn stores(mode: Mode) -> &'static [AnsweredBy] {
    match mode {
        Mode::Strict => &[AnsweredBy::Legacy],
        Mode::Native => &[AnsweredBy::Enhanced],
        Mode::Hybrid => &[AnsweredBy::Enhanced, AnsweredBy::Fallback],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::Config;
    use crate::error::Code;
    use crate::service::Service;

    const SECRET: &str = "s3cr3t-token";

    fn service(folder: &tempfile::TempDir) -> Service {
        let settings = format!("locking: {{backend: sled, data_dir: {:?}}}", folder.path());
        Service::open(&Config::parse(&settings, "test").expect("parses"), None, Arc::new(SystemClock)).expect("opens")
    }

    fn lock(num: i64) -> Vec<u8> {
        format!(
            r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"."}},"Workspace":"default","Pull":{{"Num":{num},"BaseRepo":{{"CloneURL":"https://x:{SECRET}@example.com"}}}}}}"#
        )
        .into_bytes()
    }

    /// The samples of an OpenMetrics text: name and labels, as written, to value. Panics on what the format does not allow.
    fn samples(text: &str) -> BTreeMap<String, f64> {
        let body = text.strip_suffix("# EOF\n").expect("ends with the end line");
        let mut samples = BTreeMap::new();
        let mut families = HashSet::new();
        let (mut family, mut kind) = ("", "");
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let (word, rest) = comment.split_once(' ').expect(line);
                let (name, value) = rest.split_once(' ').expect(line);
                match word {
                    "TYPE" => {
                        assert_eq!(family, name, "{line}: no other family in between");
                        kind = value;
                    }
                    "HELP" => {
                        assert!(families.insert(name), "{line}: a family stands in one piece");
                        (family, kind) = (name, "");
                    }
                    "UNIT" => assert!(name == family && name.ends_with(&format!("_{value}")), "{line}"),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect(line);
            let name = series.split_once('{').map_or(series, |(name, labels)| {
                check_labels(labels.strip_suffix('}').expect(line));
                name
            });
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => panic!("{line}: of the unknown kind {kind:?}"),
            };
            assert!(suffixes.iter().any(|suffix| name.strip_prefix(family) == Some(suffix)), "{line}: not of family {family}");
            assert!(samples.insert(series.to_owned(), value.parse().expect(line)).is_none(), "{line}: twice");
        }
        samples
    }

    fn check_labels(mut labels: &str) {
        while !labels.is_empty() {
            let (name, rest) = labels.split_once("=\"").expect(labels);
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{labels}");
            let (value, rest) = rest.split_once('"').expect(labels);
            assert!(!value.contains(['\\', '\n']), "{labels}: no value of ours needs escaping");
            labels = rest.strip_prefix(',').unwrap_or(rest);
        }
    }

    #[test]
    fn what_was_done_is_counted_and_the_text_is_valid() {
        let folder = tempfile::tempdir().expect("folder");
        let service = service(&folder);
        service.try_lock(&lock(1)).expect("takes");
        service.try_lock(&lock(2)).expect("is refused");
        service.try_lock(b"{").expect_err("no lock");
        service.lock_command("apply", b"{}").expect("takes");
        service.lock_command("apply", b"{}").expect("is refused");
        service.unlock_by_pull("acme/infra", 1).expect("releases");

        let text = service.metrics();
        assert!(!text.contains(SECRET), "{text}");
        let samples = samples(&text);
        let operations = |operation, result| {
            samples[&format!(r#"atlock_operations_total{{operation="{operation}",store="legacy",result="{result}"}}"#)]
        };
        for (operation, result, count) in [
            ("try_lock", "ok", 1.0),
            ("try_lock", "refused", 1.0),
            ("try_lock", "error", 1.0),
            ("lock_command", "refused", 1.0),
            ("unlock_by_pull", "ok", 1.0),
            ("ping", "ok", 0.0),
        ] {
            assert_eq!(operations(operation, result), count, "{operation} {result}");
        }
        assert_eq!(samples[r#"atlock_errors_total{store="legacy",code="invalid_json"}"#], 1.0);
        let histogram =
            |operation| format!(r#"atlock_operation_duration_seconds_count{{operation="{operation}",store="legacy"}}"#);
        assert_eq!(samples[&histogram("try_lock")], 3.0);
        assert!(!samples.contains_key(&histogram("ping")), "what was never asked for has no histogram");
        let info = format!(r#"atlock_info{{version="{}",mode="strict"}}"#, env!("CARGO_PKG_VERSION"));
        assert_eq!(samples[&info], 1.0);
        let status = service.status();
        assert_eq!((status.legacy_ops, status.enhanced_ops, status.fallback_ops, status.errors), (6, 0, 0, 1));
        let first = r#"{"mode":"strict","enhanced_enabled":false,"legacy_ops":6,"enhanced_ops":0,"fallback_active":false,"circuit_state":"disabled","#;
        let text = serde_json::to_string(&status).expect("is JSON");
        assert!(text.starts_with(first), "as the original specification has them: {text}");
    }

    #[test]
    fn a_histogram_has_its_bounds_and_agrees_with_its_count() {
        let metrics = Metrics::new(Mode::Native);
        for micros in [1, 25, 26, 9_999_999, 10_000_001] {
            metrics.count(Operation::Ping, AnsweredBy::Enhanced, Ending::Ok, Duration::from_micros(micros));
        }
        let samples = samples(&(metrics.text() + "# EOF\n"));
        let of = |suffix: &str, bound: &str| {
            samples[&format!(r#"atlock_operation_duration_seconds_{suffix}{{{bound}operation="ping",store="enhanced"}}"#)]
        };
        let bucket = |bound: f64| {
            let le = samples.keys().filter_map(|series| {
                let le = series.strip_prefix("atlock_operation_duration_seconds_bucket{le=\"")?;
                le.split_once(r#"",operation="ping""#).map(|(le, _)| le)
            });
            let le = le.into_iter().find(|le| le.parse::<f64>() == Ok(bound)).expect("the bound is there");
            of("bucket", &format!(r#"le="{le}","#))
        };
        assert_eq!((bucket(25e-6), bucket(50e-6), bucket(10.0), bucket(f64::INFINITY)), (2.0, 3.0, 4.0, 5.0));
        assert_eq!(of("count", ""), 5.0);
        assert!(!samples.keys().any(|series| series.contains("legacy")), "a store that this mode has not has no series");
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        let metrics = Metrics::new(Mode::Hybrid);
        std::thread::scope(|scope| {
            for store in [AnsweredBy::Legacy, AnsweredBy::Enhanced, AnsweredBy::Fallback, AnsweredBy::Fallback] {
                let metrics = &metrics;
                scope.spawn(move || {
                    for _ in 0..1000 {
                        metrics.count(Operation::TryLock, store, Ending::Error(Code::Degraded), Duration::ZERO);
                        metrics.count(Operation::TryLock, store, Ending::Refused, Duration::ZERO);
                    }
                });
            }
        });
        let wanted = Snapshot { legacy_ops: 2000, enhanced_ops: 2000, fallback_ops: 4000, errors: 4000 };
        assert_eq!(metrics.snapshot(), wanted);
    }
}

//! What an operator sees: status, health, metrics.

use std::time::Instant;

use serde::Serialize;

use super::Service;
use super::at_rest::AtRest;
use super::change::Change;
use crate::config::Mode;
use crate::health::{Health, HybridState, StoreHealth};
use crate::hybrid::status::Report;
use crate::metrics::{self, Snapshot};
use crate::shadow;

/// What an operator sees. The first six fields are those of the original specification.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// `strict`, `hybrid` or `native`.
    pub mode: String,
    /// Whether the enhanced store is enabled.
    pub enhanced_enabled: bool,
    /// Operations that strict mode's store answered, or in hybrid mode the local store where Redis is not asked at all.
    pub legacy_ops: u64,
    /// Operations that Redis answered.
    pub enhanced_ops: u64,
    /// Whether the local store decides in Redis's place.
    pub fallback_active: bool,
    /// The breaker: `closed`, `open` or `half-open`; `disabled` in strict and native mode, which have none, and where the stores were opened
    /// only to look at them, so that nobody decides.
    pub circuit_state: String,
    /// Operations that the local store answered in Redis's place.
    pub fallback_ops: u64,
    /// Operations that ended with an error; each is counted with its store, too.
    pub errors: u64,
    /// Version of the library.
    pub version: &'static str,
    /// This process. In Redis, native mode puts this beside its locks; hybrid mode the server's name, which stays across restarts.
    pub instance: String,
    /// How what is stored at rest is kept, store by store.
    pub at_rest: AtRest,
    /// The patterns of the repositories that have a queue; absent where none has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queue_repos: Vec<String>,
    /// The state of hybrid mode.
    #[serde(flatten)]
    pub hybrid: Option<Report>,
    /// The last change of mode, settings or store since the process began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_change: Option<Change>,
    /// The shadow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<shadow::Report>,
    /// Conditions that endanger a promise; empty when all is well.
    pub warnings: Vec<String>,
}

impl Service {
    /// Mode, counters, warnings. Asks no store.
    pub fn status(&self) -> Status {
        let warnings = self.warnings();
        let hybrid = self.router.report();
        let Snapshot { legacy_ops, enhanced_ops, fallback_ops, errors } = self.metrics.snapshot();
        Status {
            mode: self.router.mode().to_string(),
            enhanced_enabled: self.enhanced_enabled,
            legacy_ops,
            enhanced_ops,
            fallback_active: hybrid.as_ref().is_some_and(|report| report.fallback_active),
            circuit_state: hybrid.as_ref().map_or_else(|| "disabled".to_owned(), |report| report.circuit_state.clone()),
            fallback_ops,
            errors,
            version: env!("CARGO_PKG_VERSION"),
            instance: self.instance.clone(),
            at_rest: self.at_rest,
            queue_repos: if self.queueing.is_enabled() { self.queueing.settings.repos.clone() } else { Vec::new() },
            hybrid,
            last_change: self.last_change.lock().clone(),
            shadow: self.shadow(),
            warnings,
        }
    }

    /// Counters and latencies since the start, as OpenMetrics text of the content type [`metrics::CONTENT_TYPE`]. Asks no store.
    ///
    /// Calls after [`Service::close`] are not counted; input that was refused before any store was asked is, with the store
    /// that decides.
    ///
    /// [`metrics::CONTENT_TYPE`]: crate::metrics::CONTENT_TYPE
    pub fn metrics(&self) -> String {
        let waiting = if self.queueing.is_enabled() { self.queueing.waits_text() } else { String::new() };
        let shadow = self.state.shadow.get().map_or_else(String::new, |tapped| tapped.shadow().metrics());
        self.metrics.text() + &metrics::warnings(self.warnings().len()) + &self.router.metrics() + &waiting + &shadow + "# EOF\n"
    }

    /// Conditions that endanger a promise.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.router.warnings();
        warnings.extend(self.sealed.warning());
        warnings.extend(self.settings_warnings.clone());
        warnings.extend(self.queueing.warning());
        warnings.extend(self.queueing.frozen.warning());
        warnings.extend(self.state.shadow.get().and_then(|tapped| tapped.shadow().warning()));
        warnings.extend(self.audit.as_ref().and_then(|audit| audit.warning()));
        warnings.extend(self.beside.as_ref().and_then(|beside| beside.warning()));
        warnings
    }

    /// Whether the stores answer. In hybrid mode it is what the last probe of each saw; in the others it asks the store.
    pub fn health(&self) -> Health {
        if let Some(report) = self.router.report() {
            return Health::hybrid(HybridState {
                fallback_active: report.fallback_active,
                armed: report.armed,
                needs_local: report.needs_local,
                redis: report.enhanced,
                local: report.legacy,
                copy_error: report.host_store.and_then(|host| host.error),
                circuit_state: report.circuit_state,
            });
        }
        let start = Instant::now();
        let answer = self.ping();
        let store = StoreHealth::of(&answer, start.elapsed());
        if self.router.mode() == Mode::Native { Health::native(store) } else { Health::strict(store) }
    }
}

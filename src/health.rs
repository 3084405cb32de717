//! Whether locks can be granted, and by whom: what an operator reads first. This is said here alone; the page, the command line and
//! alerts repeat it.
//!
//! Invariant: `overall` is false exactly if no lock can be granted; then `state` is `unhealthy`, and the headline says so, and why.
//!
//! `overall` and `response_time` have the forms of the original specification; `state` and `response_time_ms` tell more.

use std::time::Duration;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::error::Result;

/// Whether the stores of the mode answer, and what follows from that.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// Whether locks can be granted.
    pub overall: bool,
    /// `healthy`; `degraded` if locks are granted, but not as they should be; `unhealthy` if none can be granted.
    pub state: &'static str,
    /// Who decides now, or that no lock is granted, and why: a few words for whoever is on call.
    pub headline: &'static str,
    /// Redis; absent in strict mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<StoreHealth>,
    /// The local store, in strict mode the store that answers; absent in native mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy: Option<StoreHealth>,
    /// The breaker: `closed`, `open` or `half-open`; `disabled` in strict and native mode, which have none.
    pub circuit_state: String,
}

/// How a store answered last. As JSON `{"healthy","response_time","response_time_ms","error"}`; `response_time` is a text with its unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreHealth {
    /// Whether it answered and could be written.
    pub healthy: bool,
    /// How long that took, milliseconds.
    pub response_time_ms: f64,
    /// What was wrong.
    pub error: Option<String>,
}

/// What hybrid mode's health follows from.
#[derive(Clone, Debug, PartialEq)]
pub struct HybridState {
    /// Whether the local store decides in place of Redis.
    pub fallback_active: bool,
    /// Whether the local store may grant while Redis is away.
    pub armed: bool,
    /// Whether each change waits for the local store's disk, also while Redis decides.
    pub needs_local: bool,
    /// Redis.
    pub redis: StoreHealth,
    /// The local store.
    pub local: StoreHealth,
    /// Why the host store is not kept up to date; `None` if it is, or if there is none.
    pub copy_error: Option<String>,
    /// The breaker.
    pub circuit_state: String,
}

impl Serialize for StoreHealth {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("healthy", &self.healthy)?;
        fields.serialize_entry("response_time", &format!("{}ms", (self.response_time_ms * 100.0).round() / 100.0))?;
        fields.serialize_entry("response_time_ms", &self.response_time_ms)?;
        if let Some(error) = &self.error {
            fields.serialize_entry("error", error)?;
        }
        fields.end()
    }
}

impl StoreHealth {
    /// Of this answer.
    pub fn of<T>(answer: &Result<T>, took: Duration) -> StoreHealth {
        StoreHealth {
            healthy: answer.is_ok(),
            response_time_ms: took.as_secs_f64() * 1e3,
            error: answer.as_ref().err().map(|e| e.message().to_owned()),
        }
    }
}

impl Health {
    /// 100 healthy, 50 degraded, 0 unhealthy.
    pub fn score(&self) -> u32 {
        match self.state {
            "healthy" => 100,
            "degraded" => 50,
            _ => 0,
        }
    }

    /// Of strict mode, whose one store answered like this.
    pub fn strict(store: StoreHealth) -> Health {
        let verdict = if store.healthy {
            ("healthy", "The lock store decides")
        } else {
            ("unhealthy", "No lock is granted: the lock store does not answer")
        };
        Health::of(verdict, None, Some(store), "disabled".to_owned())
    }

    /// Of native mode, whose Redis answered like this.
    pub fn native(redis: StoreHealth) -> Health {
        let verdict =
            if redis.healthy { ("healthy", "Redis decides") } else { ("unhealthy", "No lock is granted: Redis does not answer") };
        Health::of(verdict, Some(redis), None, "disabled".to_owned())
    }

    /// Of hybrid mode in this state.
    pub fn hybrid(state: HybridState) -> Health {
        let verdict = state.verdict();
        let legacy = match state.copy_error {
            Some(error) if state.local.healthy => StoreHealth { healthy: false, error: Some(error), ..state.local },
            _ => state.local,
        };
        Health::of(verdict, Some(state.redis), Some(legacy), state.circuit_state)
    }

    fn of(
        (state, headline): (&'static str, &'static str),
        enhanced: Option<StoreHealth>,
        legacy: Option<StoreHealth>,
        circuit_state: String,
    ) -> Health {
        Health { overall: state != "unhealthy", state, headline, enhanced, legacy, circuit_state }
    }
}

impl HybridState {
    /// The state and the headline: the first line that holds.
    fn verdict(&self) -> (&'static str, &'static str) {
        let (redis, local) = (self.redis.healthy, self.local.healthy);
        if self.fallback_active {
            return match (local, self.armed) {
                (false, _) => ("unhealthy", "No lock is granted: Redis is not asked, and the local store does not work"),
                (true, false) => ("unhealthy", "No lock is granted: Redis is not asked, and the local store must not decide"),
                (true, true) => ("degraded", "The local store decides; Redis is not asked"),
            };
        }
        match (redis, local) {
            (_, false) if self.needs_local => {
                ("unhealthy", "No lock is granted: the local store, where each change is kept first, does not work")
            }
            (false, false) => ("unhealthy", "No lock is granted: neither Redis nor the local store works"),
            (false, true) if !self.armed => {
                ("unhealthy", "No lock is granted: Redis does not answer, and the local store must not decide")
            }
            (false, true) => ("degraded", "Redis decides; it did not answer when last asked"),
            (true, false) => ("degraded", "Redis decides; the local store does not work"),
            (true, true) if self.copy_error.is_some() => ("degraded", "Redis decides; the host store is not kept up to date"),
            (true, true) => ("healthy", "Redis decides"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(healthy: bool) -> StoreHealth {
        StoreHealth { healthy, response_time_ms: 1.0, error: (!healthy).then(|| "gone".to_owned()) }
    }

    fn hybrid(fallback_active: bool, armed: bool, needs_local: bool, redis: bool, local: bool) -> HybridState {
        let circuit_state = if fallback_active { "open" } else { "closed" }.to_owned();
        let (redis, local) = (answered(redis), answered(local));
        HybridState { fallback_active, armed, needs_local, redis, local, copy_error: None, circuit_state }
    }

    #[test]
    fn a_broken_disk_stops_grants_exactly_if_each_change_waits_for_it() {
        // While Redis decides and answers: `sync`, then `async`.
        for armed in [true, false] {
            let health = Health::hybrid(hybrid(false, armed, true, true, false));
            assert_eq!(health.state, "unhealthy");
            assert!(health.headline.starts_with("No lock is granted: the local store"), "{}", health.headline);
            let health = Health::hybrid(hybrid(false, armed, false, true, false));
            assert_eq!((health.state, health.headline), ("degraded", "Redis decides; the local store does not work"));
        }
    }

    #[test]
    fn a_copy_that_lags_stops_no_grant() {
        for (fallback, headline) in [
            (false, "Redis decides; the host store is not kept up to date"),
            (true, "The local store decides; Redis is not asked"),
        ] {
            let state = HybridState { copy_error: Some("full".to_owned()), ..hybrid(fallback, true, true, !fallback, true) };
            let health = Health::hybrid(state);
            assert_eq!((health.state, health.headline), ("degraded", headline));
            assert_eq!(health.legacy.and_then(|legacy| legacy.error).as_deref(), Some("full"));
        }
    }

    /// Against the rule, said in another way: who would have to grant a lock, and can it?
    #[test]
    fn state_and_headline_agree_in_every_state() {
        for bits in 0..32 {
            let [fallback, armed, needs_local, redis, local] = std::array::from_fn(|at| bits >> at & 1 == 1);
            let by_redis = !fallback && redis && (local || !needs_local);
            // If Redis stays away, the next call makes the local store decide.
            let by_local = armed && local && (fallback || !redis);
            let health = Health::hybrid(hybrid(fallback, armed, needs_local, redis, local));
            let state = format!("{fallback} {armed} {needs_local} {redis} {local}: {health:?}");
            assert_eq!(health.state != "unhealthy", by_redis || by_local, "{state}");
            assert_eq!(health.overall, health.state != "unhealthy", "{state}");
            assert_eq!(health.state == "unhealthy", health.headline.starts_with("No lock is granted: "), "{state}");
            assert_eq!(health.state == "healthy", health.headline == "Redis decides", "{state}");
            assert_eq!(health.state == "healthy", !fallback && redis && local, "{state}");
        }
    }

    #[test]
    fn one_store_decides_alone() {
        let of = |health: Health| (health.state, health.headline);
        assert_eq!(of(Health::strict(answered(true))), ("healthy", "The lock store decides"));
        assert_eq!(of(Health::strict(answered(false))), ("unhealthy", "No lock is granted: the lock store does not answer"));
        assert_eq!(of(Health::native(answered(true))), ("healthy", "Redis decides"));
        assert_eq!(of(Health::native(answered(false))), ("unhealthy", "No lock is granted: Redis does not answer"));
    }
}

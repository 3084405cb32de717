//! Whether locks can be granted, and by whom: what an operator reads first. This is said here alone; the page, the command line and
//! alerts repeat it.
//!
//! Invariant: `overall` is `unhealthy` exactly if no lock can be granted, and then the headline says so, and why.

use std::time::Duration;

use serde::Serialize;

use crate::error::Result;

/// Whether the stores of the mode answer, and what follows from that.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// `healthy`; `degraded` if locks are granted, but not as they should be; `unhealthy` if none can be granted.
    pub overall: &'static str,
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

/// How a store answered last.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StoreHealth {
    /// Whether it answered and could be written.
    pub healthy: bool,
    /// How long that took, milliseconds.
    pub response_time: f64,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
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

impl StoreHealth {
    /// Of this answer.
    pub fn of<T>(answer: &Result<T>, took: Duration) -> StoreHealth {
        StoreHealth {
            healthy: answer.is_ok(),
            response_time: took.as_secs_f64() * 1e3,
            error: answer.as_ref().err().map(|e| e.message().to_owned()),
        }
    }
}

impl Health {
    /// 100 healthy, 50 degraded, 0 unhealthy.
    pub fn score(&self) -> u32 {
        match self.overall {
            "healthy" => 100,
            "degraded" => 50,
            _ => 0,
        }
    }

    /// Of strict mode, whose one store answered like this.
    pub fn strict(store: StoreHealth) -> Health {
        let (overall, headline) = if store.healthy {
            ("healthy", "The lock store decides")
        } else {
            ("unhealthy", "No lock is granted: the lock store does not answer")
        };
        Health { overall, headline, enhanced: None, legacy: Some(store), circuit_state: "disabled".to_owned() }
    }

    /// Of native mode, whose Redis answered like this.
    pub fn native(redis: StoreHealth) -> Health {
        let (overall, headline) =
            if redis.healthy { ("healthy", "Redis decides") } else { ("unhealthy", "No lock is granted: Redis does not answer") };
        Health { overall, headline, enhanced: Some(redis), legacy: None, circuit_state: "disabled".to_owned() }
    }

    /// Of hybrid mode in this state.
    pub fn hybrid(state: HybridState) -> Health {
        let (overall, headline) = state.verdict();
        let legacy = match state.copy_error {
            Some(error) if state.local.healthy => StoreHealth { healthy: false, error: Some(error), ..state.local },
            _ => state.local,
        };
        Health { overall, headline, enhanced: Some(state.redis), legacy: Some(legacy), circuit_state: state.circuit_state }
    }
}

impl HybridState {
    /// `overall` and the headline: the first line that holds.
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
        StoreHealth { healthy, response_time: 1.0, error: (!healthy).then(|| "gone".to_owned()) }
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
            assert_eq!(health.overall, "unhealthy");
            assert!(health.headline.starts_with("No lock is granted: the local store"), "{}", health.headline);
            let health = Health::hybrid(hybrid(false, armed, false, true, false));
            assert_eq!((health.overall, health.headline), ("degraded", "Redis decides; the local store does not work"));
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
            assert_eq!((health.overall, health.headline), ("degraded", headline));
            assert_eq!(health.legacy.and_then(|legacy| legacy.error).as_deref(), Some("full"));
        }
    }

    /// Against the rule, said in another way: who would have to grant a lock, and can it?
    #[test]
    fn overall_and_headline_agree_in_every_state() {
        for bits in 0..32 {
            let [fallback, armed, needs_local, redis, local] = std::array::from_fn(|at| bits >> at & 1 == 1);
            let by_redis = !fallback && redis && (local || !needs_local);
            // If Redis stays away, the next call makes the local store decide.
            let by_local = armed && local && (fallback || !redis);
            let health = Health::hybrid(hybrid(fallback, armed, needs_local, redis, local));
            let state = format!("{fallback} {armed} {needs_local} {redis} {local}: {health:?}");
            assert_eq!(health.overall != "unhealthy", by_redis || by_local, "{state}");
            assert_eq!(health.overall == "unhealthy", health.headline.starts_with("No lock is granted: "), "{state}");
            assert_eq!(health.overall == "healthy", health.headline == "Redis decides", "{state}");
            assert_eq!(health.overall == "healthy", !fallback && redis && local, "{state}");
        }
    }

    #[test]
    fn one_store_decides_alone() {
        let of = |health: Health| (health.overall, health.headline);
        assert_eq!(of(Health::strict(answered(true))), ("healthy", "The lock store decides"));
        assert_eq!(of(Health::strict(answered(false))), ("unhealthy", "No lock is granted: the lock store does not answer"));
        assert_eq!(of(Health::native(answered(true))), ("healthy", "Redis decides"));
        assert_eq!(of(Health::native(answered(false))), ("unhealthy", "No lock is granted: Redis does not answer"));
    }
}

//! Whether locks can be granted, and by whom: what an operator reads first.

use std::time::Duration;

use serde::Serialize;

use crate::error::Result;

/// Whether the stores of the mode answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// `healthy`; `degraded` if locks are granted, but not as they should be; `unhealthy` if none can be granted.
    pub overall: &'static str,
    /// Redis; absent in strict mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<StoreHealth>,
    /// The legacy store; absent in native mode.
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

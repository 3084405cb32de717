//! The block `locking.shadow`: the other store that is compared with the one that decides (`crate::shadow`).

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::redis::Redis;

/// `locking.shadow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shadow {
    /// What the shadow is.
    pub store: ShadowStore,
    /// Folder of an embedded store; its own.
    pub data_dir: Option<PathBuf>,
    /// The Redis; its own, or a database of its own.
    pub redis: Redis,
    /// In a linked Atlantis: the log has one line in so long a time for the differences of that time.
    #[serde(with = "humantime_serde")]
    pub sample: Duration,
}

/// `locking.shadow.store`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShadowStore {
    /// There is no shadow.
    #[default]
    Off,
    /// An embedded store.
    Sled,
    /// A Redis.
    Redis,
}

impl Default for Shadow {
    fn default() -> Shadow {
        Shadow { store: ShadowStore::Off, data_dir: None, redis: Redis::default(), sample: Duration::from_secs(60) }
    }
}

impl Shadow {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        self.store != ShadowStore::Off
    }
}

//! Which stores hold values in clear: what an operator is told of encryption at rest.

use serde::Serialize;

use crate::config::{Backend, Config, Mode};

/// Which of the stores in use hold values in clear, which hold them sealed (`crate::sealing`), and which in clear but for the credentials in them
/// (`crate::sealing::credentials`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AtRest {
    /// Whether all that is stored is sealed: nothing else than `sealed` stands below. Names and numbers are more than credentials.
    pub encrypted: bool,
    /// The embedded store with its journal: `sealed` or `clear`; absent if there is none. What was written before the key was set stays in clear
    /// until it is written again (`atlock reseal`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<&'static str>,
    /// Atlantis's BoltDB file, which stock must be able to read: `clear` or `credentials_sealed`; absent if there is none. What a server without
    /// the key, or stock, writes is in clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boltdb: Option<&'static str>,
    /// Redis, which stock must be able to read: as `boltdb`; absent if there is none. What Redis writes to its own disk is Redis's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<&'static str>,
}

impl AtRest {
    /// By the settings.
    pub(super) fn of(config: &Config) -> AtRest {
        let (mode, is_boltdb) = (config.mode(), config.locking.backend == Backend::Boltdb);
        let is_sealed = config.locking.encryption.is_on();
        let has_embedded = mode == Mode::Hybrid || (mode == Mode::Strict && !is_boltdb);
        let embedded = has_embedded.then_some(if is_sealed { "sealed" } else { "clear" });
        let open = if is_sealed { "credentials_sealed" } else { "clear" };
        let boltdb = (mode != Mode::Native && is_boltdb).then_some(open);
        let redis = (mode != Mode::Strict).then_some(open);
        AtRest { encrypted: boltdb.is_none() && redis.is_none() && is_sealed, embedded, boltdb, redis }
    }
}

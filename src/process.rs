//! The process that opens stores.

use std::sync::Arc;

use crate::audit::AuditLog;
use crate::clock::Clock;

/// What every store of one process shares.
#[derive(Clone, Debug)]
pub struct Process<'a> {
    /// Its name, which no other ever has.
    pub instance: &'a str,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its audit trail.
    pub audit: Option<Arc<AuditLog>>,
}

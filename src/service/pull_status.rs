//! Pull statuses: opaque JSON, compared and swapped.

use super::Service;
use crate::domain::limits::{MAX_KEY_BYTES, MAX_PULL_STATUS_BYTES, limit};
use crate::domain::lock::check_pull_status;
use crate::error::Result;
use crate::operation::Operation;
use crate::store::{Expected, Swap};

impl Service {
    /// The pull status at `key` (`{hostname}::{repo}::{num}`), byte for byte and unchecked, or `None`.
    pub fn pull_status(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.run(Operation::PullStatus, |store, call| {
            limit("a pull status's key", key.len(), MAX_KEY_BYTES)?;
            store.pull_status(key, call)
        })
    }

    /// Replaces (`None`: deletes) the pull status at `key` if it is as expected; otherwise says what is there.
    pub fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>) -> Result<Swap> {
        self.run(Operation::SwapPullStatus, |store, call| {
            limit("a pull status's key", key.len(), MAX_KEY_BYTES)?;
            if let Some(new) = new {
                limit("a pull status", new.len(), MAX_PULL_STATUS_BYTES)?;
                check_pull_status(new)?;
            }
            store.swap_pull_status(key, expected, new, call)
        })
    }
}

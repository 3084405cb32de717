//! How large what is stored may be.

use crate::error::{Code, Error, Result};

/// The largest lock, in bytes of JSON.
pub const MAX_LOCK_BYTES: usize = 1 << 20;
/// The largest pull status, in bytes of JSON.
pub const MAX_PULL_STATUS_BYTES: usize = 16 << 20;
/// The longest key of a lock, command or pull status, in bytes.
pub const MAX_KEY_BYTES: usize = 16 << 10;
/// The longest recipe of a run, in bytes: each waiting pull has one in the queue's document.
pub const MAX_RECIPE_BYTES: usize = 512;

/// Errors: `TooLarge` if `what` has more bytes than `most`.
pub(crate) fn limit(what: &str, bytes: usize, most: usize) -> Result<()> {
    if bytes > most {
        return Err(Error::new(Code::TooLarge, format!("{what} of {bytes} bytes is over the limit of {most}")));
    }
    Ok(())
}

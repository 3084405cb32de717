//! The body of every exported function: errors and panics become a status and a text (promise P6).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::buffer::Buffer;
use super::status::{ATLOCK_INTERNAL, ATLOCK_OK};
use crate::error::Result;

/// Runs `body`. On an error or a panic, writes the text to `error` (unless null) and returns the status.
///
/// # Safety
/// `error` is null or writable.
pub(super) unsafe fn guard(error: *mut Buffer, body: impl FnOnce() -> Result<()>) -> i32 {
    let (status, text) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return ATLOCK_OK,
        Ok(Err(e)) => (e.code() as i32, e.message().to_owned()),
        Err(payload) => (ATLOCK_INTERNAL, panic_text(payload)),
    };
    if !error.is_null() {
        // SAFETY: as required of the caller. The old content is not ours to read: it may be uninitialised.
        unsafe { error.write(Buffer::from_bytes(text.into_bytes())) };
    }
    status
}

/// What a panic said.
pub(super) fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let cause = payload
        .downcast::<String>()
        .map(|text| *text)
        .or_else(|payload| payload.downcast().map(|text: Box<&str>| text.to_string()));
    let cause = cause.unwrap_or_else(|payload| {
        // Dropping a payload of an unknown type runs foreign code, which may panic in its turn: better to leak it.
        std::mem::forget(payload);
        "no text".to_owned()
    });
    format!("a bug in atlock: it panicked ({cause}); please report it. The locks are as they were acknowledged")
}

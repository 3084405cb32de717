//! How an exported function does its work: one [`guard`] around its body, which takes its pointers through the [`Caller`].
//!
//! Promise P6: errors and panics become a status and a text. Outputs are written only on success, `error` only on failure.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::buffer::{Buffer, Spans};
use super::caller::{Caller, Out};
use super::status::ATLOCK_OK;
use crate::error::{Code, Error, Result};
use crate::store::{Granted, Listing};

impl Out<'_, Buffer> {
    pub(super) fn write_bytes(self, bytes: Vec<u8>) {
        self.write(Buffer::from_bytes(bytes));
    }

    /// A value, or `null`.
    pub(super) fn write_value(self, value: Option<Vec<u8>>) {
        self.write_bytes(value_json(value));
    }

    pub(super) fn write_json(self, value: &impl serde::Serialize) -> Result<()> {
        let json =
            serde_json::to_vec(value).map_err(|e| Error::new(Code::Internal, format!("an answer cannot be written: {e}")))?;
        self.write_bytes(json);
        Ok(())
    }

    /// A listing's JSON, and into `spans`, if the caller wants them, where each lock lies in it.
    pub(super) fn write_listing(self, listing: Listing, spans: Option<Out<'_, Spans>>) {
        let (json, found) = listing.into_json();
        self.write_bytes(json);
        if let Some(spans) = spans {
            spans.write(Spans::from_vec(found));
        }
    }
}

/// Runs `body`. On an error or a panic, writes the text to `error` (unless null) and returns the status.
pub(super) fn guard(caller: Caller, error: *mut Buffer, body: impl FnOnce(&Caller) -> Result<()>) -> i32 {
    let Err(failure) = unpanicked(|| body(&caller)) else { return ATLOCK_OK };
    if let Some(error) = caller.optional(error) {
        error.write_bytes(failure.message().as_bytes().to_vec());
    }
    failure.code() as i32
}

/// Runs `body`; a panic becomes an error.
pub(super) fn unpanicked<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(Error::new(Code::Internal, panic_text(payload))))
}

/// What a panic said.
fn panic_text(payload: Box<dyn Any + Send>) -> String {
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

/// `{"acquired":true,"token":N}` or `{"acquired":false,"lock":{…}}`.
pub(super) fn granted_json(granted: &Granted) -> Vec<u8> {
    match granted {
        Granted::Yes { token, .. } => format!(r#"{{"acquired":true,"token":{token}}}"#).into_bytes(),
        Granted::Held { value } => [br#"{"acquired":false,"lock":"#, &value[..], b"}"].concat(),
        Granted::NotYet => br#"{"acquired":false,"lock":null}"#.to_vec(),
    }
}

/// A value, or `null`.
pub(super) fn value_json(value: Option<Vec<u8>>) -> Vec<u8> {
    value.unwrap_or_else(|| b"null".to_vec())
}

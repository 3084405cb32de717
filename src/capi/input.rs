//! Pointers from C, checked and cast.

use super::buffer::{Buffer, Spans};
use crate::error::{Code, Error, Result};
use crate::service::Service;
use crate::store::{Granted, Listing};

/// The bytes at `data`.
///
/// # Safety
/// `data` is null or readable for `len` bytes as long as the result lives.
pub(super) unsafe fn bytes<'a>(name: &str, data: *const u8, len: usize) -> Result<&'a [u8]> {
    if len > isize::MAX as usize {
        return Err(Error::new(Code::InvalidArgument, format!("{name}: its length is impossible")));
    }
    if data.is_null() {
        if len == 0 {
            return Ok(&[]);
        }
        return Err(Error::new(Code::InvalidArgument, format!("{name} is null, but its length is {len}")));
    }
    // SAFETY: as required of the caller; not null, and the length was checked.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// The text at `data`, which must be UTF-8.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn text<'a>(name: &str, data: *const u8, len: usize) -> Result<&'a str> {
    // SAFETY: as required of the caller.
    let bytes = unsafe { bytes(name, data, len) }?;
    std::str::from_utf8(bytes)
        .map_err(|e| Error::new(Code::InvalidArgument, format!("{name} is not UTF-8 at byte {}", e.valid_up_to())))
}

/// The handle.
///
/// # Safety
/// `handle` is null or a handle that was not freed and will not be while the result lives.
pub(super) unsafe fn service<'a>(handle: *const Service) -> Result<&'a Service> {
    // SAFETY: as required of the caller.
    unsafe { handle.as_ref() }.ok_or_else(|| Error::new(Code::InvalidArgument, "the handle is null"))
}

/// Where an output goes; checked before anything is done.
pub(super) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `out` is null or writable as long as the result lives.
    pub(super) unsafe fn new(name: &str, out: *mut T) -> Result<Out<T>> {
        if out.is_null() {
            return Err(Error::new(Code::InvalidArgument, format!("{name} is null")));
        }
        Ok(Out(out))
    }

    pub(super) fn write(self, value: T) {
        // SAFETY: not null, and writable as required of `new`'s caller. The old content may be uninitialised.
        unsafe { self.0.write(value) };
    }
}

impl Out<Buffer> {
    pub(super) fn write_bytes(self, bytes: Vec<u8>) {
        self.write(Buffer::from_bytes(bytes));
    }

    /// A value, or `null`.
    pub(super) fn write_value(self, value: Option<Vec<u8>>) {
        self.write_bytes(value.unwrap_or_else(|| b"null".to_vec()));
    }

    pub(super) fn write_json(self, value: &impl serde::Serialize) -> Result<()> {
        let json =
            serde_json::to_vec(value).map_err(|e| Error::new(Code::Internal, format!("an answer cannot be written: {e}")))?;
        self.write_bytes(json);
        Ok(())
    }
}

/// A listing's JSON into `out`, and into `spans`, unless null, where each lock lies in it.
///
/// # Safety
/// `spans` is null or writable.
pub(super) unsafe fn write_listing(listing: Listing, out: Out<Buffer>, spans: *mut Spans) {
    let (json, found) = listing.into_json();
    out.write_bytes(json);
    if !spans.is_null() {
        // SAFETY: as required of the caller.
        unsafe { spans.write(Spans::from_vec(found)) };
    }
}

/// `{"acquired":true,"token":N}` or `{"acquired":false,"lock":{…}}`.
pub(super) fn granted_json(granted: &Granted) -> Vec<u8> {
    match granted {
        Granted::Yes { token } => format!(r#"{{"acquired":true,"token":{token}}}"#).into_bytes(),
        Granted::Held { value } => [br#"{"acquired":false,"lock":"#, &value[..], b"}"].concat(),
    }
}

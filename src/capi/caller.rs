//! The pointers of a call from C. What the exported functions rely on is said here alone: whoever calls one promises the rules at
//! the top of `atlock.h`, which are those of [`Caller::promising`]. `caller!()` takes that promise, and stands only in functions that
//! demand it.

#[cfg(feature = "default-instance")]
use std::ffi::{CStr, c_char};

use super::process;
use crate::audit::Recorder;
use crate::error::{Code, Error, Result};
use crate::service::Service;
use crate::shadow::Told;

/// What the caller of an exported function promised about the pointers that it passed. Nothing taken through it outlives the call.
pub(super) struct Caller(());

/// Takes the promise. Only for the body of an `unsafe` function whose `# Safety` is that of [`Caller::promising`].
macro_rules! caller {
    () => {
        // SAFETY: as required of the caller of the function that this stands in.
        unsafe { $crate::capi::caller::Caller::promising() }
    };
}
pub(super) use caller;

impl Caller {
    /// # Safety
    /// Until the call returns, each pointer among its arguments is null, or as its type and the rules at the top of `atlock.h` say:
    /// an input is readable for the length beside it, or up to its NUL if it has none; an output is writable, and holds what its
    /// function demands; a handle was opened and not freed. Nobody else writes to any of them.
    pub(super) unsafe fn promising() -> Caller {
        Caller(())
    }

    /// The handle.
    pub(super) fn service(&self, handle: *const Service) -> Result<&Service> {
        self.opened(handle)
    }

    /// The shadow.
    pub(super) fn told(&self, handle: *const Told) -> Result<&Told> {
        self.opened(handle)
    }

    /// The trail.
    pub(super) fn recorder(&self, handle: *const Recorder) -> Result<&Recorder> {
        self.opened(handle)
    }

    /// What was opened, in the process that opened it.
    fn opened<T>(&self, handle: *const T) -> Result<&T> {
        // SAFETY: as promised.
        let opened = unsafe { handle.as_ref() }.ok_or_else(|| Error::new(Code::InvalidArgument, "the handle is null"))?;
        process::is_the_openers()?;
        Ok(opened)
    }

    /// The bytes at `data`.
    pub(super) fn bytes(&self, name: &str, data: *const u8, len: usize) -> Result<&[u8]> {
        if len > isize::MAX as usize {
            return Err(Error::new(Code::InvalidArgument, format!("{name}: its length is impossible")));
        }
        if data.is_null() {
            if len == 0 {
                return Ok(&[]);
            }
            return Err(Error::new(Code::InvalidArgument, format!("{name} is null, but its length is {len}")));
        }
        // SAFETY: as promised; not null, and the length was checked.
        Ok(unsafe { std::slice::from_raw_parts(data, len) })
    }

    /// The text at `data`, which must be UTF-8.
    pub(super) fn text(&self, name: &str, data: *const u8, len: usize) -> Result<&str> {
        std::str::from_utf8(self.bytes(name, data, len)?)
            .map_err(|e| Error::new(Code::InvalidArgument, format!("{name} is not UTF-8 at byte {}", e.valid_up_to())))
    }

    /// The bytes before the NUL.
    #[cfg(feature = "default-instance")]
    pub(super) fn terminated(&self, name: &str, text: *const c_char) -> Result<&[u8]> {
        if text.is_null() {
            return Err(Error::new(Code::InvalidArgument, format!("{name} is null")));
        }
        // SAFETY: as promised; not null.
        Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
    }

    /// Where an output goes; checked before anything is done.
    pub(super) fn out<T>(&self, name: &str, out: *mut T) -> Result<Out<'_, T>> {
        self.optional(out).ok_or_else(|| Error::new(Code::InvalidArgument, format!("{name} is null")))
    }

    /// Where an output goes that the caller may do without.
    pub(super) fn optional<T>(&self, out: *mut T) -> Option<Out<'_, T>> {
        (!out.is_null()).then_some(Out { at: out, _caller: self })
    }

    /// What was passed to be copied.
    pub(super) fn read<T: Copy>(&self, passed: *const T) -> Option<T> {
        // SAFETY: as promised.
        unsafe { passed.as_ref() }.copied()
    }

    /// What was passed to be changed.
    pub(super) fn passed<T>(&mut self, passed: *mut T) -> Option<&mut T> {
        // SAFETY: as promised.
        unsafe { passed.as_mut() }
    }

    /// What the caller gives back, which was a box. In a forked child it stays where it is: its end is the parent's business.
    pub(super) fn given_back<T>(self, handle: *mut T) -> Option<Box<T>> {
        // SAFETY: as promised; not null.
        (!handle.is_null() && process::is_the_openers().is_ok()).then(|| unsafe { Box::from_raw(handle) })
    }
}

/// A place of the caller's that an output goes to.
pub(super) struct Out<'a, T> {
    at: *mut T,
    _caller: &'a Caller,
}

impl<T> Out<'_, T> {
    pub(super) fn write(self, value: T) {
        // SAFETY: not null, and writable as promised. The old content may be uninitialised: it is neither read nor dropped.
        unsafe { self.at.write(value) };
    }
}

//! Bytes and spans that the library hands out. The caller frees each with its one function.
//!
//! A pointer in them is null or points to allocated memory, never to the placeholder (an address of a few bytes) that an empty `Vec`
//! has: Go looks at every pointer on a stack that it moves, and aborts the process on one that is none.

use super::caller::caller;
use crate::store::Span;

/// Bytes that the library allocated: not NUL-terminated. Free with `atlock_buffer_free`, never with `free`.
#[repr(C)]
#[derive(Debug)]
pub struct Buffer {
    /// The first byte. Null when there is nothing; some functions say that this differs from an empty text.
    pub data: *mut u8,
    /// How many bytes.
    pub len: usize,
    /// The library's own.
    pub capacity: usize,
}

impl Buffer {
    pub(crate) const EMPTY: Buffer = Buffer { data: std::ptr::null_mut(), len: 0, capacity: 0 };

    pub(crate) fn from_bytes(mut bytes: Vec<u8>) -> Buffer {
        if bytes.capacity() == 0 {
            bytes.reserve(1); // not null: an empty text is something
        }
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Buffer { data: bytes.as_mut_ptr(), len: bytes.len(), capacity: bytes.capacity() }
    }

    /// Takes the bytes out and leaves the buffer empty.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let Buffer { data, len, capacity } = std::mem::replace(self, Buffer::EMPTY);
        if data.is_null() {
            return Vec::new();
        }
        // SAFETY: a buffer that is not null comes from `from_bytes`: callers may read it, but only the library makes one.
        unsafe { Vec::from_raw_parts(data, len, capacity) }
    }
}

/// Where each lock of a list lies in its JSON. Free with `atlock_spans_free`.
#[repr(C)]
#[derive(Debug)]
pub struct Spans {
    /// The first span; null when there is none.
    pub data: *mut Span,
    /// How many spans.
    pub len: usize,
    /// The library's own.
    pub capacity: usize,
}

impl Spans {
    const EMPTY: Spans = Spans { data: std::ptr::null_mut(), len: 0, capacity: 0 };

    pub(crate) fn from_vec(spans: Vec<Span>) -> Spans {
        if spans.is_empty() {
            return Spans::EMPTY;
        }
        let mut spans = std::mem::ManuallyDrop::new(spans);
        Spans { data: spans.as_mut_ptr(), len: spans.len(), capacity: spans.capacity() }
    }
}

/// Frees a buffer and leaves it empty. Null, and a buffer that is empty or all zero, are harmless.
///
/// # Safety
/// `buffer` is null or points to a buffer that this library filled, or that is all zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_buffer_free(buffer: *mut Buffer) {
    if let Some(buffer) = caller!().passed(buffer) {
        drop(buffer.take());
    }
}

/// Copies `len` bytes into a buffer; for host stores to answer with. What the buffer held before is freed.
///
/// # Safety
/// `buffer` is as for `atlock_buffer_free`; `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_buffer_assign(buffer: *mut Buffer, data: *const u8, len: usize) {
    let mut caller = caller!();
    let copy = caller.bytes("data", data, len).ok().filter(|_| !data.is_null()).map(<[u8]>::to_vec);
    if let Some(buffer) = caller.passed(buffer) {
        drop(buffer.take());
        *buffer = copy.map_or(Buffer::EMPTY, Buffer::from_bytes);
    }
}

/// Frees spans and leaves them empty. Null, and spans that are empty or all zero, are harmless.
///
/// # Safety
/// `spans` is null or points to spans that this library filled, or that are all zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_spans_free(spans: *mut Spans) {
    if let Some(spans) = caller!().passed(spans) {
        let Spans { data, len, capacity } = std::mem::replace(spans, Spans::EMPTY);
        if !data.is_null() {
            // SAFETY: spans that are not null come from `from_vec`.
            drop(unsafe { Vec::from_raw_parts(data, len, capacity) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_is_not_null_and_points_to_memory() {
        for empty in [Vec::new(), Vec::with_capacity(8)] {
            let mut buffer = Buffer::from_bytes(empty);
            assert!(!buffer.data.is_null() && buffer.capacity > 0, "{buffer:?}");
            assert_eq!(buffer.len, 0);
            assert!(buffer.take().is_empty());
            assert!(buffer.data.is_null());
        }
    }

    #[test]
    fn no_spans_are_null() {
        for empty in [Vec::new(), Vec::with_capacity(8)] {
            let spans = Spans::from_vec(empty);
            assert!(spans.data.is_null() && spans.len == 0 && spans.capacity == 0, "{spans:?}");
        }
    }
}

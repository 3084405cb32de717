//! Pull statuses: opaque JSON under the key `{hostname}::{repository}::{number}`. Merging them is the caller's business, with
//! compare-and-swap.

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use crate::error::{Code, Error, Result};
use crate::service::Service;
use crate::store::{Expected, Swap};

/// Any current value will do.
pub const ATLOCK_EXPECT_ANY: u32 = 0;
/// There must be no value.
pub const ATLOCK_EXPECT_ABSENT: u32 = 1;
/// The value must be exactly the bytes given.
pub const ATLOCK_EXPECT_BYTES: u32 = 2;

/// Reads the pull status at `key`. `out` receives it byte for byte; its `data` is NULL if there is none.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_get_pull_status(
    handle: *const Service,
    key: *const u8,
    key_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, key) = (caller.service(handle)?, caller.out("out", out)?, caller.text("key", key, key_len)?);
        out.write(optional(service.pull_status(key)?));
        Ok(())
    })
}

/// Replaces the pull status at `key` with `new_value` (JSON, at most 16 MiB; null: deletes it) if the current one is as
/// expected: compare-and-swap.
///
/// `expect` is one of `ATLOCK_EXPECT_…`; `expected` counts only with `ATLOCK_EXPECT_BYTES`. `swapped` receives 1, or 0 if the
/// current value was another; `current` then receives it. Its `data` is NULL if there is none, or if the swap was made.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_swap_pull_status(
    handle: *const Service,
    key: *const u8,
    key_len: usize,
    expect: u32,
    expected: *const u8,
    expected_len: usize,
    new_value: *const u8,
    new_value_len: usize,
    swapped: *mut i32,
    current: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, swapped, current) =
            (caller.service(handle)?, caller.out("swapped", swapped)?, caller.out("current", current)?);
        let (key, expected) = (caller.text("key", key, key_len)?, caller.bytes("expected", expected, expected_len)?);
        let new = caller.bytes("new_value", new_value, new_value_len)?;
        let new = (!new_value.is_null()).then_some(new);
        match service.swap_pull_status(key, expectation(expect, expected)?, new)? {
            Swap::Done => (swapped.write(1), current.write(Buffer::EMPTY)),
            Swap::Conflict(found) => (swapped.write(0), current.write(optional(found))),
        };
        Ok(())
    })
}

/// A value, which may be empty, or a null buffer.
fn optional(value: Option<Vec<u8>>) -> Buffer {
    value.map_or(Buffer::EMPTY, Buffer::from_bytes)
}

fn expectation(expect: u32, bytes: &[u8]) -> Result<Expected<'_>> {
    match expect {
        ATLOCK_EXPECT_ANY => Ok(Expected::Any),
        ATLOCK_EXPECT_ABSENT => Ok(Expected::Absent),
        ATLOCK_EXPECT_BYTES => Ok(Expected::Bytes(bytes)),
        other => Err(Error::new(Code::InvalidArgument, format!("expect is {other}, which is none of ATLOCK_EXPECT_…"))),
    }
}

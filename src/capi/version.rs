//! Which header and which library these are.

use std::ffi::{CStr, c_char};

use crate::error::Code;

/// Version of the functions, structs and numbers in `atlock.h`. It grows when one is added; what is there keeps its meaning.
pub const ATLOCK_ABI_VERSION: u32 = 2;

/// The `ATLOCK_ABI_VERSION` of the library that is linked.
#[unsafe(no_mangle)]
pub extern "C" fn atlock_abi_version() -> u32 {
    ATLOCK_ABI_VERSION
}

/// The library's version, for example `0.2.0`: NUL-terminated, static, not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn atlock_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The name of a status, for logs: `ok` for 0, `store_busy` for `ATLOCK_STORE_BUSY` and so on, as in metrics and in the audit trail; `unknown`
/// for a number that this library does not know. NUL-terminated, static, not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn atlock_code_name(code: i32) -> *const c_char {
    let known = || Code::ALL.into_iter().find(|known| *known as i32 == code).map(Code::c_name);
    let name: &'static CStr = if code == 0 { c"ok" } else { known().unwrap_or(c"unknown") };
    name.as_ptr()
}

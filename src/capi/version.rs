//! Which header and which library these are.

use std::ffi::c_char;

/// Version of the functions, structs and numbers in `atlock.h`. It grows when one is added; what is there keeps its meaning.
pub const ATLOCK_ABI_VERSION: u32 = 2;

/// The `ATLOCK_ABI_VERSION` of the library that is linked.
#[unsafe(no_mangle)]
pub extern "C" fn atlock_abi_version() -> u32 {
    ATLOCK_ABI_VERSION
}

/// The library's version, for example `0.1.0`: NUL-terminated, static, not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn atlock_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

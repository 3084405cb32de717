//! Global locks of commands, such as Atlantis's global apply lock.

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::{granted_json, guard};
use crate::service::Service;

/// Takes the global lock of the command `name` (for example `apply`) if it is free.
///
/// `lock` is the JSON of Atlantis's `command.Lock`, stored byte for byte. `out` is as in `atlock_try_lock`.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_lock_command(
    handle: *const Service,
    name: *const u8,
    name_len: usize,
    lock: *const u8,
    lock_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        let (name, lock) = (caller.text("name", name, name_len)?, caller.bytes("lock", lock, lock_len)?);
        out.write_bytes(granted_json(&service.lock_command(name, lock)?));
        Ok(())
    })
}

/// Releases the global lock of the command `name`. `out` receives the released lock, or `null` if there was none.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_unlock_command(
    handle: *const Service,
    name: *const u8,
    name_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, name) = (caller.service(handle)?, caller.out("out", out)?, caller.text("name", name, name_len)?);
        out.write_value(service.unlock_command(name)?);
        Ok(())
    })
}

/// Reads the global lock of the command `name`. `out` receives it, or `null` if there is none.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_check_command_lock(
    handle: *const Service,
    name: *const u8,
    name_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, name) = (caller.service(handle)?, caller.out("out", out)?, caller.text("name", name, name_len)?);
        out.write_value(service.check_command_lock(name)?);
        Ok(())
    })
}

//! A change of mode, settings or store while the program runs: it closes one handle by `atlock_close_to_reopen`, opens another by
//! `atlock_open`, and gives that what the first one left by `atlock_carry_on`.
//!
//! Between the first and the last of these calls the program lets nobody in. If the opening fails, it opens the settings of before again.

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use crate::config::Config;
use crate::domain::json::parse_json;
use crate::service::Service;

/// The same as `atlock_close`, for a program that opens stores again at once. A caller that waits for a lock gets `ATLOCK_CLOSED` and keeps
/// its place in the queue, and finds that place again when it asks the next handle. The open runs are written to `out`, for
/// `atlock_carry_on`. If the handle was closed before, this returns `ATLOCK_CLOSED`.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_close_to_reopen(handle: *const Service, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.close_to_reopen()?)
    })
}

/// Continues the runs that `atlock_close_to_reopen` wrote in this handle, under the same numbers. Call this before any other function on
/// the handle.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_carry_on(
    handle: *const Service,
    carried: *const u8,
    carried_len: usize,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, carried) = (caller.service(handle)?, caller.bytes("carried", carried, carried_len)?);
        service.carry_on(parse_json(carried)?)
    })
}

/// Records a change in the audit trail, and, once it is over, as `last_change` of the status. `change` is JSON:
///
/// - `from`, `to`: the mode before, and the mode that it is to be
/// - `result`: `begun`, `ok`, or `failed`, after which the settings of before hold again
/// - `by`: who asked for it, `{"socket":{"pid":…,"uid":…}}` or `"signal"`; optional
/// - `at`: when it was over, in microseconds since 1970; `paused_ms`: for how long operations waited; `locks`: how many went along;
///   `error`: why it failed; optional
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_note_change(
    handle: *const Service,
    change: *const u8,
    change_len: usize,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, change) = (caller.service(handle)?, caller.bytes("change", change, change_len)?);
        service.note_change(parse_json(change)?)
    })
}

/// Checks whether the stores of this handle could be opened again with the key that `config` names (`locking.encryption`). Call this before
/// you close the stores for a change. The key is read now, from its file, variable or command. `config` is as in `atlock_open`. Returns
/// `ATLOCK_ENCRYPTION_KEY` if the key is another one, and `ATLOCK_INVALID_CONFIG` if it cannot be read.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_check_keys(
    handle: *const Service,
    config: *const u8,
    config_len: usize,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, config) = (caller.service(handle)?, caller.text("config", config, config_len)?);
        service.check_keys(&Config::parse(config, "the configuration")?)
    })
}

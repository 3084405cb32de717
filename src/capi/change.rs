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

/// `atlock_close` for a program that opens stores again at once: whoever waits for a lock hears `ATLOCK_CLOSED` and keeps its place in the
/// queue, which it finds again when it asks the next handle; and the runs that are open are written to `out`, for `atlock_carry_on`. After
/// another close this is `ATLOCK_CLOSED`.
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

/// The runs that `atlock_close_to_reopen` wrote go on in this handle, under the same numbers. Call it before anything else is asked.
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

/// Looks whether the stores of this handle could be opened again with the key that `config` names (`locking.encryption`), which is read now, by its
/// file, variable or command: before a program closes them for a change. `config` is as in `atlock_open`. `ATLOCK_ENCRYPTION_KEY` if it
/// is another key, `ATLOCK_INVALID_CONFIG` if it cannot be read.
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

//! The shadow of a store that is the program's own (`crate::shadow`).

use std::sync::Arc;

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use super::process;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::shadow::Told;

/// Begins the shadow that `locking.shadow` of a configuration names, beside a store that the program calls itself (strict mode on
/// Atlantis's own store), and writes its handle to `out`. `config` is as for `atlock_open`, which has a shadow of its own for the stores
/// that it opens. `is_redis` is 1 if the program's store is the Redis of `locking.enhanced.redis`, otherwise 0: that Redis must not become
/// its own shadow.
///
/// This waits for no store. If something is wrong with the shadow's store, `atlock_shadow_status` says so. Tell it each operation by
/// `atlock_shadow_begin` and `atlock_shadow_end`, and the list of all locks, with `"fill":true`, whenever it is not in step.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_shadow_open(
    config: *const u8,
    config_len: usize,
    is_redis: i32,
    out: *mut *mut Told,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (out, config) = (caller.out("out", out)?, caller.text("config", config, config_len)?);
        let config = Config::parse(config, "the configuration")?;
        process::opens()?;
        let told = Told::open(&config, is_redis != 0, Arc::new(SystemClock))?;
        out.write(Box::into_raw(Box::new(told)));
        Ok(())
    })
}

/// An operation begins: call this before the program's store is asked. Writes a number to `number`, for `atlock_shadow_end`,
/// which must follow.
///
/// `asked` is JSON: `{"operation":…}` with one of `try_lock` and `lock_command` (`key`, `value`), `unlock` (`key`; `pull`, if
/// only that pull may hold it), `get_lock`, `unlock_command`, `check_command_lock`, `pull_status` and `swap_pull_status` (`key`),
/// `unlock_by_pull` (`repo`, `pull`), `list` (`"fill":true` if it is for the shadow alone, `"fragile":true` if a change of one lock
/// meanwhile may garble others in it). A value is the lock's JSON; one lock's is told with the same bytes each time.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_shadow_begin(
    shadow: *const Told,
    asked: *const u8,
    asked_len: usize,
    number: *mut u64,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let number = caller.out("number", number)?;
        number.write(caller.told(shadow)?.begin(caller.bytes("asked", asked, asked_len)?)?);
        Ok(())
    })
}

/// The operation has ended. `answer` is JSON: `"granted"`; `{"held":SAID}`, by whom; `{"was":SAID}`, what is, or was before its
/// release, at the key; `{"left":SAID}`, what a pull status is now; `{"locks":[…]}`, all or those that were released;
/// `"not_known"`, after an error. SAID is `"nothing"`, `"something"`, or `{"this":value}`. It is compared later, by a thread of
/// the shadow.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_shadow_end(
    shadow: *const Told,
    number: u64,
    answer: *const u8,
    answer_len: usize,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| caller.told(shadow)?.end(number, caller.bytes("answer", answer, answer_len)?))
}

/// Writes how the shadow stands to `out`: `{"shadow":{…},"warning":…}`, the former as in `atlock_status`, the latter a text or
/// null.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_shadow_status(shadow: *const Told, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let out = caller.out("out", out)?;
        let (report, warning) = caller.told(shadow)?.report();
        out.write_json(&serde_json::json!({ "shadow": report, "warning": warning }))
    })
}

/// Writes the shadow's metrics to `out`: whole families of OpenMetrics text, without the end line.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_shadow_metrics(shadow: *const Told, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let out = caller.out("out", out)?;
        out.write_bytes(caller.told(shadow)?.metrics().into_bytes());
        Ok(())
    })
}

/// Ends the shadow, and frees its handle; waits for its store for at most two seconds. Null is harmless. No other call may use
/// the handle meanwhile or later.
///
/// # Safety
/// `shadow` is null or a handle from `atlock_shadow_open` that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_shadow_free(shadow: *mut Told) {
    let told = caller!().given_back(shadow);
    guard(caller!(), std::ptr::null_mut(), |_| {
        told.iter().for_each(|told| told.close());
        drop(told);
        Ok(())
    });
}

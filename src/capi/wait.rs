//! Waiting for locks. These functions block the thread that calls them.

use super::buffer::Buffer;
use super::caller::{Caller, caller};
use super::entry::guard;
use crate::error::Result;
use crate::service::Service;
use crate::service::queueing::wait::WaitOptions;

/// Takes a project's lock, and waits for it if it is not free: in the order of the repository's queue; without a queue in the
/// configuration the lock goes to whoever asks first after its release.
///
/// This blocks the calling thread for as long as it waits, and is the one exception beside `atlock_lock_set` to the rule about time. Other
/// threads use the handle meanwhile; `atlock_cancel` ends a wait, and so does `atlock_close`, with `ATLOCK_CLOSED`.
///
/// `lock` is as for `atlock_try_lock`; its pull's number must be above 0 (`ATLOCK_NO_PULL`). `options` is empty, or a JSON object:
///
/// - `priority`: 0 to 3, or `low`, `normal` (the default), `high`, `critical`
/// - `timeout_ms`: how long at most, milliseconds; 0 asks once; absent, `locking.enhanced.timeouts.default`. Above
///   `locking.enhanced.timeouts.max`, or negative, is `ATLOCK_INVALID_ARGUMENT`
/// - `cancel`: a name of 1 to 256 bytes, of this wait alone, for `atlock_cancel`
///
/// A member that is none of these is `ATLOCK_INVALID_JSON`. `out` receives `{"acquired":true,"token":N,"lock":{…}}`, at once if the pull has
/// the lock already: the lock as it is stored, and N 0 where it is not known. Or it receives
/// `{"acquired":false,"why":…,"lock":{…},"queue":{…}}`, also with `ATLOCK_OK`: `why` is `timeout`, `cancelled`, or `left` if somebody took
/// the pull out of the queue; `lock` and `queue` are as in `atlock_try_lock_in`, the last that were seen. The pull is out of the queue then, and
/// after an error, too, unless it also waits by a run, or by another caller of this process.
///
/// `ATLOCK_QUEUE_FULL`: nobody more can wait.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_lock(
    handle: *const Service,
    lock: *const u8,
    lock_len: usize,
    options: *const u8,
    options_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    waiting(caller!(), handle, ("lock", lock, lock_len), (options, options_len), out, error, |service, lock, options| {
        service.lock(lock, options)?.to_json()
    })
}

/// Takes all of these locks or none newly, and waits until they can be had together. `locks` is a JSON array of 1 to 500 locks as for
/// `atlock_try_lock`, of one repository and pull, none twice. A lock that the pull has already stays with it either way.
///
/// It blocks, and takes `options`, as `atlock_lock` does. `out` receives `{"acquired":true,"locks":[{"lock":{…},"token":N},…]}`, in the
/// order of their keys; or what `atlock_lock` gives where it was refused, with the first lock that is in the way, which
/// `queue.blocker.key` names. A crash in the middle leaves no part of a set: what was granted is released by whoever looks at the queue
/// two minutes later. Without a queue in the configuration this is `ATLOCK_QUEUE_DISABLED`.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_lock_set(
    handle: *const Service,
    locks: *const u8,
    locks_len: usize,
    options: *const u8,
    options_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    waiting(caller!(), handle, ("locks", locks, locks_len), (options, options_len), out, error, |service, locks, options| {
        service.lock_set(locks, options)?.to_json()
    })
}

/// Ends the wait of this name in this handle, also one that begins only afterwards. From any thread; it does not wait for the waiter, who
/// returns once the pull is out of the queue, or with the lock if that came first.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_cancel(handle: *const Service, name: *const u8, name_len: usize, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| caller.service(handle)?.cancel(caller.text("name", name, name_len)?))
}

/// Runs an operation that waits, and writes its answer.
fn waiting(
    caller: Caller,
    handle: *const Service,
    (name, asked, asked_len): (&str, *const u8, usize),
    (options, options_len): (*const u8, usize),
    out: *mut Buffer,
    error: *mut Buffer,
    operation: impl FnOnce(&Service, &[u8], &WaitOptions) -> Result<Vec<u8>>,
) -> i32 {
    guard(caller, error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        let asked = caller.bytes(name, asked, asked_len)?;
        let options = WaitOptions::parse(caller.bytes("options", options, options_len)?)?;
        out.write_bytes(operation(service, asked, &options)?);
        Ok(())
    })
}

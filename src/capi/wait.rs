//! Waiting for locks. These functions block the thread that calls them.

use super::buffer::Buffer;
use super::caller::{Caller, caller};
use super::entry::guard;
use crate::error::Result;
use crate::service::Service;
use crate::service::queueing::wait::WaitOptions;

/// Takes a project's lock, and waits for it if it is not free. Callers get the lock in the order of the repository's queue. Without a queue
/// in the configuration, the caller that asks first after the lock's release gets it.
///
/// This blocks the calling thread for as long as it waits: see the rule about time at the top of `atlock.h`. Other threads can use the
/// handle meanwhile. `atlock_cancel` ends a wait, and so does `atlock_close`, with `ATLOCK_CLOSED`.
///
/// `lock` is as for `atlock_try_lock`; its pull's number must be above 0 (`ATLOCK_NO_PULL`). `options` is empty, or a JSON object:
///
/// - `priority`: 0 to 3, or `low`, `normal` (the default), `high`, `critical`
/// - `timeout_ms`: how long at most, milliseconds; 0 asks once; absent, `locking.enhanced.timeouts.default`. Above
///   `locking.enhanced.timeouts.max`, or negative, is `ATLOCK_INVALID_ARGUMENT`
/// - `cancel`: a name of 1 to 256 bytes, of this wait alone, for `atlock_cancel`
///
/// Any other member is `ATLOCK_INVALID_JSON`. `out` receives `{"acquired":true,"token":N,"lock":{…}}`, at once if the pull has the lock
/// already: `lock` is the lock as it is stored, and N is 0 if the token is not known. Or it receives
/// `{"acquired":false,"why":…,"lock":{…},"queue":{…}}`, also with `ATLOCK_OK`: `why` is `timeout`, `cancelled`, or `left` if somebody took
/// the pull out of the queue; `lock` and `queue` are as in `atlock_try_lock_in`, as they were last seen. The pull is then out of the queue,
/// also after an error, unless it also waits by a run, or by another caller of this process.
///
/// `ATLOCK_QUEUE_FULL`: no more pulls can wait.
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

/// Takes all of these locks or no new one, and waits until all can be had together. `locks` is a JSON array of 1 to 500 locks as for
/// `atlock_try_lock`, of one repository and pull, none twice. In both cases the pull keeps the locks that it already has.
///
/// It blocks, and takes `options`, as `atlock_lock` does. `out` receives `{"acquired":true,"locks":[{"lock":{…},"token":N},…]}`, in the
/// order of their keys; or, if the set was refused, the same as from `atlock_lock`, for the first lock that is in the way;
/// `queue.blocker.key` names that lock. After a crash in the middle, no part of a set stays: two minutes later, any server that looks at
/// the queue releases the locks that were granted. Without a queue in the configuration this is `ATLOCK_QUEUE_DISABLED`.
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

/// Ends the wait of this name in this handle, also a wait that begins only afterwards. Call this from any thread. It returns at once; the
/// waiting call returns when its pull is out of the queue, or with the lock if the lock came first.
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

//! Project locks.
//!
//! `target` in these functions is JSON that names a lock: an object with a lock's `Project` and `Workspace` (a whole lock
//! will do), or `{"Key":"repo/path/workspace/project"}`.

use super::buffer::{Buffer, Spans};
use super::caller::{Caller, caller};
use super::entry::{granted_json, guard};
use crate::error::Result;
use crate::service::Service;

/// Takes a project's lock if it is free.
///
/// `lock` is the JSON of Atlantis's `models.ProjectLock`, at most 1 MiB; it is stored byte for byte. `out` receives
/// `{"acquired":true,"token":N}`, where N is the fencing token, larger than that of every earlier holder of this lock; or
/// `{"acquired":false,"lock":{…}}` with the holder's lock. Both are `ATLOCK_OK`. If the holder is another pull with the same number, the
/// function returns `ATLOCK_OTHER_PULL` and does not name the holder, because Atlantis would take it for the same pull.
///
/// `ATLOCK_INVALID_JSON`: `lock` is not such a lock, in each member that the struct has; additional members may hold any JSON.
/// `ATLOCK_ENTRY_UNREADABLE`: another program stored something at the key that is no lock; that entry stays.
///
/// It is not safe to assume that the lock is held until its taker releases it: anyone may release it by name.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_try_lock(
    handle: *const Service,
    lock: *const u8,
    lock_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, lock) = (caller.service(handle)?, caller.out("out", out)?, caller.bytes("lock", lock, lock_len)?);
        out.write_bytes(granted_json(&service.try_lock(lock)?));
        Ok(())
    })
}

/// Releases the lock named by `target`. `out` receives the released lock, or `null` if there was none.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_unlock(
    handle: *const Service,
    target: *const u8,
    target_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    answer(caller!(), handle, (target, target_len), out, error, |service, target| service.unlock(target))
}

/// The same as `atlock_unlock`, but only if pull `pull_num` holds the lock; otherwise it stays and `out` receives `null`.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_unlock_if_owned_by_pull(
    handle: *const Service,
    target: *const u8,
    target_len: usize,
    pull_num: i64,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    answer(caller!(), handle, (target, target_len), out, error, |service, target| {
        service.unlock_if_owned_by_pull(target, pull_num)
    })
}

/// Reads the lock named by `target`. `out` receives it, or `null` if there is none.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_get_lock(
    handle: *const Service,
    target: *const u8,
    target_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    answer(caller!(), handle, (target, target_len), out, error, |service, target| service.get_lock(target))
}

/// Removes whatever is stored at the key of `target`, also an entry that cannot be read as a lock. `out` receives the bytes that were
/// there, which need not be JSON, or `null`. This is for operators; to release a lock, use `atlock_unlock`.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_discard(
    handle: *const Service,
    target: *const u8,
    target_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    answer(caller!(), handle, (target, target_len), out, error, |service, target| service.discard(target))
}

/// Lists all project locks. `out` receives `{"locks":[…],"unreadable":[{"key":…,"reason":…},…]}`. If there may be more of either, the last
/// member is `"incomplete":"…"`, a text that says why.
///
/// `spans`, unless null, receives where each lock lies in `out`, for callers who decode them one by one or on several threads.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_list(handle: *const Service, out: *mut Buffer, spans: *mut Spans, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_listing(service.list()?, caller.optional(spans));
        Ok(())
    })
}

/// Lists all project locks as Atlantis's models alone: `out` receives a JSON array of `models.ProjectLock`, `[]` if there is none.
///
/// An entry that cannot be read is not in the array, and its lock stays held: `atlock_list` names such entries, and `atlock_status` counts
/// them. `ATLOCK_DEGRADED`: the array might not have all locks.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_list_locks(handle: *const Service, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_bytes(service.list()?.into_array()?);
        Ok(())
    })
}

/// Tells how locks stand, for operators: `keys` is a JSON array of lock keys (`"repo/path/workspace/project"`), and `out` receives
/// an array with `{"token":…,"store":…}` for each: the holder's fencing token, absent for a lock that a stock server took, and which
/// store has the lock: `legacy`, `enhanced` (Redis), `both`, or `pending` (asked of Redis, whose answer is not known yet). `null`
/// where it is not known: there is no such lock, or its store keeps nothing beside values.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_lock_info(
    handle: *const Service,
    keys: *const u8,
    keys_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, keys) = (caller.service(handle)?, caller.out("out", out)?, caller.bytes("keys", keys, keys_len)?);
        out.write_json(&service.lock_infos(keys)?)
    })
}

/// Releases every lock that pull `pull_num` of exactly the repository `repo` (its full name) holds. `out` receives the released locks, and
/// `spans` their places, as in `atlock_list`. If `out` has `incomplete`, the locks in `out` were released; call again to release the rest.
///
/// After an error, some locks may have been released; call again to release the rest.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_unlock_by_pull(
    handle: *const Service,
    repo: *const u8,
    repo_len: usize,
    pull_num: i64,
    out: *mut Buffer,
    spans: *mut Spans,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, repo) = (caller.service(handle)?, caller.out("out", out)?, caller.text("repo", repo, repo_len)?);
        out.write_listing(service.unlock_by_pull(repo, pull_num)?, caller.optional(spans));
        Ok(())
    })
}

/// Runs an operation on the lock named by `target`, and writes its value or `null`.
fn answer(
    caller: Caller,
    handle: *const Service,
    (target, target_len): (*const u8, usize),
    out: *mut Buffer,
    error: *mut Buffer,
    operation: impl FnOnce(&Service, &[u8]) -> Result<Option<Vec<u8>>>,
) -> i32 {
    guard(caller, error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_value(operation(service, caller.bytes("target", target, target_len)?)?);
        Ok(())
    })
}

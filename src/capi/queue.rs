//! Who waits where, and what a grant is worth. None of these functions waits for a lock.

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use crate::domain::json::parse_object;
use crate::domain::token::FencingToken;
use crate::service::Service;
use crate::service::queueing::json::{CheckRequest, LeaveRequest, PlaceRequest};

/// Writes to `position` the place of a pull among the pulls that wait for a lock: 0 if the pull holds the lock, 1 if it is next. `request`
/// is JSON: `{"repo":…,"key":…,"pull":{"host":…,"num":…}}`, the key being `repo/path/workspace/project`. Without `pull`, it is the place
/// that a newcomer would have, and 0 means that the lock is free.
///
/// A pull that neither holds the lock nor waits for it is `ATLOCK_NOT_QUEUED`. Without a queue in the configuration, the function returns
/// `ATLOCK_QUEUE_DISABLED` instead of any place but 0.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_position(
    handle: *const Service,
    request: *const u8,
    request_len: usize,
    position: *mut u64,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, position) = (caller.service(handle)?, caller.out("position", position)?);
        let request: PlaceRequest = parse_object(caller.bytes("request", request, request_len)?)?;
        position.write(service.position(&request.key, &request.repo, request.pull.as_ref())? as u64);
        Ok(())
    })
}

/// Writes as JSON to `out` who waits in the repository `repo` (its full name), or with an empty text in each: an object of arrays by
/// repository, in order, without those where nobody waits. A pull has
///
/// - `pull`: `{"host":…,"num":…}`; `url`, its page; `user`, who asked for its lock
/// - `priority`: `low`, `normal`, `high` or `critical`
/// - `since`: since when it waits, microseconds since 1970
/// - `whole`: whether it takes all that it waits for at once
/// - `keys`: by key, `{"position":…,"reserved_until":…}`: 1 is next; until when the free lock is kept for this pull, microseconds since
///   1970, `null` while it is not
/// - `stale`: `true` if the local store told it in Redis's place; else absent
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_queues(
    handle: *const Service,
    repo: *const u8,
    repo_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, repo) = (caller.service(handle)?, caller.out("out", out)?, caller.text("repo", repo, repo_len)?);
        out.write_json(&service.queues((!repo.is_empty()).then_some(repo))?)
    })
}

/// Takes a pull out of a queue, also one that Atlantis put there, and writes to `left` for how many locks it waited. `request` is JSON:
/// `{"repo":…,"pull":{"host":…,"num":…},"key":…}`; without `key`, the pull then waits for nothing any more. The pull keeps the locks that
/// it holds. A caller that waits for the pull in `atlock_lock` gets `left`.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_leave(
    handle: *const Service,
    request: *const u8,
    request_len: usize,
    left: *mut u64,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, left) = (caller.service(handle)?, caller.out("left", left)?);
        let request: LeaveRequest = parse_object(caller.bytes("request", request, request_len)?)?;
        left.write(service.leave(&request.repo, &request.pull, request.key.as_deref())? as u64);
        Ok(())
    })
}

/// Asks the store that decides whether a grant still stands. `request` is JSON: `{"repo":…,"key":…,"pull":{"host":…,"num":…},"token":N}`;
/// without `token`, or with 0, any grant to this pull will do. `out` receives `{"holds":…,"token":N,"holder":{"host":…,"num":…}}`: whether
/// it does; the fencing token of whoever holds the lock, absent where nobody does or it is not known; and that pull, absent where there is
/// none.
///
/// The answer can be out of date as soon as it is there: a lock can be released by name at any time.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_check(
    handle: *const Service,
    request: *const u8,
    request_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        let request: CheckRequest = parse_object(caller.bytes("request", request, request_len)?)?;
        let token = request.token.filter(|token| *token != FencingToken::NONE);
        out.write_json(&service.check(&request.key, &request.repo, &request.pull, token)?)
    })
}

/// Writes as JSON to `out` what was counted since the handle was opened: `active_locks`, held now by whomever; `total_requests`, tries to
/// take a lock; of these `successful_acquires` and `failed_acquires`; `average_wait_ms` of callers who waited and have the lock, and
/// `average_hold_ms` of locks that this handle took and released, milliseconds; `queue_depth`, pulls that wait; `health_score`, 100 healthy,
/// 50 degraded, 0 unhealthy; `last_updated`, microseconds since 1970. Asks the stores for all locks.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_stats(handle: *const Service, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.stats()?)
    })
}

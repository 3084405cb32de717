//! Runs: a plan, apply or unlock of a pull request from its begin to its end.
//!
//! Atlantis gives the locks of a pull up before it plans the pull again. Between `atlock_run_begin` and `atlock_run_end` of a plan, the
//! pull's own `atlock_unlock_if_owned_by_pull` and `atlock_unlock_by_pull` answer with the lock and keep it; what the run does not take
//! again is released at its end. Who is refused by `atlock_try_lock_in` joins the queue. A run lives in this process and handle.
//! `atlock_next` tells whose turn it is.
//!
//! None of these functions waits for a lock.

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use crate::domain::json::parse_object;
use crate::service::Service;

/// Begins a run and writes its number to `run`. `request` is JSON:
///
/// - `repo`: full name of the repository
/// - `pull`: `{"host":…,"num":…}`, the pull request: its Git host's name, empty for any, and its number, above 0 (`ATLOCK_NO_PULL`)
/// - `command`: `plan`, `apply` or `unlock`. Only a plan puts its releases off to its end; an unlock is asked for by a person, and releases
///   at once
/// - `base`, `author`: the branch into which the pull request is to go, and who opened it, for the configured rules about priority; optional
/// - `labels`: the labels that the pull request has, for the same rules: a list of at most 100 texts of at most 1,024 bytes each
///   (`ATLOCK_TOO_LARGE`); optional, and without it no rule with a label fits
/// - `applied`: keys of the locks under which something was applied that is not merged, which the run never releases; optional
/// - `recipe`: a text of at most 512 bytes that `atlock_next` gives back when it is the pull's turn, such as who is to plan the pull and how;
///   optional. It is stored in the queue: no secrets
///
/// Any other member is `ATLOCK_INVALID_JSON`. Without a queue in the configuration this returns `ATLOCK_QUEUE_DISABLED`. End each run with
/// `atlock_run_end`, however it went.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_run_begin(
    handle: *const Service,
    request: *const u8,
    request_len: usize,
    run: *mut u64,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, run) = (caller.service(handle)?, caller.out("run", run)?);
        run.write(service.run_begin(&parse_object(caller.bytes("request", request, request_len)?)?)?);
        Ok(())
    })
}

/// Tells which locks the run is going to take: a JSON array of at most 500 locks, each as for `atlock_try_lock`, of the run's repository
/// and pull, none twice. With `sets: whole` in the configuration, the first `atlock_try_lock_in` of one of these locks then takes all of
/// them or no new one. Without it, this call changes nothing.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_run_declare(
    handle: *const Service,
    run: u64,
    locks: *const u8,
    locks_len: usize,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| caller.service(handle)?.run_declare(run, caller.bytes("locks", locks, locks_len)?))
}

/// The same as `atlock_try_lock`, inside a run. A lock that the pull already has is acquired. A pull that is refused joins the queue, and
/// stays in the queue after the run. `out` receives `{"acquired":true,"token":N,"lock":{…}}` with the lock as it is stored, N being 0 where
/// it is not known; or `{"acquired":false,"lock":{…},"queue":{…}}` with the lock of the holder, or of the pull for which it is kept.
/// `queue` is absent where the pull has no place, and has
///
/// - `position`: 1 is next; 0 if the queue is full
/// - `ahead`: the pulls before it, `{"host":…,"num":…}`, the next one first
/// - `since`: since when it waits, microseconds since 1970
/// - `why`: `held`; `reserved` to the first of `ahead`; `set`, another lock of its set is not free; `full`
/// - `blocker`: with `set`, `{"key":…,"pull":{…}}`: that other lock, and who holds it, if that is known
/// - `stale`: `true` if the place may be out of date: the local store told it in Redis's place, or no store could be asked any more; else absent
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_try_lock_in(
    handle: *const Service,
    run: u64,
    lock: *const u8,
    lock_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, lock) = (caller.service(handle)?, caller.out("out", out)?, caller.bytes("lock", lock, lock_len)?);
        out.write_bytes(service.try_lock_in(run, lock)?.to_json()?);
        Ok(())
    })
}

/// Ends a run: releases the locks that the pull gave up in the run and did not take again. `out` receives `{"released":[…],"waiting":{…}}`:
/// the keys of the locks that were released, and by key the locks for which the pull waits, each as `queue` in `atlock_try_lock_in`.
///
/// After an error the run is over, too, unless there was no run of that number (`ATLOCK_INVALID_ARGUMENT`). Locks that were not released
/// stay held.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_run_end(handle: *const Service, run: u64, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.run_end(run)?)
    })
}

/// Tells whose turn it is, for a server that plans pull requests by itself. `request` is JSON:
///
/// - `claim_ms`: how long no other caller is told of the pulls that this call names, in milliseconds; 0: as long as a lock is kept for
///   them. A run of the pull keeps the claim, and the end of that run gives the claim up. At most a day
/// - `most`: how many to name at most; optional, 0: all
/// - `wait_ms`: waits for so long at most, milliseconds, until there is somebody to name; optional, 0. At most a day
///
/// A member that is none of these is `ATLOCK_INVALID_JSON`. `out` receives `{"turns":[…],"left":[…]}`, both empty where there was nobody.
/// Each of `turns` is a pull that joined by a run, and for which locks are kept:
///
/// - `repo`; `pull`, `{"host":…,"num":…}`; `url`, its page; `user`, who asked for its lock; `author`; `host_type`, the kind of its Git host
///   as Atlantis numbers them; `recipe`, absent where the run had none
/// - `keys`: the locks that are kept for it; `waits`: those for which it waits besides
/// - `until`: until when the first of `keys` is kept, microseconds since 1970
///
/// Each of `left` is a pull that waits for nothing any more, because three times it did not take a lock that was kept for it. It has the
/// same members without `waits` and `until`; `keys` are the locks for which it waited. Such a pull is named once, by the handle that saw it
/// leave.
///
/// A pull that is named has no lock yet: take the lock by `atlock_try_lock_in`. This names pulls of the repositories in which, as this
/// handle knows, somebody waits; it looks for other repositories once a minute. It blocks as `atlock_lock` does, and `atlock_close` ends
/// the wait. Without a queue in the configuration this is `ATLOCK_QUEUE_DISABLED`.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_next(
    handle: *const Service,
    request: *const u8,
    request_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.next(parse_object(caller.bytes("request", request, request_len)?)?)?)
    })
}

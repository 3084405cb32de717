//! The audit trail: who makes a change, and what the library does not see by itself.

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use super::process;
use crate::audit::{Actor, Recorder};
use crate::config::Config;
use crate::domain::json::parse_json;
use crate::service::Service;

/// Writes another handle on the same stores to `out`. For each change that is made by that handle, the audit trail says who made it, and by
/// which way.
///
/// `actor` is JSON: `{"via"?:…,"by"?:{"user"?:text,"uid"?:number,"pid"?:number,"address"?:text}}`, where `via` is one of `page`, `api`,
/// `command_line`, `comment`, `pull_closed`, `plan`, `apply`, `queue`, `stale_locks`, `recovery`, `stock`, `migration`, `signal`. What is not
/// known is left out. Texts are cut at 256 bytes.
///
/// Free the new handle with `atlock_free`, which closes nothing as long as `handle` is there. `atlock_close` of either handle closes both.
/// To make a handle for a single call is cheap.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_acting_as(
    handle: *const Service,
    actor: *const u8,
    actor_len: usize,
    out: *mut *mut Service,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        let actor: Actor = parse_json(caller.bytes("actor", actor, actor_len)?)?;
        out.write(Box::into_raw(Box::new(service.acting_as(actor))));
        Ok(())
    })
}

/// Opens the audit trail that `locking.audit` of a configuration names, and writes its handle to `out`; null if it names none. `config` is
/// as for `atlock_open`. This trail is for things that only the program sees: changes in a store of its own (strict mode on Atlantis's own
/// code), or a log-in that failed. The trail may be open beside a handle of `atlock_open` with the same settings.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_audit_open(
    config: *const u8,
    config_len: usize,
    out: *mut *mut Recorder,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (out, config) = (caller.out("out", out)?, caller.text("config", config, config_len)?);
        let config = Config::parse(config, "the configuration")?;
        process::opens()?;
        let opened = Recorder::open(&config.locking.audit)?;
        out.write(opened.map_or(std::ptr::null_mut(), |opened| Box::into_raw(Box::new(opened))));
        Ok(())
    })
}

/// Records an entry. `entry` is JSON: `{"kind":…}` with one of `grant`, `refusal`, `release`, `discard`, `error`, `denied`, `intent`, `unchanged`
/// and the other kinds of the trail (docs/audit.md), and as far as they are known `operation`, `key`, `command`, `repo`, `pull`, `store`,
/// `user`, `holder` (`{"repo":…,"pull":…,"user":…}`), `code`, `detail`, `settings` (names), `request`, and `actor` as in `atlock_acting_as`. Give
/// no secret.
///
/// Before a change, record an `intent`, and do not make the change if that fails. (Without `locking.audit.required`, an `intent` is not
/// written, and that is no error.) Afterwards record how the change ended, with the same `request`. `ATLOCK_AUDIT_FAILED`: the entry is not
/// in the trail.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_audit_record(
    audit: *const Recorder,
    entry: *const u8,
    entry_len: usize,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (recorder, entry) = (caller.recorder(audit)?, caller.bytes("entry", entry, entry_len)?);
        recorder.record(parse_json(entry)?)
    })
}

/// Writes `{"warning":…,"lost":N}` to `out`: what an operator must know of the trail, a text or null, and how many entries could not be
/// written.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_audit_status(audit: *const Recorder, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (recorder, out) = (caller.recorder(audit)?, caller.out("out", out)?);
        let (warning, lost) = recorder.report();
        out.write_json(&serde_json::json!({ "warning": warning, "lost": lost }))
    })
}

/// Closes a trail and frees its handle. Null is harmless. No other call may use the handle meanwhile or later.
///
/// # Safety
/// `audit` is null or a handle from `atlock_audit_open` that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_audit_free(audit: *mut Recorder) {
    let recorder = caller!().given_back(audit);
    guard(caller!(), std::ptr::null_mut(), |_| {
        drop(recorder);
        Ok(())
    });
}

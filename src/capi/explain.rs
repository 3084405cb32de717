//! Freezes, deadlocks, and why a lock is as it is.
//!
//! These functions need the queue: without `locking.enhanced.priority_queue.enabled` all but `atlock_explain` are an error. Times are
//! microseconds since 1970. A `pull` is `{"host":"…","num":7}`; an empty host is any.

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use crate::domain::json::parse_json;
use crate::service::Service;
use crate::service::queueing::explain::question;

/// Freezes locks: nobody takes them while that lasts, and who has them keeps them. Other servers obey within five seconds.
///
/// `freeze` is JSON: `{"pattern":{"repo":"acme/infra","path":"prod/…","workspace":"*","project":"*"},"reason":"…","owner":"…"}`, where
/// `*` stands for any text and a member of the pattern that is left out is `*`, but for `repo`; and `"until"`, or
/// `"open_ended":true`. `"from"` begins it later; with `"plans":"allow"` only applies are to be refused, by whoever runs them. `out`
/// receives the freeze with its `id`. There are at most 100.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_freeze(
    handle: *const Service,
    freeze: *const u8,
    freeze_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.freeze(&parse_json(caller.bytes("freeze", freeze, freeze_len)?)?)?)
    })
}

/// Ends the freeze of this `id`. `out` receives the freeze, or `null` if there is none.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_thaw(
    handle: *const Service,
    id: *const u8,
    id_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.thaw(caller.text("id", id, id_len)?)?)
    })
}

/// Writes the freezes that are not over to `out`, as a JSON array.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_freezes(handle: *const Service, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.freezes()?)
    })
}

/// Says why a lock is as it is, and what would free it. `question` is `{"key":"…"}`, or `{"repo":"…","pull":{…}}` for all that a pull
/// holds or waits for. `out` receives a JSON array with one object for each lock:
/// `{"key","state","holder","queue":[…],"blocked_by":[{"kind","what","who"}],"frees_it":["…"],"deadlock","store","stale"}`; `state` is
/// `free`, `held`, `reserved`, `frozen`, `conflict` or `unknown`, and `frees_it` has sentences for a person.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_explain(
    handle: *const Service,
    question: *const u8,
    question_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.explain(&self::question(caller.bytes("question", question, question_len)?)?)?)
    })
}

/// Writes the pulls that wait for each other in a circle to `out`, as a JSON array of
/// `{"id","kind":"held","repo","pulls":[…],"keys":[…],"since","suggestion","victim"}`. Each was seen twice, with the same grants.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_deadlocks(handle: *const Service, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.deadlocks()?)
    })
}

/// Ends the deadlock of this `id`, where the settings say `resolve: yield`: one pull gives its locks of the circle back, and waits for them
/// from its old place. The caller then deletes their plans.
///
/// `standings` is a JSON array of `{"pull":{…},"applied":false,"running":false}`, what the caller knows of each pull of the circle; a
/// pull that is not named, of which something is applied, or of which something runs gives nothing back. `out` receives
/// `{"id","repo","pull","released":{"key":token}}`, or `null` if no pull may.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_end_deadlock(
    handle: *const Service,
    id: *const u8,
    id_len: usize,
    standings: *const u8,
    standings_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, id) = (caller.service(handle)?, caller.out("out", out)?, caller.text("id", id, id_len)?);
        let standings: Vec<_> = parse_json(caller.bytes("standings", standings, standings_len)?)?;
        out.write_json(&service.end_deadlock(id, &standings)?)
    })
}

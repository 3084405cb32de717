//! Freezes, deadlocks, and why a lock is as it is.
//!
//! These functions need the queue: without `locking.enhanced.priority_queue.enabled` all but `atlock_explain` are an error. Times are
//! microseconds since 1970. A `pull` is `{"host":"…","num":7}`; an empty host is any.

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use crate::domain::json::{parse_json, parse_object};
use crate::service::Service;
use crate::service::queueing::explain::question;

/// Freezes locks: nobody can take them while the freeze lasts, and pulls that hold them keep them. Other servers obey within five seconds.
///
/// `freeze` is JSON: `{"pattern":{"repo":"acme/infra","path":"prod/…","workspace":"*","project":"*"},"reason":"…","owner":"…"}`, where `*`
/// stands for any text and a member of the pattern that is left out is `*`, but for `repo`; and `"until"`, or `"open_ended":true`. With
/// `"from"` the freeze begins later. With `"plans":"allow"` locks can be taken, and the program that runs applies must refuse applies
/// alone. `out` receives the freeze with its `id`. There are at most 100.
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
        out.write_json(&service.freeze(&parse_object(caller.bytes("freeze", freeze, freeze_len)?)?)?)
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

/// Says why a lock is as it is, and what would free it. `question` is `{"key":"…"}`, or `{"repo":"…","pull":{…}}` for all locks that a pull
/// holds or waits for. `out` receives a JSON array with one object for each lock:
/// `{"key","state","holder","queue":[…],"blocked_by":[{"kind","what","who"}],"frees_it":["…"],"deadlock","no_queue","store","stale"}`;
/// `state` is `free`, `held`, `reserved`, `frozen`, `conflict` or `unknown`, and `frees_it` has sentences for a person.
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
/// `{"id","kind":"held","repo","pulls":[…],"keys":[…],"links":[{"waiter","holder","keys":[…]}],"rank":[…],"since","suggestion","victim"}`.
/// Each was seen twice, with the same grants. `rank` has its pulls, the one that would yield first first.
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

/// Claims the task of telling people of the deadlock of this `id`. `out` receives the pulls of the deadlock on which nobody has told them
/// yet, as a JSON array of `{"host","num"}`: the caller must tell people there. Each pull is named to one caller only, over all servers.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_tell_deadlock(
    handle: *const Service,
    id: *const u8,
    id_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out, id) = (caller.service(handle)?, caller.out("out", out)?, caller.text("id", id, id_len)?);
        out.write_json(&service.tell_deadlock(id)?)
    })
}

/// Ends the deadlock of this `id`, if the settings say `resolve: yield`: one pull gives back its locks of the circle, and waits for them
/// from its old place. The caller then deletes their plans.
///
/// `standings` is a JSON array of `{"pull":{…},"applied":false,"running":false}`, what the caller knows of each pull of the circle; a pull
/// gives nothing back if it is not named, if something of it is applied, or if something of it runs. `out` receives
/// `{"id","repo","pull","released":{"key":token}}`, or `null` if no pull may give its locks back.
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

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::Config;

    /// What a function wrote to its output, or its status and error.
    fn answer(call: impl FnOnce(*mut Buffer, *mut Buffer) -> i32) -> Result<String, (i32, String)> {
        let (mut out, mut error) = (Buffer::EMPTY, Buffer::EMPTY);
        let status = call(&mut out, &mut error);
        let text = |buffer: &mut Buffer| String::from_utf8(buffer.take()).expect("is UTF-8");
        if status == 0 { Ok(text(&mut out)) } else { Err((status, text(&mut error))) }
    }

    #[test]
    fn a_freeze_goes_in_and_out_as_json() {
        let folder = tempfile::tempdir().expect("is made");
        let settings = format!(
            "locking: {{backend: sled, data_dir: {}, enhanced: {{priority_queue: {{enabled: true}}}}}}",
            folder.path().join("locks").display()
        );
        let config = Config::parse(&settings, "test").expect("is read");
        let service = Service::open(&config, None, Arc::new(SystemClock)).expect("opens");
        let freeze = |text: &str| {
            // SAFETY: pointers of this frame, and lengths that are theirs.
            answer(|out, error| unsafe { atlock_freeze(&service, text.as_ptr(), text.len(), out, error) })
        };
        let pattern = r#""pattern":{"repo":"a/b"},"reason":"r","owner":"ada""#;
        let (status, text) = freeze(&format!("{{{pattern}}}")).expect_err("has no end");
        assert!(status == 1 && text.contains("open_ended"), "{status}: {text}");
        assert_eq!(freeze(&format!(r#"{{{pattern},"unknown":1}}"#)).expect_err("is unknown").0, 2);
        let frozen = freeze(&format!(r#"{{{pattern},"open_ended":true}}"#)).expect("is frozen");
        let id = frozen.split('"').nth(3).expect("has a name");
        // SAFETY: as above.
        let all = || answer(|out, error| unsafe { atlock_freezes(&service, out, error) }).expect("are told");
        assert_eq!(all(), format!("[{frozen}]"));
        let key = r#"{"key":"a/b/./default/"}"#;
        // SAFETY: as above.
        let explained = answer(|out, error| unsafe { atlock_explain(&service, key.as_ptr(), key.len(), out, error) });
        assert!(explained.expect("is explained").contains(r#""state":"frozen""#));
        // SAFETY: as above.
        let thawed = answer(|out, error| unsafe { atlock_thaw(&service, id.as_ptr(), id.len(), out, error) });
        assert_eq!(thawed.as_ref(), Ok(&frozen));
        assert_eq!(all(), "[]");
        // SAFETY: as above.
        let deadlocks = answer(|out, error| unsafe { atlock_deadlocks(&service, out, error) });
        assert!(deadlocks.expect_err("are not looked for").1.contains("deadlock_detection.enabled"));
        // SAFETY: as above; null with length 0 is empty.
        let ended =
            answer(|out, error| unsafe { atlock_end_deadlock(&service, id.as_ptr(), id.len(), ptr::null(), 0, out, error) });
        assert_eq!(ended.expect_err("is no JSON").0, 2);
        // SAFETY: as above.
        let told = answer(|out, error| unsafe { atlock_tell_deadlock(&service, id.as_ptr(), id.len(), out, error) });
        assert!(told.expect_err("are not looked for").1.contains("deadlock_detection.enabled"));
    }
}

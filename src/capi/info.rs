//! What an operator sees: ping, status, health, metrics.

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use crate::service::Service;

/// Returns `ATLOCK_OK` if the store that decides answers and could be written, the reason as a status otherwise.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_ping(handle: *const Service, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| caller.service(handle)?.ping())
}

/// Writes mode, counters, warnings and, in hybrid mode, who decides and why, as JSON to `out`. Times are microseconds since
/// 1970. Asks no store. `at_rest` tells which stores hold values in clear: `encrypted` (all is sealed), and `embedded`, `boltdb`, `redis`, each
/// `clear`, `sealed`, or `credentials_sealed` (in clear, but for the credentials of clone URLs), absent where there is no such store.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_status(handle: *const Service, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.status())
    })
}

/// Writes as JSON to `out` whether and how fast the stores answer: asks the store that decides or, in hybrid mode, tells what the last
/// probe of each saw. A store that does not answer is an answer: the function still returns `ATLOCK_OK`.
/// `{"overall","state","headline","enhanced","legacy","circuit_state"}`, each store as
/// `{"healthy","response_time":"15ms","response_time_ms":15.0,"error"}`. `overall` says whether locks can be granted. `state` is `healthy`,
/// `degraded` if locks are granted, but not as they should be, or `unhealthy` if no lock can be granted. `headline` says in a few words who
/// decides now, or that no lock is granted, and why.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_health(handle: *const Service, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_json(&service.health())
    })
}

/// Writes counters and latencies since the handle was opened to `out`, as a text for Prometheus. Asks no store.
///
/// Its content type is `application/openmetrics-text; version=1.0.0; charset=utf-8`; it holds no secret and no name of a lock.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_metrics(handle: *const Service, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (service, out) = (caller.service(handle)?, caller.out("out", out)?);
        out.write_bytes(service.metrics().into_bytes());
        Ok(())
    })
}

//! Waiting for what comes by itself, with an end: a test that waits in vain says for what.
#![allow(dead_code)]

use std::time::{Duration, Instant};

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until something is so, and tells how long that took.
pub fn wait_until(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    wait_for(what, within, || if is_so() { Ok(()) } else { Err("it is not so") });
    start.elapsed()
}

/// Waits until there is an answer, and gives it. A test that waits in vain shows what was there last instead.
pub fn wait_for<T, E: std::fmt::Debug>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(start.elapsed() < within, "{within:?} passed, and still not: {what}: {instead:?}"),
        }
        std::thread::sleep(PAUSE);
    }
}

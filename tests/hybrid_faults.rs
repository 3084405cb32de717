//! Hybrid mode against real faults: whatever happens to Redis, callers get answers in time, and afterwards both stores have what
//! callers were told. `make test-faults` runs the slow ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod hybrid_support;
mod redis_support;
mod sled_support;

use hybrid_support::Scenario;
use redis_support::{Server, settings};

#[test]
fn a_hung_redis() {
    let (folder, mut server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    Scenario::new("hung", folder.path(), settings(&server.address())).run(&mut server, |server, _| server.pause(), |server| server.resume());
}

#[test]
fn a_redis_that_loses_everything() {
    let (folder, mut server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    Scenario::new("killed, restarted empty", folder.path(), settings(&server.address())).run(
        &mut server,
        |server, _| server.kill(),
        |server| server.restart(),
    );
}

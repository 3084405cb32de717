//! Hybrid mode against real faults: whatever happens to Redis, callers get answers in time, and afterwards both stores have what
//! callers were told. `make test-faults` runs the slow ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod hybrid_support;
mod redis_support;
mod sled_support;

use std::time::Duration;

use hybrid_support::line::Line;
use hybrid_support::{Scenario, wait_until};
use redis_support::{Server, free_port, settings};

/// Writes every change to its disk before it answers.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn scenario<'a>(fault: &'a str, folder: &tempfile::TempDir, server: &Server) -> Scenario<'a> {
    Scenario::new(fault, folder.path(), settings(&server.address()))
}

fn run(server: &Server, command: &[&str]) {
    redis::cmd(command[0]).arg(&command[1..]).query::<()>(&mut server.raw()).unwrap();
}

#[test]
fn a_hung_redis() {
    let (folder, mut server) = (folder(), Server::start(&[]));
    scenario("hung", &folder, &server).run(&mut server, |server, _| server.pause(), |server| server.resume());
}

#[test]
fn a_redis_that_loses_everything() {
    let (folder, mut server) = (folder(), Server::start(&[]));
    scenario("killed, back empty", &folder, &server).run(&mut server, |server, _| server.kill(), Server::restart);
}

/// Nobody may have called while it was away.
#[test]
fn a_redis_that_loses_everything_within_a_moment() {
    let (folder, mut server) = (folder(), Server::start(&[]));
    scenario("empty at once", &folder, &server).run(&mut server, |server, _| server.restart(), |_| ());
}

#[test]
fn a_redis_that_is_flushed() {
    let (folder, mut server) = (folder(), Server::start(&[]));
    scenario("flushed", &folder, &server).run(&mut server, |server, _| run(server, &["FLUSHALL"]), |_| ());
}

#[test]
fn a_redis_that_comes_back_with_its_data() {
    let (folder, mut server) = (folder(), Server::start(DURABLE));
    scenario("killed, back with data", &folder, &server).run(&mut server, |server, _| server.kill(), Server::restart);
}

/// Locks released since the snapshot stay released, and those granted since stay.
#[test]
fn a_redis_that_comes_back_with_an_older_snapshot() {
    for at_once in [false, true] {
        let (folder, mut server) = (folder(), Server::start(&[]));
        let fault = if at_once { "older snapshot at once" } else { "killed, back with an older snapshot" };
        scenario(fault, &folder, &server).run(
            &mut server,
            |server, caller| {
                caller.take("taken anew", 1).unwrap();
                run(server, &["SAVE"]);
                let (snapshot, aside) = (server.folder.path().join("dump.rdb"), server.folder.path().join("aside"));
                std::fs::rename(&snapshot, &aside).unwrap();
                assert!(caller.release("before15").unwrap() && caller.release("taken anew").unwrap());
                assert!(caller.take("after the snapshot", 1).unwrap() && caller.take("taken anew", 2).unwrap());
                server.kill();
                std::fs::rename(&aside, &snapshot).unwrap();
                if at_once {
                    server.restart();
                }
            },
            |server| {
                if !at_once {
                    server.restart();
                }
            },
        );
    }
}

#[test]
fn a_full_redis() {
    let (folder, mut server) = (folder(), Server::start(&[]));
    scenario("full", &folder, &server).run(
        &mut server,
        |server, _| run(server, &["CONFIG", "SET", "maxmemory", "1"]),
        |server| run(server, &["CONFIG", "SET", "maxmemory", "0"]),
    );
}

#[test]
fn a_master_that_becomes_a_replica() {
    let (folder, mut server) = (folder(), Server::start(&[]));
    let nobody = free_port().to_string();
    scenario("read-only replica", &folder, &server).run(
        &mut server,
        |server, _| run(server, &["REPLICAOF", "127.0.0.1", &nobody]),
        |server| run(server, &["REPLICAOF", "NO", "ONE"]),
    );
}

/// It takes over that master's data: none.
#[test]
fn a_master_that_becomes_a_replica_of_an_empty_one() {
    let (folder, mut server) = (folder(), Server::start(&[]));
    let empty = Server::start(&["--repl-diskless-sync-delay", "0"]);
    scenario("replica of an empty master", &folder, &server).run(
        &mut server,
        |server, _| {
            run(server, &["REPLICAOF", "127.0.0.1", &empty.port.to_string()]);
            wait_until("the replica is empty", Duration::from_secs(5), || {
                redis::cmd("DBSIZE").query::<u64>(&mut server.raw()).unwrap() == 0
            });
        },
        |server| run(server, &["REPLICAOF", "NO", "ONE"]),
    );
}

#[test]
fn a_slow_network() {
    let (folder, server) = (folder(), Server::start(&[]));
    let mut line = Line::to(&server.address());
    let mut scenario = scenario("latency over slow_call", &folder, &server);
    scenario.config.locking.enhanced.redis.address = line.address.clone();
    let latency = scenario.config.locking.enhanced.breaker.slow_call + Duration::from_millis(50);
    scenario.run(&mut line, |line, _| line.slow_down(latency), |line| line.slow_down(Duration::ZERO));
}

/// Some answers are lost, others come: nobody may be told anything that is not so.
#[test]
fn a_network_that_breaks_connections() {
    for (one_in, fault) in [(1, "every connection reset"), (3, "one in three reset"), (10, "one in ten reset")] {
        let (folder, server) = (folder(), Server::start(&[]));
        let mut line = Line::to(&server.address());
        let mut scenario = scenario(fault, &folder, &server);
        scenario.config.locking.enhanced.redis.address = line.address.clone();
        // A few resets are what retries are for.
        scenario.falls_back = one_in == 1;
        scenario.lasts = Duration::from_secs(3);
        scenario.run(&mut line, |line, _| line.reset_one_in(one_in), |line| line.reset_one_in(0));
    }
}

//! Replicas and fail-over: a grant that must be replicated is, or is taken back; a cluster that loses a master answers again by
//! itself, and grants nothing twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod redis_support;
mod wait;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use atlock::config;
use atlock::error::Code;
use atlock::store::{Granted, Store as _};
use redis_support::{
    Cluster, Server, call, call_within, fields, free_port, get, grant, grant_within, lock_json, open, release, settings, take,
};
use wait::{wait_for, wait_until};

const TIMEOUT: Duration = Duration::from_millis(500);

#[test]
fn a_grant_without_enough_replicas_is_taken_back() {
    let server = Server::start(&[]);
    let confirmed = config::Redis { wait_replicas: 1, ..settings(&server.address()) };
    let store = open(&confirmed).unwrap();
    let error = grant_within(&store, fields("a"), 1, TIMEOUT).unwrap_err();
    assert_eq!(error.code(), Code::NotReplicated, "{error}");
    assert!(error.message().contains("0 of 1"), "{error}");
    assert_eq!(get(&store, fields("a")), None);
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.raw()).unwrap();
    assert!(left.iter().all(|key| key == "{pr/acme/infra/a/default/}:atlock"), "{left:?}");
    // A lock that somebody else holds needs no replica to be refused.
    take(&open(&settings(&server.address())).unwrap(), fields("b"), 2);
    assert!(matches!(grant_within(&store, fields("b"), 1, TIMEOUT).unwrap(), Granted::Held { .. }));
}

#[test]
fn a_grant_with_enough_replicas_counts() {
    let server = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &server.port.to_string()]);
    let store = open(&config::Redis { wait_replicas: 1, ..settings(&server.address()) }).unwrap();
    wait_until("the replica follows", Duration::from_secs(20), || {
        let info: String = redis::cmd("INFO").arg("replication").query(&mut replica.raw()).unwrap();
        info.contains("master_link_status:up")
    });
    take(&store, fields("a"), 1);
    let value: Vec<u8> = redis::cmd("GET").arg("pr/acme/infra/a/default/").query(&mut replica.raw()).unwrap();
    assert_eq!(value, lock_json(fields("a"), 1));
}

#[test]
fn a_cluster_waits_for_the_replica_of_the_locks_master() {
    let cluster = Cluster::start(0);
    let store = open(&config::Redis { wait_replicas: 1, ..cluster.settings() }).unwrap();
    let error = grant_within(&store, fields("a"), 1, TIMEOUT).unwrap_err();
    assert_eq!(error.code(), Code::NotReplicated, "{error}");
    assert_eq!(get(&store, fields("a")), None);
}

/// Locks that a replica confirmed survive the death of a master; during the fail-over callers get errors in time, and nobody gets
/// a lock that is held.
#[test]
fn a_cluster_that_loses_a_master_recovers_by_itself() {
    const LOCKS: usize = 30;
    let mut cluster = Cluster::start(1);
    let store = open(&config::Redis { wait_replicas: 1, ..cluster.settings() }).unwrap();
    let paths: Vec<String> = (0..LOCKS).map(|nth| format!("p{nth}")).collect();
    for path in &paths {
        take(&store, fields(path), 1);
    }
    // The first nodes given are the masters.
    cluster.nodes[0].kill();
    let killed = Instant::now();
    let (mut errors, mut answered) = (0, vec![false; LOCKS]);
    while answered.contains(&false) {
        assert!(killed.elapsed() < Duration::from_secs(60), "the cluster did not recover: {errors} errors");
        for (path, answered) in paths.iter().zip(&mut answered) {
            let start = Instant::now();
            match grant_within(&store, fields(path), 2, TIMEOUT) {
                Ok(Granted::NotYet) => panic!("nobody waits"),
                Ok(Granted::Held { value }) => {
                    assert_eq!(value, lock_json(fields(path), 1));
                    *answered = true;
                }
                Ok(Granted::Yes { .. }) => panic!("{path} was granted twice"),
                Err(e) => {
                    assert!(
                        matches!(
                            e.code(),
                            Code::Unreachable
                                | Code::Timeout
                                | Code::OutcomeUnknown
                                | Code::ClusterDown
                                | Code::FailingOver
                                | Code::SlotMoving
                        ),
                        "{e}"
                    );
                    errors += 1;
                }
            }
            assert!(start.elapsed() < TIMEOUT + Duration::from_secs(2), "{:?}", start.elapsed());
        }
    }
    eprintln!("recovered {:?} after the kill, {errors} errors meanwhile", killed.elapsed());
    assert!(matches!(grant(&store, fields("new"), 1), Ok(Granted::Yes { .. }) | Err(_)));
}

/// A command of many keys does not make the client look for the new master, and one of a single key reaches that one as the old
/// one's replica.
#[test]
fn a_cluster_that_lost_a_master_lists() {
    const LOCKS: usize = 30;
    let mut cluster = Cluster::start(1);
    let store = open(&config::Redis { wait_replicas: 1, ..cluster.settings() }).unwrap();
    for nth in 0..LOCKS {
        take(&store, fields(&format!("p{nth}")), 1);
    }
    cluster.nodes[0].kill();
    // The client is to notice. What it answers is no matter.
    let _ = store.list(&call_within(TIMEOUT));
    let is_master =
        |node: &Server| redis::cmd("INFO").arg("replication").query::<String>(&mut node.raw()).unwrap().contains("role:master");
    wait_until("a replica has taken over", Duration::from_secs(30), || {
        cluster.nodes[1..].iter().filter(|node| is_master(node)).count() == 3
    });
    let listing = wait_for("the locks are listed", Duration::from_secs(5), || store.list(&call()));
    assert_eq!(listing.len(), LOCKS);
}

/// A cluster behind one endpoint announces no host: its nodes are where it was reached. One node of it is named.
#[test]
fn a_cluster_that_announces_no_host_is_used_by_the_host_that_it_was_reached_by() {
    let cluster = Cluster::start(0);
    let one = config::Redis { addresses: vec![cluster.nodes[1].address()], ..cluster.settings() };
    // While it is in use, and from the start.
    let before = open(&one).unwrap();
    for node in &cluster.nodes {
        let setting = ["SET", "cluster-preferred-endpoint-type", "unknown-endpoint"];
        redis::cmd("CONFIG").arg(&setting).query::<()>(&mut node.raw()).unwrap();
    }
    let after = open(&one).unwrap();
    for nth in 0..20 {
        take(&before, fields(&format!("before{nth}")), 1);
        take(&after, fields(&format!("after{nth}")), 1);
    }
    for store in [&before, &after] {
        assert_eq!(store.list(&call()).unwrap().len(), 40);
        assert!(matches!(grant(store, fields("before1"), 2).unwrap(), Granted::Held { .. }));
    }
}

#[test]
fn nodes_that_cannot_be_reached_are_named() {
    let cluster = Cluster::start(0);
    // Ports at which nobody listens.
    let announced: Vec<u16> = cluster.nodes.iter().map(|_| free_port()).collect();
    for (node, port) in cluster.nodes.iter().zip(&announced) {
        redis::cmd("CONFIG").arg("SET").arg("cluster-announce-port").arg(*port).query::<()>(&mut node.raw()).unwrap();
    }
    wait_until("all announce them", Duration::from_secs(30), || {
        let slots: Vec<Vec<redis::Value>> = redis::cmd("CLUSTER").arg("SLOTS").query(&mut cluster.nodes[0].raw()).unwrap();
        let text = format!("{slots:?}");
        announced.iter().all(|port| text.contains(&port.to_string()))
    });
    let error = open(&config::Redis { addresses: vec![cluster.nodes[0].address()], ..cluster.settings() }).map(drop).unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
    for port in announced {
        assert!(error.message().contains(&format!("127.0.0.1:{port}")), "{error}");
    }
    assert!(error.message().contains("cluster-announce-ip"), "{error}");
}

/// A master joins, and gets its part of the slots, while locks are taken, listed and released.
#[test]
fn a_cluster_that_grows_while_it_works() {
    let cluster = Cluster::start(0);
    let store = open(&config::Redis { shared_with_stock: false, ..cluster.settings() }).unwrap();
    let paths: Vec<String> = (0..60).map(|nth| format!("p{nth}")).collect();
    for path in &paths {
        take(&store, fields(path), 1);
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worked = scope.spawn(|| {
            let mut rounds = 0;
            while !is_over.load(Ordering::SeqCst) || rounds == 0 {
                for path in &paths {
                    assert!(matches!(grant(&store, fields(path), 2).unwrap(), Granted::Held { .. }), "{path}");
                }
                assert_eq!(store.list(&call()).unwrap().len(), paths.len());
                rounds += 1;
            }
            rounds
        });
        let new = cluster.grow();
        let moved: usize = redis::cmd("DBSIZE").query(&mut new.raw()).unwrap();
        is_over.store(true, Ordering::SeqCst);
        let rounds = worked.join().unwrap();
        eprintln!("{moved} keys were moved to the new master, {rounds} rounds meanwhile");
        assert!(moved > 0);
        for path in &paths {
            assert!(release(&store, fields(path)).unwrap().is_some(), "{path}");
        }
        assert_eq!(store.list(&call()).unwrap().len(), 0);
    });
}

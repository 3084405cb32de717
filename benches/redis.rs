//! How long one caller of the Redis store waits, what of it Redis itself spends, and how much sixteen callers get done, on a
//! private server without persistence: `cargo bench --bench redis`. It asserts no figure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../tests/redis_support/mod.rs"]
mod redis_support;
#[path = "../tests/wait/mod.rs"]
mod wait;

use std::time::{Duration, Instant};

use atlock::config;
use atlock::domain::key::Fields;
use atlock::domain::lock::PullRef;
use atlock::store::Store;
use redis_support::proxy::Proxy;
use redis_support::{Server, call, fields, get, grant, open, release, settings, take};

const SAMPLES: usize = 5_000;

fn p50(name: &str, samples: usize, mut sample: impl FnMut(usize)) {
    let mut times: Vec<Duration> = (0..samples)
        .map(|nth| {
            let start = Instant::now();
            sample(nth);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    eprintln!("{name:34} p50 {:8.1?}  p99 {:8.1?}", times[samples / 2], times[samples * 99 / 100]);
}

/// What Redis itself spent on a command since the last question, microseconds a call.
fn server_time(server: &Server, command: &str) {
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut server.raw()).unwrap();
    if let Some(line) = info.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:"))) {
        eprintln!("{:34} {}", "  of it in Redis", line.split(',').nth(2).unwrap_or(""));
    }
    redis::cmd("CONFIG").arg("RESETSTAT").query::<()>(&mut server.raw()).unwrap();
}

/// How many locks so many callers take and give back, each one of its own.
fn pairs(store: &dyn Store, callers: u32, each: u32) {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for caller in 0..callers {
            scope.spawn(move || {
                let path = format!("c{caller}");
                for _ in 0..each {
                    take(store, fields(&path), 1);
                    release(store, fields(&path)).unwrap().unwrap();
                }
            });
        }
    });
    eprintln!(
        "{callers} callers: {:.0} grants and releases a second",
        f64::from(2 * callers * each) / start.elapsed().as_secs_f64()
    );
}

fn main() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let paths: Vec<String> = (0..SAMPLES).map(|nth| format!("p{nth}")).collect();
    take(&store, fields("held"), 1);
    server_time(&server, "");
    p50("get", SAMPLES, |_| assert!(get(&store, fields("held")).is_some()));
    server_time(&server, "get");
    p50("grant, held", SAMPLES, |_| drop(grant(&store, fields("held"), 2).unwrap()));
    server_time(&server, "evalsha");
    p50("grant, free", SAMPLES, |nth| assert!(take(&store, fields(&paths[nth]), 1).get() > 0));
    server_time(&server, "evalsha");
    p50("release", SAMPLES, |nth| assert!(release(&store, fields(&paths[nth])).unwrap().is_some()));
    server_time(&server, "evalsha");

    pairs(&store, 16, 2_000);
    for delay in [Duration::from_micros(500), Duration::from_millis(1), Duration::from_millis(5)] {
        let far = open(&settings(&Proxy::far(&server.address(), delay).address)).unwrap();
        eprintln!("Redis {delay:?} away");
        for callers in [1, 4, 16, 32] {
            pairs(&far, callers, 200);
        }
    }

    for nth in 0..10_000 {
        let repo = format!("acme/r{}", nth % 100);
        take(&store, Fields { repo: &repo, path: &format!("{nth}"), workspace: "w", project: "" }, nth / 5);
    }
    let shared = open(&config::Redis { shared_with_stock: true, ..settings(&server.address()) }).unwrap();
    for (name, store) in [("alone", &store), ("shared with stock", &shared)] {
        p50(&format!("list 10,000, {name}"), 10, |_| assert!(store.list(&call()).unwrap().len() >= 9_900));
        p50(&format!("release by pull, {name}"), 10, |nth| {
            store.release_by_pull(PullRef { repo: &format!("acme/r{nth}"), num: nth as i64 / 5 }, &call()).map(drop).unwrap();
        });
    }
}

//! What a large Redis costs: opening, listing and releasing by pull beside very many keys of other programs and very many locks.
//! `cargo bench --bench redis_scale`. It asserts no figure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../tests/redis_support/mod.rs"]
mod redis_support;
#[path = "../tests/wait/mod.rs"]
mod wait;

use std::time::Instant;

use atlock::config;
use atlock::domain::key::Fields;
use atlock::domain::lock::PullRef;
use atlock::store::Store;
use redis_support::{Server, call_within, lock_json, open, settings};

/// Fills by scripts, a thousand keys each.
fn fill(server: &Server, count: usize, key: impl Fn(usize) -> String, value: impl Fn(usize) -> Vec<u8>) {
    let mut raw = server.raw();
    for start in (0..count).step_by(1000) {
        let mut command = redis::cmd("MSET");
        for nth in start..count.min(start + 1000) {
            command.arg(key(nth)).arg(value(nth));
        }
        command.query::<()>(&mut raw).unwrap();
    }
}

/// Resident memory of this process, MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() >> 10
}

fn timed<T>(name: &str, f: impl FnOnce() -> T) -> T {
    let (before, start) = (resident(), Instant::now());
    let answer = f();
    eprintln!("{name:60} {:8.0?}, {before} MiB before, {} MiB after", start.elapsed(), resident());
    answer
}

fn lock(nth: usize) -> (String, Vec<u8>) {
    let (repo, path) = (format!("acme/r{}", nth % 1000), format!("p{nth}"));
    let fields = Fields { repo: &repo, path: &path, workspace: "default", project: "" };
    (format!("pr/{}", fields.key()), lock_json(fields, 1))
}

fn measure(name: &str, locks: usize, foreign: usize) {
    let server = Server::start(&[]);
    fill(&server, locks, |nth| lock(nth).0, |nth| lock(nth).1);
    fill(&server, foreign, |nth| format!("session:{nth}"), |_| b"x".to_vec());
    eprintln!("-- {name}");
    for shared_with_stock in [true, false] {
        let settings = config::Redis { shared_with_stock, ..settings(&server.address()) };
        timed(&format!("first start, shared_with_stock {shared_with_stock}"), || open(&settings).map(drop)).unwrap();
        let store = timed("second start", || open(&settings)).unwrap();
        let long = call_within(std::time::Duration::from_secs(61));
        timed("list", || assert_eq!(store.list(&long).map(|listing| listing.len()).unwrap(), locks));
        let pull = PullRef { repo: "acme/none", num: 1 };
        timed("release by pull", || assert_eq!(store.release_by_pull(pull, &long).unwrap().len(), 0));
    }
}

fn main() {
    measure("1,000,000 keys of other programs", 1000, 1_000_000);
    measure("100,000 locks", 100_000, 0);
}

//! What a queue costs: `cargo bench --bench queue`, or `make bench-queue`, which keeps the report. It asserts no figure.
//!
//! Taking and being refused is measured with the queue off and on-but-empty, interleaved on stores of the same kind, as a ratio; joining, the
//! step from a release to the next one's reservation, and asking for a place, with 100 pulls behind one lock and 1,000 in the repository.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../tests/redis_support/mod.rs"]
mod redis_support;
#[path = "../tests/wait/mod.rs"]
mod wait;

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::queue::PullId;
use atlock::service::Service;
use atlock::service::queueing::runs::RunRequest;
use atlock::store::Granted;
use redis_support::{Cluster, Server};

const ROUNDS: usize = 60;
const BATCH: usize = 50;

fn lock(repo: &str, path: &str, num: i64) -> Vec<u8> {
    let body = "x".repeat(600);
    format!(
        r#"{{"Project":{{"ProjectName":"","RepoFullName":"{repo}","Path":"{path}"}},"Pull":{{"Num":{num},"URL":"https://git.example.com/{repo}/pull/{num}","Author":"ada","Body":"{body}","BaseRepo":{{"FullName":"{repo}","VCSHost":{{"Hostname":"git.example.com","Type":0}}}}}},"User":{{"Username":"ada"}},"Workspace":"default","Time":"2026-11-30T00:00:00Z"}}"#
    )
    .into_bytes()
}

fn pull(num: i64) -> PullId {
    PullId { host: "git.example.com".to_owned(), num }
}

fn p50(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A mode, and where its Redis is.
struct Mode<'a> {
    name: &'a str,
    settings: &'a str,
    redis: String,
}

impl Mode<'_> {
    fn open(&self, folder: &Path, queue: bool) -> Service {
        let text = format!(
            "locking: {{backend: sled, data_dir: {folder:?}, enhanced: {{{}, redis: {{{}}}, priority_queue: {{enabled: {queue}}}}}}}",
            self.settings, self.redis
        );
        Service::open(&Config::parse(&text, "bench").unwrap(), None, Arc::new(SystemClock)).unwrap()
    }
}

/// Joins the queue by a plan, as Atlantis does; how long the refusal took.
fn join(service: &Service, repo: &str, path: &str, num: i64) -> Duration {
    let request = format!(r#"{{"repo":"{repo}","pull":{{"host":"git.example.com","num":{num}}},"command":"plan"}}"#);
    let run = service.run_begin(&serde_json::from_str::<RunRequest>(&request).unwrap()).unwrap();
    let start = Instant::now();
    let refused = service.try_lock_in(run, &lock(repo, path, num)).unwrap();
    let took = start.elapsed();
    assert!(!refused.acquired && refused.waiting.is_some());
    service.run_end(run).unwrap();
    took
}

/// The median ratio of on to off, of taking a free lock and of being refused a held one.
fn cost(mode: &Mode<'_>) -> (f64, f64) {
    let folders = [tempfile::tempdir_in(".").unwrap(), tempfile::tempdir_in(".").unwrap()];
    let services = [mode.open(&folders[0].path().join("off"), false), mode.open(&folders[1].path().join("on"), true)];
    let repos = ["off", "on"].map(|which| format!("{}/{which}", mode.name));
    let repos = repos.each_ref().map(String::as_str);
    for (service, repo) in services.iter().zip(repos) {
        assert!(matches!(service.try_lock(&lock(repo, "held", 1)).unwrap(), Granted::Yes { .. }));
    }
    let (mut free, mut held) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut times = [[Duration::ZERO; 2]; 2];
        for turn in 0..2 {
            let who = (round + turn) % 2;
            let (service, repo) = (&services[who], repos[who]);
            let mut taking = Vec::new();
            let mut refused = Vec::new();
            for nth in 0..BATCH {
                let wanted = lock(repo, &format!("p{nth}"), 1);
                let start = Instant::now();
                assert!(matches!(service.try_lock(&wanted).unwrap(), Granted::Yes { .. }));
                taking.push(start.elapsed());
                let other = lock(repo, "held", 2);
                let start = Instant::now();
                assert!(matches!(service.try_lock(&other).unwrap(), Granted::Held { .. }));
                refused.push(start.elapsed());
                assert!(service.unlock(&wanted).unwrap().is_some());
            }
            times[who] = [p50(&mut taking), p50(&mut refused)];
        }
        free.push(times[1][0].as_secs_f64() / times[0][0].as_secs_f64());
        held.push(times[1][1].as_secs_f64() / times[0][1].as_secs_f64());
    }
    let median = |ratios: &mut Vec<f64>| {
        ratios.sort_unstable_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    (median(&mut free), median(&mut held))
}

/// With so many pulls behind one lock, and so many in the repository: joining, release to reservation, asking for a place.
fn depth(mode: &Mode<'_>, behind: i64, all: i64) -> [Duration; 3] {
    let folder = tempfile::tempdir_in(".").unwrap();
    let service = mode.open(&folder.path().join("deep"), true);
    let repo = format!("{}/deep{all}", mode.name);
    for nth in 0..=all / behind {
        assert!(matches!(service.try_lock(&lock(&repo, &format!("p{nth}"), 1)).unwrap(), Granted::Yes { .. }));
    }
    for num in 0..all - 1 {
        // The first queue has all but one of its places taken.
        join(&service, &repo, &format!("p{}", (num + 1) / behind), 10 + num);
    }
    let mut joins: Vec<Duration> = (0..20)
        .map(|_| {
            let took = join(&service, &repo, "p0", 9_999);
            assert_eq!(service.leave(&repo, &pull(9_999), None).unwrap(), 1);
            took
        })
        .collect();
    let key = format!("{repo}/p0/default/");
    let mut places: Vec<Duration> = (0..20)
        .map(|_| {
            let start = Instant::now();
            assert!(service.position(&key, &repo, Some(&pull(10))).unwrap() > 0);
            start.elapsed()
        })
        .collect();
    let mut holder = 1;
    let mut releases: Vec<Duration> = (0..20)
        .map(|nth| {
            let start = Instant::now();
            assert!(service.unlock(&lock(&repo, "p0", holder)).unwrap().is_some());
            let took = start.elapsed();
            holder = 10 + nth;
            // It is reserved to whoever came first by now, and to nobody else.
            assert!(matches!(service.try_lock(&lock(&repo, "p0", holder)).unwrap(), Granted::Yes { .. }));
            took
        })
        .collect();
    service.close().unwrap();
    [p50(&mut joins), p50(&mut releases), p50(&mut places)]
}

/// How long 100 joins at once take, together.
fn at_once(mode: &Mode<'_>) -> Duration {
    let folder = tempfile::tempdir_in(".").unwrap();
    let service = Arc::new(mode.open(&folder.path().join("once"), true));
    let repo = format!("{}/once", mode.name);
    assert!(matches!(service.try_lock(&lock(&repo, "p", 1)).unwrap(), Granted::Yes { .. }));
    let barrier = Arc::new(Barrier::new(101));
    let threads: Vec<_> = (0..100)
        .map(|nth| {
            let (service, barrier, repo) = (Arc::clone(&service), Arc::clone(&barrier), repo.clone());
            thread::spawn(move || {
                barrier.wait();
                join(&service, &repo, "p", 10 + nth);
            })
        })
        .collect();
    barrier.wait();
    let start = Instant::now();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    start.elapsed()
}

fn main() {
    let (server, cluster) = (Server::start(&[]), Cluster::start(0));
    let single = format!("address: '{}', shared_with_stock: false", server.address());
    let modes = [
        Mode { name: "strict(sled)", settings: "enabled: false", redis: String::new() },
        Mode { name: "native", settings: "enabled: true, compatibility_mode: native", redis: single.clone() },
        Mode {
            name: "native, cluster",
            settings: "enabled: true, compatibility_mode: native",
            redis: format!("cluster_mode: true, addresses: {:?}, shared_with_stock: false", cluster.settings().addresses),
        },
        Mode { name: "hybrid", settings: "enabled: true, compatibility_mode: hybrid", redis: single },
    ];
    println!("# What a queue costs\n");
    println!("`make bench-queue` measures this on one machine's loopback; times are medians.\n");
    println!(
        "| mode | TryLock, free: on / off | TryLock, held: on / off | 100 behind one lock: join, release to reservation, place | 1,000 in one repository: the same | 100 joins at once |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for mode in &modes {
        let (free, held) = cost(mode);
        let [few, many] = [depth(mode, 100, 100), depth(mode, 100, 1_000)];
        let shown = |times: [Duration; 3]| times.map(|time| format!("{:.2} ms", time.as_secs_f64() * 1e3)).join(", ");
        let once = at_once(mode).as_secs_f64();
        println!("| {} | {free:.3} | {held:.3} | {} | {} | {once:.2} s |", mode.name, shown(few), shown(many));
    }
}

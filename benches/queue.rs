//! What a queue costs: `cargo bench --bench queue`, or `make bench-queue`, which keeps the report. It asserts no figure. `cargo bench --bench queue -- hybrid` measures
//! the modes with that in their names alone.
//!
//! Taking and being refused is measured with the queue off and on-but-empty, in turn on stores of the same kind, as a ratio of medians, and
//! with the queue off once more, which says what such a ratio is worth; joining, the step from a release to the next one's reservation, and
//! asking for a place, with 100 pulls behind one lock and 1,000 in the repository; memory, in processes of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../tests/redis_support/mod.rs"]
mod redis_support;
#[path = "../tests/wait/mod.rs"]
mod wait;

use std::path::Path;
use std::process::Command;
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

const BLOCKS: usize = 6;
const ROUNDS: usize = 500;
const PROCESSES: usize = 5;

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

/// Of taking a free lock and of being refused a held one: what it takes with the queue on, and with it off a second time, as parts of what it
/// takes with it off. The second is how far chance goes.
fn cost(mode: &Mode<'_>) -> [[f64; 2]; 2] {
    let mut times = [const { [Vec::new(), Vec::new()] }; 3];
    (0..BLOCKS).for_each(|block| take_in_turn(mode, block, &mut times));
    let p50s = times.map(|of| of.map(|mut times| p50(&mut times).as_secs_f64()));
    [0, 1].map(|what| [1, 2].map(|who| p50s[who][what] / p50s[0][what]))
}

/// Three servers take locks in turn, the second one with a queue. Who is opened first, who begins, and whose lock is where in a cluster
/// changes.
fn take_in_turn(mode: &Mode<'_>, block: usize, times: &mut [[Vec<Duration>; 2]; 3]) {
    let folder = tempfile::tempdir_in(".").unwrap();
    let servers: Vec<(usize, String, Service)> = (0..3)
        .map(|nth| {
            let who = (nth + block) % 3;
            let service = mode.open(&folder.path().join(who.to_string()), who == 1);
            let repo = format!("{}/{block}-{nth}", mode.name);
            assert!(matches!(service.try_lock(&lock(&repo, "held", 1)).unwrap(), Granted::Yes { .. }));
            (who, repo, service)
        })
        .collect();
    for round in 0..ROUNDS {
        for turn in 0..3 {
            let (who, repo, service) = &servers[(round + turn) % 3];
            let (wanted, other) = (lock(repo, &format!("p{}", round % 50), 1), lock(repo, "held", 2));
            let start = Instant::now();
            assert!(matches!(service.try_lock(&wanted).unwrap(), Granted::Yes { .. }));
            times[*who][0].push(start.elapsed());
            let start = Instant::now();
            assert!(matches!(service.try_lock(&other).unwrap(), Granted::Held { .. }));
            times[*who][1].push(start.elapsed());
            assert!(service.unlock(&wanted).unwrap().is_some());
        }
    }
}

/// Memory of a process of its own that has taken and released a thousand locks, with a queue that nobody waits in and without one, MiB.
fn memory(mode: &Mode<'_>) -> [f64; 2] {
    let mut found = [const { Vec::new() }; 2];
    for _ in 0..PROCESSES {
        for on in [false, true] {
            let mut process = Command::new(std::env::current_exe().unwrap());
            let output = process.args(["memory", mode.settings, &mode.redis, &on.to_string()]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            found[usize::from(on)].push(text.trim().parse::<f64>().unwrap());
        }
    }
    found.map(|mut of| {
        of.sort_unstable_by(f64::total_cmp);
        of[of.len() / 2] / 1024.0
    })
}

/// What such a process does; it prints its anonymous memory, KiB.
fn take_and_release(mode: &Mode<'_>, on: bool) {
    let folder = tempfile::tempdir_in(".").unwrap();
    let service = mode.open(&folder.path().join("store"), on);
    for nth in 0..1_000 {
        let wanted = lock(&format!("memory/{on}"), &format!("p{}", nth % 50), 1);
        assert!(matches!(service.try_lock(&wanted).unwrap(), Granted::Yes { .. }));
        assert!(service.unlock(&wanted).unwrap().is_some());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    println!("{}", anonymous.trim().trim_end_matches(" kB"));
    service.close().unwrap();
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
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [what, settings, redis, on] = args.as_slice() {
        assert_eq!(what, "memory");
        return take_and_release(&Mode { name: "", settings, redis: redis.clone() }, on == "true");
    }
    let only = args.first().map_or("", String::as_str);
    // Each has a Redis of its own: what others left waiting would be looked at.
    let (native, cluster, hybrid) = (Server::start(&[]), Cluster::start(0), Server::start(&[]));
    let single = |server: &Server| format!("address: '{}', shared_with_stock: false", server.address());
    let modes = [
        Mode { name: "strict(sled)", settings: "enabled: false", redis: String::new() },
        Mode { name: "native", settings: "enabled: true, compatibility_mode: native", redis: single(&native) },
        Mode {
            name: "native, cluster",
            settings: "enabled: true, compatibility_mode: native",
            redis: format!("cluster_mode: true, addresses: {:?}, shared_with_stock: false", cluster.settings().addresses),
        },
        Mode { name: "hybrid", settings: "enabled: true, compatibility_mode: hybrid", redis: single(&hybrid) },
    ];
    println!("# What a queue costs\n");
    println!(
        "`make bench-queue` measures this on one machine's loopback; times are medians. In brackets: the queue off and off, which is chance.\n"
    );
    println!(
        "| mode | TryLock, free: on / off | TryLock, held: on / off | 100 behind one lock: join, release to reservation, place | 1,000 in one repository: the same | 100 joins at once | memory: off, on |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for mode in modes.iter().filter(|mode| mode.name.contains(only)) {
        let [off, on] = memory(mode);
        let [free, held] = cost(mode).map(|[on, off]| format!("{on:.3} ({off:.3})"));
        let once = at_once(mode).as_secs_f64();
        let [few, many] = [depth(mode, 100, 100), depth(mode, 100, 1_000)];
        let shown = |times: [Duration; 3]| times.map(|time| format!("{:.2} ms", time.as_secs_f64() * 1e3)).join(", ");
        let (few, many) = (shown(few), shown(many));
        println!("| {} | {free} | {held} | {few} | {many} | {once:.2} s | {off:.1} MiB, {on:.1} MiB |", mode.name);
    }
}

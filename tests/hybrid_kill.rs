//! kill -9 of a server in hybrid mode while Redis goes up and down, and in the middle of a recovery: whatever was acknowledged is in
//! both stores after the next start. ATLOCK_HYBRID_KILL_ROUNDS sets how often (default 20), ATLOCK_HYBRID_KILL_SEED repeats a
//! run's times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[macro_use]
mod hybrid_support;
mod redis_support;
mod sled_support;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use atlock::error::Code;
use atlock::service::Service;
use atlock::store::Granted;
use hybrid_support::local::Local;
use hybrid_support::{Locks, close, hybrid, in_redis, listed, on_disk, open, take_many, target, wait_until_recovered};
use redis_support::{Server, die_with_the_test, fields, free_port, lock_json, settings};
use sled_support::{Random, child, copy_folder, role, seed};
use wait::wait_until;

const THREADS: u64 = 4;
const KEYS: u64 = 30;

/// One line, one write: lines of different threads never mix.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("@ {line}\n").as_bytes()).unwrap();
}

/// Takes and releases locks until it is killed. It says what it is about to do (`g`rant, `r`elease) and what was answered: `G`
/// with the lock's pull, `R`, or `E` for an error, after which either may be.
fn write_until_killed(local: Local, folder: &Path, address: &str, seed: u64) {
    let service = open(&hybrid(local, folder, settings(address)));
    let mut random = Random(seed);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (service, mut random) = (&service, Random(random.below(u64::MAX)));
            scope.spawn(move || {
                loop {
                    change(service, thread, &mut random);
                }
            });
        }
    });
}

fn change(service: &Service, thread: u64, random: &mut Random) {
    let path = format!("t{thread}-{}", random.below(KEYS));
    let num = random.below(1000) as i64;
    if random.below(2) == 0 {
        say(&format!("g {path} {num}"));
        match service.try_lock(&lock_json(fields(&path), num)) {
            Ok(Granted::Yes { .. }) => say(&format!("G {path} {num}")),
            Ok(Granted::NotYet) => panic!("nobody waits"),
            Ok(Granted::Held { value }) => {
                let lock = atlock::domain::lock::ProjectLock::parse(&value).unwrap();
                say(&format!("G {path} {}", lock.pull().num));
            }
            Err(error) => say(&format!("E {path} {}", error.code() as i32)),
        }
    } else {
        say(&format!("r {path} 0"));
        match service.unlock(&target(&path)) {
            Ok(_) => say(&format!("R {path} 0")),
            Err(error) => say(&format!("E {path} {}", error.code() as i32)),
        }
    }
}

/// The role of a child is its local store, where Redis is, and a number.
fn start(test: &str, local: Local, server: &str, seed: u64, folder: &Path) -> Child {
    let mut command = child(&format!("{local}::{test}"), &format!("{local} {server} {seed}"), folder);
    die_with_the_test(command.stdout(Stdio::piped())).spawn().unwrap()
}

fn kill(mut process: Child) {
    process.kill().unwrap();
    let status = process.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "it ended by itself");
}

/// What was said, in order: other lines are the test harness's, which also begins the line of the first thing said.
fn said(line: &str) -> Option<(char, String, i64)> {
    let words: Vec<&str> = line.split_once("@ ")?.1.split(' ').collect();
    Some((words[0].parse().unwrap(), words[1].to_owned(), words.get(2).map_or(0, |num| num.parse().unwrap())))
}

/// Who may hold each lock, by what was said.
#[derive(Default)]
struct Known {
    holders: BTreeMap<String, BTreeSet<Option<i64>>>,
    acknowledged: u64,
}

impl Known {
    fn learn(&mut self, what: char, path: String, num: i64) {
        let holders = self.holders.entry(path).or_insert_with(|| BTreeSet::from([None]));
        match what {
            'g' => drop(holders.insert(Some(num))),
            'r' => drop(holders.insert(None)),
            'G' => *holders = BTreeSet::from([Some(num)]),
            'R' => *holders = BTreeSet::from([None]),
            _ => return,
        }
        self.acknowledged += u64::from(what.is_ascii_uppercase());
    }

    fn assert_is(&self, place: &str, locks: &Locks) {
        for (path, holders) in &self.holders {
            let found = locks.get(path).copied();
            assert!(holders.contains(&found), "{place} has {path} held by {found:?}; what was said allows {holders:?}");
        }
    }

    /// From now on these are the locks.
    fn settle(&mut self, locks: &Locks) {
        for (path, holders) in &mut self.holders {
            *holders = BTreeSet::from([locks.get(path).copied()]);
        }
    }
}

fn nothing_acknowledged_is_lost(local: Local) {
    kill_writers(local, "nothing_acknowledged_is_lost", &["--appendonly", "yes", "--appendfsync", "always"]);
}

/// Whatever Redis loses is in the local store.
fn nothing_acknowledged_is_lost_though_redis_forgets_all(local: Local) {
    kill_writers(local, "nothing_acknowledged_is_lost_though_redis_forgets_all", &[]);
}

fn kill_writers(local: Local, test: &str, redis: &[&str]) {
    if let Some((role, folder)) = role() {
        let words: Vec<&str> = role.split(' ').collect();
        return write_until_killed(Local::named(words[0]), &folder, words[1], words[2].parse().unwrap());
    }
    let rounds = std::env::var("ATLOCK_HYBRID_KILL_ROUNDS").map_or(20, |text| text.parse().unwrap());
    let mut random = Random(seed("ATLOCK_HYBRID_KILL_SEED"));
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(redis);
    let mut known = Known::default();
    let (mut slowest, mut degraded) = (Duration::ZERO, 0);
    for round in 0..rounds {
        // A start without Redis, sometimes.
        let mut is_up = random.below(4) > 0;
        if !is_up {
            server.kill();
        }
        let mut writer = start(test, local, &server.address(), random.below(1 << 40), folder.path());
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // Read while it writes: it must not wait for a full pipe.
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        let end = Instant::now() + Duration::from_millis(50 + random.below(1500));
        loop {
            let left = end.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(20 + random.below(600))));
            if Instant::now() >= end {
                break;
            }
            if is_up {
                server.kill()
            } else {
                server.restart()
            }
            is_up = !is_up;
        }
        kill(writer);
        for (what, path, num) in reader.join().unwrap().iter().filter_map(|line| said(line)) {
            // A lock of which nobody knows what became before the crash, with Redis away.
            assert!(what != 'E' || num == Code::Degraded as i64, "round {round}: {path}: error {num}");
            degraded += u32::from(what == 'E');
            known.learn(what, path, num);
        }
        if !is_up {
            server.restart();
        }
        let started = Instant::now();
        let service = open(&hybrid(local, folder.path(), settings(&server.address())));
        wait_until_recovered(&service);
        slowest = slowest.max(started.elapsed());
        let locks = listed(&service);
        known.assert_is(&format!("round {round}: the service"), &locks);
        assert_eq!(in_redis(&server.address()), locks, "round {round}: Redis");
        assert_eq!(service.status().hybrid.unwrap().conflicts, [], "round {round}");
        close(service);
        assert_eq!(on_disk(local, folder.path()), locks, "round {round}: the local store");
        known.settle(&locks);
    }
    let acknowledged = known.acknowledged;
    eprintln!("{rounds} kills, {acknowledged} acknowledged, 0 lost, {degraded} refused as degraded; slowest start {slowest:.0?}");
    assert!(acknowledged > rounds, "the writer hardly came to write");
}

/// Starts without Redis, waits for it and lets it recover, until it is killed.
fn recover_until_killed(local: Local, folder: &Path, address: &str) {
    let service = open(&hybrid(local, folder, settings(address)));
    say("ready - 0");
    loop {
        std::thread::sleep(Duration::from_secs(1));
        assert!(service.list().is_ok());
    }
}

fn a_recovery_that_is_killed_ends_the_same_after_the_next_start(local: Local) {
    const LOCKS: usize = 2000;
    const MOMENTS: u64 = 4;
    if let Some((role, folder)) = role() {
        let (local, address) = role.split_once(' ').unwrap();
        return recover_until_killed(Local::named(local), &folder, address.split(' ').next().unwrap());
    }
    let mut random = Random(seed("ATLOCK_HYBRID_KILL_SEED"));
    let origin = tempfile::tempdir().unwrap();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut config = hybrid(local, origin.path(), settings(&address));
    config.locking.enhanced.allow_unseen_redis = true;
    let service = open(&config);
    take_many(&service, LOCKS, 16);
    let expected = listed(&service);
    close(service);
    let (mut in_the_middle, mut tries) = (0, 0);
    while in_the_middle < MOMENTS {
        tries += 1;
        assert!(tries <= 5 * MOMENTS, "{tries} kills, and only {in_the_middle} came before the recovery was over");
        let copy = tempfile::tempdir().unwrap();
        copy_folder(origin.path(), copy.path());
        let mut process = start("a_recovery_that_is_killed_ends_the_same_after_the_next_start", local, &address, 0, copy.path());
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        lines.find(|line| line.as_ref().unwrap().contains("@ ready")).unwrap().unwrap();
        let server = Server::start_at(port, &[]);
        let moment = 1 + random.below(LOCKS as u64 - 1);
        let mut raw = server.raw();
        wait_until("so many locks are back", Duration::from_secs(20), || {
            redis::cmd("ZCARD").arg("atlock:locks").query::<u64>(&mut raw).unwrap() >= moment
        });
        kill(process);
        let at_kill = in_redis(&address).len();
        let started = Instant::now();
        let service = open(&hybrid(local, copy.path(), settings(&address)));
        wait_until_recovered(&service);
        let took = started.elapsed();
        let recovery = service.status().hybrid.unwrap().last_recovery.unwrap();
        eprintln!("killed after {at_kill} of {LOCKS} locks: the next start recovered in {took:.0?}: {recovery:?}");
        // The kill comes a while after its moment, and may find the recovery over: that counts as no kill of one.
        in_the_middle += u64::from(at_kill < LOCKS);
        assert_eq!(recovery.conflicts, 0);
        assert_eq!(listed(&service), expected);
        assert_eq!(in_redis(&address), expected);
        close(service);
        assert_eq!(on_disk(local, copy.path()), expected);
    }
}

over_both_local_stores! {
    nothing_acknowledged_is_lost,
    nothing_acknowledged_is_lost_though_redis_forgets_all,
    a_recovery_that_is_killed_ends_the_same_after_the_next_start,
}

//! Hybrid mode's own code, over the real Redis store and the real embedded store, on a clock of its own, step by step from a seed: at each
//! answer no key has two holders, and in the end nothing that was acknowledged is lost.
//!
//! Everything that a server does is a task (`crate::sync::tasks`): callers, the look around, a start, a close, the stores' threads. A task
//! gives way at each question, each write and wherever it waits, and the seed decides who goes on. A process dies with all its tasks,
//! wherever each of them is; the next one finds what the disk kept. docs/reliability.md says what the schedules are, and what is checked.
//!
//! | file | models | cannot express |
//! |---|---|---|
//! | `link`, `network` | a command that is refused, hangs, loses its answer, or arrives late, over `store::redis::simulated` | a cluster; replicas; half an answer |
//! | `disk` | a disk that is late, full or fails; copies of the folder, over `store::sled::simulated` | what sled does beyond what the store relies on |
//! | `clock` | Redis's clock, and machines' that are wrong, drift and are set | a Redis whose clock goes back |
//! | `world` | servers that start, look around, close and die | servers that see different networks |
//! | `stock` | a stock Atlantis on the same Redis | its client's retries |
//! | `host` | Atlantis's own store, kept as a copy | a damaged file |
//! | `modes` | strict mode, native mode and stock in between | a change of the backend |
//! | `foreign` | other programs' entries; what is beside the locks is evicted | values over 16 MiB; locks that are evicted |
//! | `events` | late questions, busy keys, clocks that are set | – |
//! | `operations`, `values` | what callers ask for | – |
//! | `schedule` | what begins when, and who goes on, by the seed; the end, when all is well again | – |
//! | `oracle` | what callers were told, and whether an answer fits that | – |
//! | `show` | how a line of the log reads | – |
//! | `coverage` | which branches and faults the schedules met | in which circumstances |
//!
//! Whatever happens by chance is drawn from `random`, in order: a seed repeats its schedule. `directed` has single courses of
//! events instead of seeds.
//!
//! `make simulation SEEDS=first..end` runs others than the usual, `make soak` ever new ones.

pub(crate) mod clock;
pub(crate) mod coverage;
mod directed;
pub(crate) mod disk;
mod events;
mod foreign;
mod host;
mod link;
pub(crate) mod modes;
mod network;
mod operations;
mod oracle;
pub(crate) mod random;
pub(crate) mod schedule;
mod show;
mod stock;
mod values;
pub(crate) mod world;

use std::panic::catch_unwind;
use std::time::Duration;

use self::coverage::Coverage;
use self::schedule::{logged, run};
use crate::config::{Durability, Instances};
use crate::sync::marks;

/// How long a caller waits for Redis.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// What a schedule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) instances: Instances,
    pub(crate) durability: Durability,
    /// Redis may lose all, or go back to an older state.
    pub(crate) loses_data: bool,
    /// Whether the local store decides at all.
    pub(crate) fallback: bool,
    /// The local store's disk is late, or fails until the next process starts.
    pub(crate) bad_disk: bool,
    /// The local store grants on any failure, whoever else there is: the wrong fallback, which must be caught.
    pub(crate) broken: bool,
    /// A stock server uses the same Redis.
    pub(crate) stock: bool,
    /// Atlantis's own store is kept as a copy, and fails.
    pub(crate) host: bool,
    /// Other modes begin in between.
    pub(crate) modes: bool,
    /// Other programs use the same Redis, which forgets what is beside the locks.
    pub(crate) foreign: bool,
    /// Copies of the data folder are put back.
    pub(crate) restores: bool,
    /// The local store is sealed.
    pub(crate) sealed: bool,
    /// By how much the machines' wall clocks are ahead of Redis's, microseconds.
    pub(crate) ahead: [i64; 2],
    /// By how much they gain, microseconds a second.
    pub(crate) drift: [i64; 2],
    /// In how many of a hundred cases a task gives way before it takes a lock.
    pub(crate) preempts: u64,
}

impl Plan {
    /// One in which nothing goes wrong but by `durability`, the network and deaths, on machines whose clocks are wrong.
    pub(crate) fn new(seed: u64, durability: Durability) -> Plan {
        Plan {
            seed,
            instances: Instances::Single,
            durability,
            loses_data: false,
            fallback: true,
            bad_disk: false,
            broken: false,
            stock: false,
            host: false,
            modes: false,
            foreign: false,
            restores: false,
            sealed: false,
            // Half of the machines have clocks that are wrong by nearly as much as they may be.
            ahead: [0, 1].map(|me| [0, 0, 40_000_000, -40_000_000][usize::try_from((seed >> (2 * me)) % 4).expect("is small")]),
            drift: [0, 1].map(|me| [0, 200, 0, -200][usize::try_from((seed >> (2 * me + 4)) % 4).expect("is small")]),
            preempts: [0, 0, 5, 30][usize::try_from((seed >> 8) % 4).expect("is small")],
        }
    }
}

fn plans(seed: u64) -> [(Plan, usize); 17] {
    let durability = if seed % 4 == 3 { Durability::Async } else { Durability::Sync };
    let plan = Plan::new(seed, durability);
    [
        (Plan { loses_data: durability == Durability::Sync, ..plan }, 1),
        (Plan { instances: Instances::Many, ..plan }, 2),
        // Two servers that were each configured to be alone.
        (plan, 2),
        (Plan { fallback: false, loses_data: durability == Durability::Sync, ..plan }, 1),
        (Plan { bad_disk: true, ..plan }, 1),
        (Plan { bad_disk: true, instances: Instances::Many, ..plan }, 2),
        (Plan { stock: true, instances: Instances::Many, ..plan }, 1),
        (Plan { stock: true, instances: Instances::Many, ..plan }, 2),
        (Plan { host: true, loses_data: durability == Durability::Sync, ..plan }, 1),
        (Plan { host: true, bad_disk: true, ..plan }, 1),
        // Strict mode's tokens are times of its machine's clock.
        (Plan { modes: true, ahead: [0, 0], drift: [0, 0], ..plan }, 1),
        (Plan { modes: true, host: true, ahead: [0, 0], drift: [0, 0], ..plan }, 1),
        (Plan { foreign: true, ..plan }, 1),
        (Plan { foreign: true, instances: Instances::Many, ..plan }, 2),
        // What an older folder does not know is as another server's: clocks do not change while Redis is away.
        (Plan { restores: true, drift: [0, 0], ..plan }, 1),
        (Plan { restores: true, host: true, drift: [0, 0], ..plan }, 1),
        (Plan { bad_disk: true, loses_data: durability == Durability::Sync, ..plan }, 1),
    ]
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ATLOCK_SIMULATION_SEEDS") else { return 0..200 };
    let (first, end) = text.split_once("..").expect("first..end");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[test]
fn no_fault_makes_two_holders_or_loses_what_was_acknowledged() {
    let mut coverage = Coverage::of_hybrid();
    for (plan, instances) in seeds().flat_map(plans) {
        marks::take();
        run(plan, instances);
        coverage.add(marks::take());
    }
    if std::env::var("ATLOCK_SIMULATION_SEEDS").is_ok() {
        // Shown with --nocapture.
        #[allow(clippy::print_stderr)]
        {
            eprintln!("{}", coverage.report());
        }
    } else {
        assert_eq!(coverage.missing(), Vec::<String>::new(), "never met:\n{}", coverage.report());
    }
}

/// Sealing changes what is written, and nothing else.
#[test]
fn a_sealed_local_store_is_as_right_as_one_in_clear() {
    let seeds = if std::env::var("ATLOCK_SIMULATION_SEEDS").is_ok() { seeds() } else { 0..20 };
    for (plan, instances) in seeds.flat_map(plans) {
        run(Plan { sealed: true, ..plan }, instances);
    }
    marks::take();
}

/// A violation can be looked at again.
#[test]
fn a_seed_repeats_its_schedules() {
    for (plan, instances) in (0..12).flat_map(plans) {
        assert_eq!(logged(plan, instances), logged(plan, instances), "{plan:?}");
    }
}

/// The simulation would notice.
#[test]
fn falling_back_on_any_error_is_caught() {
    let caught = (0..200).filter(|seed| {
        let (plan, instances) = plans(*seed)[1];
        catch_unwind(|| run(Plan { broken: true, ..plan }, instances)).is_err()
    });
    let caught = caught.count();
    assert!(caught > 20, "only {caught} of 200 schedules showed two holders");
}

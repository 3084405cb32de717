//! Waiting, by the real service over simulated stores, step by step from a seed: order only refuses, nobody's lock is lost, and in the end
//! every queue drains.
//!
//! The scene is hybrid mode's simulation (`crate::hybrid::simulation`): its clock, Redis, network, disks and tasks, under the service with
//! its thread that looks at queues. Invariants, each checked whenever somebody looks, with all that is under way at that moment:
//! - exclusion: whoever was told to have a lock has it until a release that names it was asked for (L1, L6, L8, L9), and nobody else has it;
//!   a release releases what it named, and nothing is there that nobody asked for;
//! - order: while the queue stays as it is, a key that is kept for a pull is granted to no newcomer;
//! - sets: of a set that nobody asks for any more, all is there or nothing (L7);
//! - places: a pull that was told its place has it until it tries again, leaves, or may have missed three reservations;
//! - turns: a pull that was told to one server is told to no other before its plan is over, or half of the claim;
//! - the end: everything works, holders release, whoever is next plans; then every queue is empty, and each key free for a newcomer (L3).
//!
//! | file | models |
//! |---|---|
//! | `scene` | servers of the real service in a mode; the look |
//! | `runs` | plans, plans of who holds locks, sets, unlocks of a pull |
//! | `callers` | newcomers, callers who wait, the page, a stock server |
//! | `schedule` | what begins when, by the seed; the end |
//! | `oracle` | what callers were told |
//! | `places` | the places that they were told |
//! | `values` | the locks |
//!
//! Faults: a process dies at any question or write, loses power, is closed; minutes and hours pass at once; clocks are wrong and are set;
//! questions fail, hang, lose their answers, arrive late; Redis is away, empty, or goes back.
//!
//! Cannot express: a cluster; two runs of one pull at once; several repositories; priorities by rule; a queue that is full or damaged.

mod callers;
mod oracle;
mod places;
mod runs;
mod scene;
mod schedule;
mod values;

use self::schedule::run;
use crate::config::{Durability, Instances, Sets};
use crate::hybrid::simulation::Plan as PlanOfStores;
use crate::hybrid::simulation::coverage::{Coverage, OF_WAITING};
use crate::queue::Rules;
use crate::sync::marks;

/// In which the tickets of a queue are shown.
const RULES: Rules = Rules { aging: 1, reservation: 1, caller_reservation: 1, collect_after: 1 };

/// A mode, with all servers on one Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stores {
    Strict,
    Native,
    Hybrid,
}

/// What a schedule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    seed: u64,
    stores: Stores,
    servers: usize,
    sets: Sets,
    /// Something beside processes fails.
    trouble: bool,
    /// Redis may lose all, or go back to an older state.
    loses_data: bool,
    /// A stock server uses the same Redis.
    stock: bool,
    /// In how many of a hundred steps a process is about to die.
    deaths: u64,
}

impl Plan {
    fn of_stores(self) -> PlanOfStores {
        let instances = if self.servers == 1 { Instances::Single } else { Instances::Many };
        let plan = PlanOfStores::new(self.seed, Durability::Sync);
        PlanOfStores { instances, loses_data: self.loses_data, ..plan }
    }

    /// Whether a place that was told is kept whatever happens.
    fn keeps_places(self) -> bool {
        !self.loses_data && (self.stores != Stores::Hybrid || self.servers == 1)
    }
}

fn plans(seed: u64) -> Vec<Plan> {
    let (stores, sets) = (Stores::Strict, if seed.is_multiple_of(2) { Sets::Each } else { Sets::Whole });
    let plan = Plan {
        seed,
        stores,
        servers: 1,
        sets,
        trouble: seed % 3 == 2,
        loses_data: false,
        stock: false,
        deaths: [0, 4, 10][usize::try_from(seed / 2 % 3).expect("is small")],
    };
    let native = Plan { stores: Stores::Native, ..plan };
    let hybrid = Plan { stores: Stores::Hybrid, ..plan };
    vec![
        plan,
        native,
        Plan { servers: 2, ..native },
        Plan { stock: true, servers: 2, ..native },
        Plan { loses_data: plan.trouble, ..hybrid },
        Plan { servers: 2, ..hybrid },
    ]
}

fn seeds() -> Vec<u64> {
    let Ok(text) = std::env::var("ATLOCK_QUEUE_SEEDS") else { return (0..USUAL).chain(SELDOM).collect() };
    let (first, end) = text.split_once("..").expect("first..end");
    (first.parse().expect("a number")..end.parse().expect("a number")).collect()
}

/// Marks that the usual seeds do not meet, and who meets them instead.
const BEYOND: &[(&str, &str)] = &[
    ("queue: resolve, lost", "a_queue_that_redis_lost_or_had_before_goes_back_to_it"),
    ("queue: resolve, gone back", "a_queue_that_redis_lost_or_had_before_goes_back_to_it"),
    ("queue: recovery, a queue cannot be read", "what_cannot_be_read_is_not_merged"),
];

/// Seeds of a usual run.
const USUAL: u64 = 22;
/// What is seldom: a lock that is released while its queue is looked at; a waiting pull that is taken out.
const SELDOM: [u64; 2] = [26, 51];

#[test]
fn order_only_refuses_and_every_queue_drains() {
    let mut coverage = Coverage::new(|name| name.starts_with(OF_WAITING), BEYOND);
    for plan in seeds().into_iter().flat_map(plans) {
        marks::take();
        run(plan);
        coverage.add(marks::take());
    }
    if std::env::var("ATLOCK_QUEUE_SEEDS").is_ok() {
        // Shown with --nocapture.
        #[allow(clippy::print_stderr)]
        {
            eprintln!("{}", coverage.report());
        }
    } else {
        assert_eq!(coverage.missing(), Vec::<String>::new(), "never met:\n{}", coverage.report());
    }
}

/// A violation can be looked at again.
#[test]
fn a_seed_repeats_its_schedules() {
    for plan in (0..2).flat_map(plans) {
        assert_eq!(run(plan), run(plan), "{plan:?}");
    }
}

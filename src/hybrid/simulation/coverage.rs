//! What the schedules came by: how many of them met each mark (`crate::sync::mark`), and each pair of faults.
//!
//! Invariant: what the simulation can reach it reaches in the usual seeds, or the test fails: the simulation cannot silently stop seeing
//! a branch, nor can a new one be beyond it unless [`BEYOND`] says who looks at that. A mark counts by its name; names are read from
//! the sources.
//!
//! Cannot express: that a branch was met in each of its circumstances. `make mutants-simulation` says what is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Marks that the usual seeds do not meet, and who meets them instead: a longer run, or a test.
const BEYOND: &[(&str, &str)] = &[
    // Two grant, or Redis goes back while others take locks: where that is not promised against, a schedule does not do it.
    ("resolve: both granted", "a_lock_of_this_server_that_the_local_store_may_lack_is_not_overwritten"),
    ("resolve: lost, another came", "what_is_lost_is_told_from_what_was_released"),
    ("resolve: an older one is there", "an_older_lock_of_another_server_shows_that_redis_has_gone_back"),
    ("fallback: an older lock is there", "an_older_lock_of_another_server_shows_that_redis_has_gone_back"),
    // Only values that a stock server wrote are judged.
    ("prologue: judged before", "an_attempt_that_was_to_be_judged_does_not_act_later"),
    // No schedule has a machine that is overloaded.
    ("fallback: slow for want of a processor", "what_is_slow_for_want_of_a_processor_is_not_redis_fault"),
    ("fallback: a probe is late for want of a processor", "what_is_slow_for_want_of_a_processor_is_not_redis_fault"),
    // Nobody else writes at our keys.
    ("foreign: a key of another type", "each_script_names_what_another_program_wrote_and_changes_nothing"),
    ("foreign: a value that is too long", "each_script_names_what_another_program_wrote_and_changes_nothing"),
    ("foreign: a memory that is too long", "each_script_names_what_another_program_wrote_and_changes_nothing"),
    ("foreign: no fencing token", "each_script_names_what_another_program_wrote_and_changes_nothing"),
    ("recovery: an entry of another program", "an_entry_that_is_too_large_stands_in_nobodys_way"),
    // Seldom.
    ("resolve: granted after its release", "a_grant_that_came_after_its_release"),
    ("resolve: never acknowledged", "what_this_server_gave_before_another_token_is_over"),
    ("retry: the answer to a retry is UNKNOWN", "a_retry_that_was_forgotten_is_told_from_one_that_never_arrived"),
    ("retry: the answer to a first attempt is UNKNOWN", "a_first_attempt_of_a_late_clock_goes_well_at_the_second_try"),
    ("prologue: unknown", "a_first_attempt_that_comes_after_its_retry_was_forgotten_does_nothing"),
    ("recovery: decided since the last pass", "what_is_decided_during_a_recovery_reaches_redis"),
    ("recovery: a late release meets another lock", LONGER),
    ("grant: refused by an old lock", LONGER),
    ("by pull: Redis decides again", LONGER),
    ("by pull: Redis has lost one", LONGER),
    ("by pull: a lost answer had released one", LONGER),
    ("by pull: undone", LONGER),
    ("by pull: what came back was released", LONGER),
    ("intent: the queue dropped it", LONGER),
    ("data loss: it is there again", "a_lock_that_is_gone_and_there_again_is_not_told_as_absent"),
];
/// Only a run over many seeds, such as `make soak`, meets it, if anything does.
const LONGER: &str = "a longer run";
/// How the marks of waiting begin, which is the service's (`crate::service::queueing`).
pub(crate) const OF_WAITING: &str = "queue: ";

/// What a number of schedules came by.
#[derive(Debug)]
pub(crate) struct Coverage {
    /// Which marks are meant.
    is_meant: fn(&str) -> bool,
    /// Those of them that the usual seeds do not meet, and who meets them instead.
    beyond: &'static [(&'static str, &'static str)],
    schedules: u64,
    met: BTreeMap<String, u64>,
    pairs: BTreeMap<(String, String), u64>,
}

impl Coverage {
    pub(crate) fn new(is_meant: fn(&str) -> bool, beyond: &'static [(&'static str, &'static str)]) -> Coverage {
        Coverage { is_meant, beyond, schedules: 0, met: BTreeMap::new(), pairs: BTreeMap::new() }
    }

    /// Of hybrid mode and the stores.
    pub(super) fn of_hybrid() -> Coverage {
        Coverage::new(|name| !name.starts_with(OF_WAITING), BEYOND)
    }

    fn marks(&self) -> impl Iterator<Item = String> {
        marks().into_iter().filter(|name| (self.is_meant)(name))
    }

    /// One schedule came by these.
    pub(crate) fn add(&mut self, met: BTreeSet<String>) {
        self.schedules += 1;
        let faults: Vec<&String> = met.iter().filter(|name| is_fault(name)).collect();
        for (nth, one) in faults.iter().enumerate() {
            for other in &faults[nth + 1..] {
                *self.pairs.entry(((*one).clone(), (*other).clone())).or_default() += 1;
            }
        }
        for name in met {
            *self.met.entry(name).or_default() += 1;
        }
    }

    /// The marks that no schedule met.
    pub(crate) fn never_met(&self) -> Vec<String> {
        self.marks().filter(|name| !self.met.contains_key(name)).collect()
    }

    /// Those of them that must be met.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.never_met().into_iter().filter(|name| !self.beyond.iter().any(|(beyond, _)| beyond == name)).collect()
    }

    /// All of it, as a table: the marks, then the pairs of faults.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("{} schedules\n\n| met | schedules |\n|---|--:|\n", self.schedules);
        let names: Vec<String> = self.marks().collect();
        let mut row = |name: &str, count: Option<&u64>| {
            writeln!(text, "| {name} | {} |", count.unwrap_or(&0)).expect("is a text");
        };
        names.iter().for_each(|name| row(name, self.met.get(name)));
        let faults: Vec<&String> = names.iter().filter(|name| is_fault(name)).collect();
        for (nth, one) in faults.iter().enumerate() {
            for other in &faults[nth + 1..] {
                let pair = ((*one).clone(), (*other).clone());
                row(&format!("{one} + {}", other.trim_start_matches("fault: ")), self.pairs.get(&pair));
            }
        }
        text
    }
}

fn is_fault(name: &str) -> bool {
    name.starts_with("fault: ")
}

/// The names of all marks in the sources.
fn marks() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (path, text) in sources("src") {
        let begin = if path.extension().is_some_and(|end| end == "lua") { "-- mark: " } else { "mark!(" };
        let name =
            |rest: &str| rest.trim_start_matches(['"', '\n', ' ']).split(['"', '\n']).next().unwrap_or_default().to_owned();
        // Others are the macro's own, and these lines.
        names.extend(text.split(begin).skip(1).map(name).filter(|name| name.contains(": ")));
    }
    names
}

/// The files of a folder, and of those in it.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("is a folder").map(|entry| entry.expect("is read").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs" || end == "lua") {
                let text = fs::read_to_string(&path).expect("is read");
                files.push((path, text));
            }
        }
    }
    files
}

/// What is said to be beyond the usual seeds is a mark, and the test that looks at it is there.
#[test]
fn what_is_beyond_the_simulation_is_looked_at() {
    let (marks, sources) = (marks(), [sources("src"), sources("tests")].concat());
    assert!(marks.len() > 80, "{marks:?}");
    let is_test = |name: &str| {
        sources.iter().any(|(_, text)| text.contains(&format!("\nfn {name}()")) || text.contains(&format!(" fn {name}()")))
    };
    let is_wrong = |(beyond, who): &&(&str, &str)| !marks.contains(*beyond) || (*who != LONGER && !is_test(who));
    let wrong: Vec<_> = BEYOND.iter().filter(is_wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

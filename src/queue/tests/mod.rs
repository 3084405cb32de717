//! What the queue promises: by example (`directed.rs`, `documents.rs`, `cycles.rs`, `freezes.rs`), against a naive list (`model.rs`), in all courses of a small
//! world (`explore`), over random arrivals (`fairness.rs`), and of two documents (`merging.rs`).

mod cycles;
mod directed;
mod documents;
mod explore;
mod fairness;
mod freezes;
mod merging;
mod model;

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const RULES: Rules = Rules { aging: 100, reservation: 10, caller_reservation: 10, collect_after: 50 };

fn pull(num: i64) -> PullId {
    PullId { host: "git.example.com".into(), num }
}

fn waiter(num: i64) -> Waiter {
    Waiter {
        pull: pull(num),
        user: format!("user{num}"),
        url: format!("https://git.example.com/{num}"),
        host_type: 0,
        author: "ada".into(),
        recipe: r#"{"clone":"https://git.example.com/a/b.git"}"#.into(),
    }
}

fn names(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| key.to_string()).collect()
}

/// Each of these pulls holds this key; pull 0: nobody does.
fn holders(keys: &[(&str, i64)]) -> BTreeMap<String, Holder> {
    let holder = |num| if num == 0 { Holder::Free } else { Holder::Held(pull(num)) };
    keys.iter().map(|(key, num)| (key.to_string(), holder(*num))).collect()
}

/// A queue into which these joined at these times, of normal priority.
fn queue(tickets: &[(i64, &[&str], bool, u64)]) -> Queue {
    let mut queue = Queue::default();
    for (num, keys, whole, now) in tickets {
        queue.join(&waiter(*num), &names(keys), Priority::Normal, *whole, false, *now).expect("there is room");
    }
    queue
}

fn reserved(num: i64, key: &str) -> Event {
    Event::Reserved { pull: pull(num), key: key.into() }
}

fn withdrawn(num: i64, key: &str) -> Event {
    Event::Withdrawn { pull: pull(num), key: key.into() }
}

fn missed(num: i64, key: &str) -> Event {
    Event::Missed { pull: pull(num), key: key.into() }
}

fn left(num: i64, key: &str) -> Event {
    Event::Left { waiter: waiter(num), keys: names(&[key]) }
}

fn took(num: i64, key: &str) -> Event {
    Event::Took { pull: pull(num), key: key.into() }
}

fn to(num: i64) -> Gate {
    Gate::Reserved(pull(num))
}

//! One rule each.

use super::*;

#[test]
fn people_are_told_of_a_circle_once_on_each_of_its_pulls() {
    let mut ours = queue(&[(1, &["b"], false, 10), (2, &["a"], false, 20)]);
    let mut theirs = ours.clone();
    assert_eq!(ours.tell("c1", &[pull(1), pull(2), pull(3)]), [pull(1), pull(2)], "pull 3 does not wait");
    assert_eq!(ours.tell("c1", &[pull(1), pull(2)]), []);
    assert_eq!(theirs.tell("c2", &[pull(1)]), [pull(1)]);
    // Of two documents that went on apart, what either told was told; and so it is after both are written and read.
    let both = merge(&ours.to_bytes(), &theirs.to_bytes()).expect("both can be read");
    let mut both = Queue::decode(Some(&both)).expect("is one");
    assert_eq!((both.tell("c1", &[pull(1)]), both.tell("c2", &[pull(1), pull(2)])), (vec![], vec![pull(2)]));
    // Pulls that fail over and over are in ever new circles.
    let more = (3..100).filter(|circle| !both.tell(&format!("c{circle}"), &[pull(1)]).is_empty());
    assert_eq!(more.count(), 6);
    assert_eq!(both.tell("c9", &[pull(2)]), [pull(2)]);
}
use crate::error::Code;

#[test]
fn the_first_gets_the_key_and_nobody_else() {
    let mut queue = queue(&[(2, &["a"], false, 1), (3, &["a"], false, 2)]);
    assert_eq!((queue.gate("a"), queue.gate("b")), (Gate::Closed, Gate::Open));
    assert_eq!(queue.dispatch(&holders(&[("a", 1)]), &RULES, 3), []);
    assert!(!queue.admits("a", Some(&pull(2))));
    assert_eq!(queue.dispatch(&holders(&[("a", 0)]), &RULES, 4), [reserved(2, "a")]);
    assert_eq!(queue.gates(), BTreeMap::from([("a", to(2))]));
    assert!(queue.admits("a", Some(&pull(2))) && !queue.admits("a", Some(&pull(3))) && !queue.admits("a", None));
    assert_eq!((queue.position(&pull(2), "a", &RULES), queue.position(&pull(3), "a", &RULES)), (Some(1), Some(2)));
    assert_eq!(queue.ahead(&pull(3), "a", &RULES), [queue.ticket(&pull(2)).expect("waits")]);
    assert!(queue.took(&pull(2), "a") && !queue.took(&pull(2), "a"));
    assert_eq!((queue.gate("a"), queue.position(&pull(3), "a", &RULES)), (Gate::Closed, Some(1)));
    assert_eq!(queue.leave(&pull(3), None), 1);
    // It is told for a day that both ended, and then there is nothing to keep.
    assert!(queue.is_empty() && queue.encode().is_some());
    queue.bump(queue.revision() + 24 * 3600 * 1_000_000);
    assert!(queue.encode().is_none());
}

#[test]
fn a_miss_gives_the_turn_to_the_next_and_keeps_the_place() {
    let mut queue = queue(&[(2, &["a"], false, 1), (3, &["a"], false, 2)]);
    let free = holders(&[("a", 0)]);
    assert_eq!(queue.dispatch(&free, &RULES, 10), [reserved(2, "a")]);
    assert_eq!(queue.dispatch(&free, &RULES, 19), []);
    assert_eq!(queue.dispatch(&free, &RULES, 20), [missed(2, "a"), reserved(3, "a")]);
    assert_eq!(queue.dispatch(&free, &RULES, 30), [missed(3, "a"), reserved(2, "a")]);
    assert_eq!(queue.dispatch(&free, &RULES, 40), [missed(2, "a"), reserved(3, "a")]);
    assert_eq!(queue.dispatch(&free, &RULES, 50), [missed(3, "a"), reserved(2, "a")]);
    assert_eq!(queue.dispatch(&free, &RULES, 60), [missed(2, "a"), left(2, "a"), reserved(3, "a")]);
    assert_eq!(queue.dispatch(&free, &RULES, 70), [missed(3, "a"), left(3, "a")]);
    assert!(queue.is_empty());
}

#[test]
fn who_is_alone_gets_the_next_turn_too() {
    let mut queue = queue(&[(2, &["a", "b"], false, 1)]);
    let free = holders(&[("a", 0), ("b", 0)]);
    queue.dispatch(&free, &RULES, 0);
    let events = queue.dispatch(&free, &RULES, 10);
    assert_eq!(events, [missed(2, "a"), missed(2, "b"), reserved(2, "a"), reserved(2, "b")]);
    assert_eq!(queue.ticket(&pull(2)).expect("waits").missed, 1);
}

#[test]
fn a_run_keeps_its_reservation() {
    let mut queue = queue(&[(2, &["a", "b"], false, 1), (3, &["a"], false, 2)]);
    assert!(!queue.extend(&pull(2), 100));
    queue.dispatch(&holders(&[("a", 0)]), &RULES, 0);
    assert!(queue.extend(&pull(2), 100) && !queue.extend(&pull(2), 50) && !queue.extend(&pull(9), 200));
    assert_eq!(queue.dispatch(&holders(&[("a", 0)]), &RULES, 99), []);
    assert_eq!(queue.dispatch(&holders(&[("a", 2)]), &RULES, 100), [took(2, "a")]);
    queue.dispatch(&holders(&[("a", 0)]), &RULES, 100);
    assert!(queue.extend(&pull(3), u64::MAX));
    let longest = Want::Reserved { since: 100, until: u64::MAX - 1 };
    assert_eq!(queue.ticket(&pull(3)).expect("waits").want("a"), Some(longest), "that is no collection");
}

/// A crash kept from the queue that a pull took what was kept for it, and then its lock was released. What is kept for it only since the
/// release began it has asked for anew.
#[test]
fn who_had_a_lock_by_its_turn_waits_for_it_no_more() {
    let kept_since_20 = || {
        let mut queue = queue(&[(2, &["a", "b"], false, 1)]);
        assert_eq!(queue.dispatch(&holders(&[("a", 0), ("b", 9)]), &RULES, 20), [reserved(2, "a")]);
        Queue::decode(Some(&queue.to_bytes())).expect("is one")
    };
    let after_a_release = |begun: u64| {
        let mut queue = kept_since_20();
        assert!(queue.extend(&pull(2), 90), "its run goes on");
        queue.gave_up(&pull(2), "b", begun);
        queue.gave_up(&pull(3), "a", begun);
        queue.gave_up(&pull(2), "a", begun);
        queue.ticket(&pull(2)).expect("waits for b").wants.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(after_a_release(21), ["b"]);
    assert_eq!(after_a_release(20), ["a", "b"]);
    assert_eq!(after_a_release(2), ["a", "b"], "its ticket is older than the release, and what is kept for it is not");
}

/// A pull has a lock, and waits for a set with it. Somebody discards that lock: the pull waits for the set as before.
#[test]
fn a_set_waits_for_a_lock_that_its_pull_has_no_more() {
    let mut queue = queue(&[(2, &["a", "b", "c"], true, 1)]);
    let all = [reserved(2, "a"), reserved(2, "b"), reserved(2, "c")];
    assert_eq!(queue.dispatch(&holders(&[("a", 0), ("b", 2), ("c", 0)]), &RULES, 2), all);
    queue.gave_up(&pull(2), "b", 3);
    assert_eq!(queue.gates(), BTreeMap::from([("a", to(2)), ("b", to(2)), ("c", to(2))]));
}

#[test]
fn a_reserved_key_that_another_took_is_not_missed() {
    let mut queue = queue(&[(2, &["a"], false, 1)]);
    queue.dispatch(&holders(&[("a", 0)]), &RULES, 0);
    assert_eq!(queue.dispatch(&holders(&[("a", 9)]), &RULES, 50), [withdrawn(2, "a")]);
    let unreadable = BTreeMap::from([("a".to_owned(), Holder::Unknown)]);
    assert_eq!(queue.dispatch(&unreadable, &RULES, 60), []);
    assert_eq!(queue.dispatch(&holders(&[("a", 0)]), &RULES, 70), [reserved(2, "a")]);
    assert_eq!(queue.dispatch(&BTreeMap::new(), &RULES, 900), [], "nobody looked");
    assert_eq!(queue.dispatch(&unreadable, &RULES, 900), [withdrawn(2, "a")]);
    assert_eq!(queue.ticket(&pull(2)).expect("waits").missed, 0);
}

#[test]
fn a_priority_is_a_bounded_advantage() {
    let mut queue = queue(&[(2, &["a"], false, 1000)]);
    for (num, priority, now) in [(4, Priority::High, 1050), (3, Priority::Critical, 1300), (5, Priority::Low, 1301)] {
        queue.join(&waiter(num), &names(&["a"]), priority, false, false, now).expect("there is room");
    }
    let nums = |queue: &Queue| -> Vec<i64> { queue.tickets_in_order(&RULES).iter().map(|ticket| ticket.pull().num).collect() };
    assert_eq!(nums(&queue), [4, 2, 3, 5]);
    queue.join(&waiter(5), &names(&["b"]), Priority::Critical, false, false, 2000).expect("there is room");
    assert_eq!(nums(&queue), [4, 2, 3, 5], "and no more than three steps");
    queue.join(&waiter(4), &names(&["b"]), Priority::Low, false, false, 2000).expect("there is room");
    assert_eq!(queue.ticket(&pull(4)).expect("waits").priority, Priority::High);
    assert_eq!(Priority::try_from(4).expect_err("is none").code(), Code::InvalidArgument);
}

#[test]
fn a_late_clock_passes_nobody() {
    let queue = queue(&[(2, &["a"], false, 1000), (3, &["a"], false, 5)]);
    assert_eq!(queue.ticket(&pull(3)).expect("waits").since, 1000);
    assert_eq!(queue.position(&pull(3), "a", &RULES), Some(2));
}

#[test]
fn a_dispatch_looks_at_all_that_may_change() {
    let queue =
        queue(&[(2, &["c", "d"], true, 1), (3, &["b", "c"], true, 2), (4, &["a", "b"], true, 3), (5, &["x", "y"], false, 4)]);
    let look = |freed: &[&str]| queue.keys_to_look_at(&names(freed)).into_iter().collect::<Vec<_>>();
    assert_eq!(look(&["a"]), ["a", "b", "c", "d"]);
    assert_eq!(look(&["x", "nobody wants this"]), ["x"]);
    assert!(look(&["nobody wants this"]).is_empty());
    assert_eq!(look(&[]), ["a", "b", "c", "d", "x", "y"]);
}

#[test]
fn a_set_gets_all_or_nothing() {
    let mut queue = queue(&[(2, &["a", "b"], true, 1), (3, &["b"], false, 2)]);
    assert_eq!(queue.keys_to_look_at(&names(&["a"])), names(&["a", "b"]).into_iter().collect());
    assert_eq!(queue.dispatch(&holders(&[("a", 1), ("b", 0)]), &RULES, 3), [reserved(3, "b")], "passed before it collects");
    assert_eq!(queue.dispatch(&holders(&[("a", 0), ("b", 3)]), &RULES, 4), [took(3, "b")]);
    assert_eq!(queue.dispatch(&holders(&[("a", 0), ("b", 0)]), &RULES, 5), [reserved(2, "a"), reserved(2, "b")]);
    assert_eq!(queue.dispatch(&holders(&[("a", 0), ("b", 9)]), &RULES, 6), [withdrawn(2, "b"), withdrawn(2, "a")]);
    assert_eq!(
        queue.dispatch(&holders(&[("a", 2), ("b", 0)]), &RULES, 7),
        [reserved(2, "a"), reserved(2, "b")],
        "what it has counts"
    );
    assert_eq!(queue.dispatch(&holders(&[("a", 2), ("b", 2)]), &RULES, 8), [took(2, "a"), took(2, "b")]);
    assert!(queue.is_empty());
}

/// Found by `explore`: the key that was reserved to it alone was kept although another got the rest of its set.
#[test]
fn who_asks_for_a_set_later_keeps_no_part_of_it() {
    let mut queue = queue(&[(1, &["b"], false, 1), (2, &["a"], false, 2)]);
    assert_eq!(queue.dispatch(&holders(&[("a", 0), ("b", 9)]), &RULES, 3), [reserved(2, "a")]);
    queue.join(&waiter(2), &names(&["a", "b"]), Priority::Normal, true, false, 4).expect("there is room");
    assert_eq!(queue.dispatch(&holders(&[("a", 0), ("b", 0)]), &RULES, 5), [withdrawn(2, "a"), reserved(1, "b")]);
}

/// Found by `merging.rs`: what the second has is still kept for the first, at whose other key nobody looked.
#[test]
fn a_key_is_kept_for_one_whoever_looks_at_what() {
    let mut queue = queue(&[(1, &["a"], true, 1), (2, &["a"], true, 2)]);
    queue.begin_acquiring(&pull(2), BTreeMap::from([("a".to_owned(), Digest::of(b"lock"))]), 9);
    assert_eq!(queue.dispatch(&holders(&[("a", 0)]), &RULES, 3), [reserved(1, "a")]);
    queue.join(&waiter(1), &names(&["b"]), Priority::Normal, true, false, 4).expect("there is room");
    assert_eq!(queue.dispatch(&holders(&[("a", 2)]), &RULES, 5), []);
    assert_eq!(queue.gate("a"), to(1));
}

#[test]
fn an_old_set_collects_and_one_at_a_time() {
    let mut queue = queue(&[(2, &["a", "b"], true, 0), (3, &["b", "c"], true, 1), (4, &["a"], false, 60)]);
    let first = holders(&[("a", 0), ("b", 1), ("c", 0)]);
    assert_eq!(queue.dispatch(&first, &RULES, 60), [], "collected for 2, and 3 collects nothing: {queue:?}");
    assert_eq!((queue.gate("a"), queue.gate("c")), (to(2), Gate::Closed));
    assert_eq!(queue.dispatch(&first, &RULES, 900), [], "it does not expire");
    let all = holders(&[("a", 0), ("b", 0), ("c", 0)]);
    assert_eq!(queue.dispatch(&all, &RULES, 1000), [reserved(2, "a"), reserved(2, "b")]);
    let events = queue.dispatch(&all, &RULES, 1010);
    assert_eq!(events, [missed(2, "a"), missed(2, "b"), reserved(3, "b"), reserved(3, "c"), reserved(4, "a")]);
}

#[test]
fn a_set_collects_nothing_that_it_waits_for_through_others() {
    let mut queue = queue(&[(2, &["a", "b"], true, 0)]);
    let held = holders(&[("a", 1), ("b", 0), ("c", 3)]);
    assert_eq!(queue.dispatch(&held, &RULES, 60), []);
    assert_eq!(queue.gate("b"), to(2));
    queue.join(&waiter(1), &names(&["c"]), Priority::Normal, false, false, 61).expect("there is room");
    queue.join(&waiter(3), &names(&["b"]), Priority::Normal, false, false, 62).expect("there is room");
    assert_eq!(queue.dispatch(&held, &RULES, 63), [reserved(3, "b")], "2 waits for 1, and 1 for 3");
    assert_eq!(queue.dispatch(&holders(&[("a", 1), ("b", 3), ("c", 0)]), &RULES, 64), [took(3, "b"), reserved(1, "c")]);
}

#[test]
fn a_set_half_granted_is_named_until_that_is_over() {
    let mut queue = queue(&[(2, &["a", "b"], true, 1)]);
    let keys = BTreeMap::from([("a".to_owned(), Digest::of(b"lock"))]);
    assert!(!queue.begin_acquiring(&pull(3), keys.clone(), 50));
    queue.dispatch(&holders(&[("a", 0), ("b", 0)]), &RULES, 2);
    assert!(queue.begin_acquiring(&pull(2), keys.clone(), 50) && !queue.begin_acquiring(&pull(2), keys.clone(), 60));
    assert_eq!(queue.dispatch(&holders(&[("a", 2), ("b", 0)]), &RULES, 49), [], "its reservations stand as long");
    assert_eq!(queue.dispatch(&holders(&[("a", 2), ("b", 2)]), &RULES, 49), [], "somebody is at work");
    assert_eq!(queue.leave(&pull(2), Some("b")), 1);
    assert_eq!(queue.dispatch(&holders(&[("a", 2)]), &RULES, 90), [reserved(2, "a")], "found by `explore`: not had");
    assert_eq!(queue.leave(&pull(2), None), 1);
    let mut given_up = queue.clone();
    assert!(!given_up.give_up(49) && given_up.given_up().is_empty() && given_up.give_up(50) && !given_up.give_up(50));
    assert_eq!(given_up.given_up()[0].1.keys, keys);
    assert!(!given_up.end_acquiring(&pull(2)), "its caller is not told that it has the set");
    given_up.taken_back(&pull(2));
    assert!(given_up.is_empty());
    queue.join(&waiter(2), &names(&["a"]), Priority::Low, false, true, 70).expect("there is room");
    let ticket = queue.ticket(&pull(2)).expect("waits");
    assert_eq!((ticket.since, ticket.priority, ticket.whole, ticket.calls), (70, Priority::Low, false, true), "a new place");
    assert!(queue.end_acquiring(&pull(2)) && !queue.end_acquiring(&pull(2)));
    queue.leave(&pull(2), None);
    assert!(queue.is_empty());
}

#[test]
fn a_host_that_is_not_known_is_any() {
    let mut queue = queue(&[(2, &["a"], false, 1)]);
    let (any, other) = (PullId { host: String::new(), num: 2 }, PullId { host: "other.example.com".into(), num: 2 });
    queue.join(&Waiter { pull: other.clone(), ..waiter(2) }, &names(&["a"]), Priority::Normal, false, false, 2).expect("room");
    assert_eq!(queue.len(), 2);
    assert_eq!((queue.position(&pull(2), "a", &RULES), queue.position(&other, "a", &RULES)), (Some(1), Some(2)));
    assert!(queue.took(&other, "a") && queue.ticket(&pull(2)).is_some());
    queue.join(&Waiter { pull: any.clone(), ..waiter(2) }, &names(&["b"]), Priority::Normal, false, false, 3).expect("room");
    assert_eq!((queue.len(), queue.ticket(&any).expect("waits").pull()), (1, &pull(2)));
    assert_eq!(queue.leave(&any, None), 2);
}

#[test]
fn nothing_is_joined_over_a_limit() {
    let mut queue = Queue::default();
    for num in 1..=100 {
        queue.join(&waiter(num), &names(&["a"]), Priority::Normal, false, false, 1).expect("there is room");
    }
    let many: Vec<String> = (0..501).map(|n| format!("key{n}")).collect();
    let long = vec!["x".repeat(1 << 20)];
    let before = queue.clone();
    for (num, keys, code) in [
        (101, names(&["b", "a"]), Code::QueueFull),
        (101, many.clone(), Code::QueueFull),
        (100, many[1..].to_vec(), Code::QueueFull),
        (101, long, Code::QueueFull),
        (101, vec![], Code::InvalidArgument),
        (0, names(&["b"]), Code::InvalidArgument),
        (-1, names(&["b"]), Code::InvalidArgument),
    ] {
        let error = queue.join(&waiter(num), &keys, Priority::Normal, false, false, 2).expect_err("is refused");
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().len() < 300, "{error}");
        assert_eq!(queue, before);
    }
    queue.join(&waiter(100), &names(&["a", "a"]), Priority::Normal, false, false, 2).expect("is there");
    queue.join(&waiter(100), &many[..499], Priority::Normal, false, false, 2).expect("there is room");
    let last = queue.ticket(&pull(99)).expect("waits").clone();
    queue.tickets.extend((101..=1000).map(|num| Ticket { waiter: waiter(num), ..last.clone() }));
    let error = queue.join(&waiter(1001), &names(&["b"]), Priority::Normal, false, false, 2).expect_err("is refused");
    assert_eq!(error.code(), Code::QueueFull);
}

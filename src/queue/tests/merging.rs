//! Two documents that went on apart.

use proptest::prelude::*;

use super::documents::any_queue;
use super::*;

fn merged(ours: &Queue, theirs: &Queue) -> Queue {
    let bytes = merge(&ours.to_bytes(), &theirs.to_bytes()).expect("both can be read");
    Queue::decode(Some(&bytes)).expect("is one")
}

/// But for reservations, and for the order of the list, which means nothing.
fn without_reservations(mut queue: Queue) -> Queue {
    queue.tickets.iter_mut().for_each(|ticket| drop(ticket.withdraw()));
    queue.tickets.sort_by(|a, b| a.pull().cmp(b.pull()));
    queue
}

/// One queue, and two that went on from it, each by itself.
fn apart() -> impl Strategy<Value = (Queue, Queue, Queue)> {
    let change = || prop::collection::vec((0..4, 1..8_i64, 0..3_usize), 0..6);
    (any_queue(), change(), change()).prop_map(|(start, ours, theirs)| {
        let go_on = |changes: Vec<(i32, i64, usize)>, mut now: u64| {
            let mut queue = start.clone();
            for (what, num, key) in changes {
                let key = ["a", "b", "c"][key];
                now += 7;
                match what {
                    0 => drop(queue.leave(&pull(num), None)),
                    1 => drop(queue.took(&pull(num), key)),
                    2 => drop(queue.dispatch(&holders(&[(key, 0)]), &RULES, now)),
                    _ => queue.join(&waiter(num), &names(&[key]), Priority::Low, false, false, now).expect("there is room"),
                }
                queue.bump(now);
            }
            queue
        };
        let (ours, theirs) = (go_on(ours, 3_000), go_on(theirs, 3_003));
        (start, ours, theirs)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whoever_merges_and_however_often_the_same_comes_out((_, ours, theirs) in apart()) {
        let once = merged(&ours, &theirs);
        prop_assert_eq!(without_reservations(once.clone()), without_reservations(merged(&theirs, &ours)));
        prop_assert_eq!(without_reservations(merged(&ours, &ours)), without_reservations(ours.clone()));
        prop_assert_eq!(&merged(&once, &theirs), &once);
        prop_assert_eq!(without_reservations(merged(&ours, &once)), without_reservations(once));
    }

    #[test]
    fn no_place_is_lost_and_none_is_won((start, ours, theirs) in apart()) {
        let once = merged(&ours, &theirs);
        for num in 1..8 {
            let pull = pull(num);
            let (own, other, now) = (ours.ticket(&pull), theirs.ticket(&pull), once.ticket(&pull));
            let was = start.ticket(&pull);
            let ended = |side: Option<&Ticket>| was.is_some_and(|was| side.is_none_or(|side| side.seq != was.seq));
            match (own, other) {
                (Some(own), Some(other)) if own.seq == other.seq => {
                    let now = now.expect("both have it");
                    prop_assert_eq!((now.seq, now.since), (own.seq, own.since));
                    prop_assert!(own.wants.keys().chain(other.wants.keys()).all(|key| now.want(key).is_some()));
                }
                (Some(one), None) | (None, Some(one)) if was.is_none_or(|was| was.seq != one.seq) => {
                    // It joined on one side alone: the place is the one it got there, unless a later one of its ended on the other.
                    prop_assert!(now.is_none_or(|now| (now.seq, now.since) == (one.seq, one.since)));
                }
                (None, None) => prop_assert!(now.is_none()),
                (Some(_), None) => prop_assert!(ended(other) && now.is_none(), "its end wins: {:?}", now),
                (None, Some(_)) => prop_assert!(ended(own) && now.is_none(), "its end wins: {:?}", now),
                (Some(_), Some(_)) => prop_assert!(now.is_some_and(|now| now.since >= was.map_or(0, |was| was.since))),
            }
            let kept = |queue: &Queue| queue.ticket(&pull).map(|ticket| ticket.wants.clone()).unwrap_or_default();
            for (key, want) in kept(&once) {
                prop_assert!(!want.is_reserved() || kept(&ours).get(&key) == Some(&want), "only ours are reserved");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_not_merged() {
    let good = queue(&[(2, &["a"], false, 1)]).to_bytes();
    assert!(merge(&good, &good).is_some());
    for bad in [&b"{}"[..], b"", br#"{"version":2}"#] {
        assert_eq!((merge(&good, bad), merge(bad, &good)), (None, None));
    }
}

#[test]
fn an_end_is_remembered_a_new_place_is_not_taken() {
    let start = queue(&[(2, &["a"], false, 10), (3, &["a"], false, 20)]);
    let (mut ours, theirs) = (start.clone(), start.clone());
    ours.leave(&pull(2), None);
    assert_eq!(merged(&ours, &theirs).len(), 1);
    ours.join(&waiter(2), &names(&["b"]), Priority::Normal, false, false, 30).expect("there is room");
    let once = merged(&theirs, &ours);
    let ticket = once.ticket(&pull(2)).expect("waits");
    assert_eq!((ticket.since, ticket.wants.len()), (30, 1));
    assert!(once.next_seq > ticket.seq);
}

#[test]
fn who_joined_on_both_sides_has_the_earlier_place() {
    let (early, late) = (queue(&[(2, &["a"], false, 10)]), queue(&[(2, &["b"], false, 30)]));
    for once in [merged(&early, &late), merged(&late, &early)] {
        let ticket = once.ticket(&pull(2)).expect("waits");
        assert_eq!((ticket.since, ticket.seq, ticket.wants.len()), (10, 10, 2));
    }
}

/// The document of an empty queue is deleted, and its numbers are forgotten: an end that the other side remembers is none of a later
/// ticket's.
#[test]
fn a_queue_that_begins_anew_loses_no_place_to_an_old_end() {
    let mut theirs = queue(&[(2, &["a"], false, 10), (3, &["a"], false, 11)]);
    theirs.leave(&pull(2), None);
    let ours = queue(&[(2, &["a"], false, 500)]);
    assert_eq!(merged(&ours, &theirs).ticket(&pull(2)).map(|ticket| ticket.since), Some(500));
}

#[test]
fn ends_are_bounded_and_the_newest_stay() {
    let mut queue = queue(&[(1, &["a"], false, 0)]);
    for num in 2..300 {
        queue.join(&waiter(num), &names(&["b"]), Priority::Normal, false, false, num as u64).expect("there is room");
        queue.leave(&pull(num), None);
        queue.bump(num as u64);
    }
    queue.leave(&pull(1), None);
    let nums: Vec<i64> = queue.ended.iter().map(|end| end.pull.num).collect();
    assert_eq!(nums, (201..300).chain([1]).collect::<Vec<_>>());
}

/// A set was granted, and told to its pull, by a fallback. Redis's document still had that set on its way: what the pull has would be taken
/// back.
#[test]
fn a_set_that_one_side_ended_is_on_its_way_no_more() {
    let mut redis = Queue::default();
    redis.join(&waiter(2), &names(&["a", "b", "c"]), Priority::Normal, true, false, 1).expect("there is room");
    let keys = BTreeMap::from([("a".to_owned(), Digest::of(b"lock"))]);
    assert!(redis.begin_acquiring(&pull(2), keys.clone(), 50));
    let mut local = redis.clone();
    assert!(local.end_acquiring(&pull(2)) && local.took(&pull(2), "a"));
    for mut merged in [merged(&local, &redis), merged(&redis, &local)] {
        assert!(!merged.give_up(1_000), "{merged:?}");
    }
    // The next one is.
    assert!(local.begin_acquiring(&pull(2), keys, 40));
    assert!(merged(&redis, &local).give_up(1_000));
}

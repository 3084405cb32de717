//! Circles, by example and against a naive reachability.

use proptest::prelude::*;

use super::super::cycle::{Circle, circles};
use super::*;
use crate::domain::token::FencingToken;

type Locks = BTreeMap<String, (PullId, FencingToken)>;

fn locks(held: &[(&str, i64)]) -> Locks {
    held.iter().map(|(key, num)| (key.to_string(), (pull(*num), FencingToken::new(*num as u64)))).collect()
}

/// Who waits for whom: from, to, and whether by a reservation.
type Edges = BTreeSet<(i64, i64, bool)>;

fn edges(queue: &Queue, held: &BTreeMap<String, Holder>) -> Edges {
    let mut edges = Edges::new();
    for ticket in &queue.tickets {
        for key in ticket.wants.keys() {
            let (owner, soft) = match &held[key] {
                Holder::Held(pull) => (Some(pull.num), false),
                Holder::Unknown => (None, false),
                Holder::Free => {
                    let owner = queue.tickets.iter().find(|other| other.has_reserved(key));
                    (owner.map(|owner| owner.pull().num), true)
                }
            };
            if let Some(owner) = owner.filter(|owner| *owner != ticket.pull().num) {
                edges.insert((ticket.pull().num, owner, soft));
            }
        }
    }
    edges
}

/// From whom a way leads to whom, by adding ways until there are no more.
fn reachable(edges: impl Iterator<Item = (i64, i64)>) -> BTreeSet<(i64, i64)> {
    let mut ways: BTreeSet<(i64, i64)> = edges.collect();
    loop {
        let longer: Vec<_> =
            ways.iter().flat_map(|(a, b)| ways.iter().filter(move |(c, _)| b == c).map(move |(_, d)| (*a, *d))).collect();
        let before = ways.len();
        ways.extend(longer);
        if ways.len() == before {
            return ways;
        }
    }
}

fn hard(edges: &Edges) -> BTreeSet<(i64, i64)> {
    reachable(edges.iter().filter(|(_, _, soft)| !soft).map(|(from, to, _)| (*from, *to)))
}

/// The reservations that are in a circle, unless both ends are in a circle of locks.
fn soft_circles(edges: &Edges) -> Vec<(i64, i64)> {
    let (all, hard) = (reachable(edges.iter().map(|(from, to, _)| (*from, *to))), hard(edges));
    let in_circle = |a: i64, b: i64| all.contains(&(b, a)) && !(hard.contains(&(a, b)) && hard.contains(&(b, a)));
    edges.iter().filter(|(from, to, soft)| *soft && in_circle(*from, *to)).map(|(from, to, _)| (*from, *to)).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Join { num: i64, keys: Vec<usize>, whole: bool, high: bool },
    Hold { key: usize, num: i64 },
    Dispatch,
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec(0..KEYS.len(), 1..4);
    prop_oneof![
        3 => (1..6i64, keys, any::<bool>(), any::<bool>()).prop_map(|(num, keys, whole, high)| Step::Join { num, keys, whole, high }),
        4 => (0..KEYS.len(), 0..6i64).prop_map(|(key, num)| Step::Hold { key, num }),
        2 => Just(Step::Dispatch),
    ]
}

/// A queue and its locks after these steps, with the time.
fn world(steps: &[Step]) -> (Queue, BTreeMap<String, Holder>, u64) {
    let (mut queue, mut now) = (Queue::default(), 0);
    let mut held = holders(&KEYS.map(|key| (key, 0)));
    for step in steps {
        now += 3;
        match step {
            Step::Join { num, keys, whole, high } => {
                let keys: Vec<&str> = keys.iter().map(|key| KEYS[*key]).collect();
                let priority = if *high { Priority::High } else { Priority::Normal };
                queue.join(&waiter(*num), &names(&keys), priority, *whole, false, now).expect("there is room");
            }
            Step::Hold { key, num } => {
                let holder = if *num == 0 { Holder::Free } else { Holder::Held(pull(*num)) };
                held.insert(KEYS[*key].to_owned(), holder);
            }
            Step::Dispatch => drop(queue.dispatch(&held, &RULES, now)),
        }
    }
    (queue, held, now)
}

fn check_circle(circle: &Circle, queue: &Queue, locks: &Locks) {
    for (at, link) in circle.links.iter().enumerate() {
        assert_eq!(link.holder, circle.links[(at + 1) % circle.links.len()].waiter, "{circle:?}");
        let ticket = queue.ticket(&link.waiter).expect("waits");
        for (key, token) in &link.keys {
            assert!(ticket.want(key).is_some() && locks[key] == (link.holder.clone(), *token), "{circle:?}");
        }
        assert!(!link.keys.is_empty() && circle.rank.contains(&link.holder), "{circle:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_pull_that_waits_for_itself_is_in_a_circle_and_no_other(steps in prop::collection::vec(step(), 0..40)) {
        let (queue, held, _) = world(&steps);
        let token = |num: &i64| FencingToken::new(*num as u64);
        let locks: Locks = held.iter().filter_map(|(key, holder)| match holder {
            Holder::Held(pull) => Some((key.clone(), (pull.clone(), token(&pull.num)))),
            _ => None,
        }).collect();
        let found = circles(&queue, &locks);
        found.iter().for_each(|circle| check_circle(circle, &queue, &locks));
        let in_circles: BTreeSet<i64> = found.iter().flat_map(|circle| circle.links.iter().map(|link| link.waiter.num)).collect();
        let ways = hard(&edges(&queue, &held));
        let naive: BTreeSet<i64> = ways.iter().filter(|(from, to)| from == to).map(|(from, _)| *from).collect();
        prop_assert_eq!(in_circles, naive);
    }

    #[test]
    fn no_reservation_is_left_in_a_circle(steps in prop::collection::vec(step(), 0..60)) {
        let (mut queue, held, now) = world(&steps);
        let places: Vec<_> = queue.tickets.iter().map(|ticket| (ticket.pull().clone(), ticket.seq, ticket.since)).collect();
        // Twice: who missed comes last in the first, and not in the second.
        for _ in 0..2 {
            queue.dispatch_without_circles(&held, &RULES, now);
            let left = soft_circles(&edges(&queue, &held));
            prop_assert!(left.is_empty(), "{:?} in {:#?}", left, queue);
        }
        for ticket in &queue.tickets {
            prop_assert!(places.contains(&(ticket.pull().clone(), ticket.seq, ticket.since)));
        }
        // The next look at the same locks finds nothing to do, and a plain dispatch brings no circle back.
        let before = queue.clone();
        let events = queue.dispatch_without_circles(&held, &RULES, now);
        prop_assert_eq!(&queue, &before, "{:?}", events);
        queue.dispatch(&held, &RULES, now);
        prop_assert_eq!(&queue, &before);
    }

    /// A key that nobody gets, although somebody wants it and could use it, is yielded by all who could.
    #[test]
    fn who_yields_yields_to_somebody(steps in prop::collection::vec(step(), 0..60)) {
        let (mut queue, held, now) = world(&steps);
        queue.dispatch_without_circles(&held, &RULES, now);
        for ticket in &queue.tickets {
            for key in &ticket.yields {
                prop_assert!(held[key] != Holder::Free || !ticket.has_reserved(key));
                let others = queue.wanted_by(key);
                prop_assert!(others.iter().any(|other| other.pull() != ticket.pull()), "{:?}", ticket);
            }
        }
    }
}

#[test]
fn a_holders_demand_comes_before_a_ticket_that_waits_for_it() {
    // Pull 1 holds a; pull 2 waits for a and b, and was first at b; then pull 1 wants b, too.
    let mut queue = queue(&[(2, &["a", "b"], false, 1), (1, &["b"], false, 2)]);
    let held = holders(&[("a", 1), ("b", 0)]);
    queue.dispatch(&held, &RULES, 3);
    assert_eq!(queue.gate("b"), to(2));
    assert!(queue.dispatch_without_circles(&held, &RULES, 3).contains(&withdrawn(2, "b")));
    assert_eq!(queue.gate("b"), to(1));
    // Both keep their places; once pull 1 is through, nothing is yielded any more.
    assert!(queue.ticket(&pull(2)).is_some_and(|ticket| ticket.yields.contains("b") && ticket.want("b").is_some()));
    queue.leave(&pull(1), None);
    queue.dispatch_without_circles(&holders(&[("a", 0), ("b", 0)]), &RULES, 4);
    assert_eq!((queue.gate("a"), queue.gate("b")), (to(2), to(2)));
    assert!(queue.ticket(&pull(2)).is_some_and(|ticket| ticket.yields.is_empty()));
}

#[test]
fn of_two_reservations_in_a_circle_the_one_that_keeps_a_holder_is_withdrawn() {
    // Pull 3 waits for pull 1, which holds a; pull 1 for what is kept for pull 2; pull 2 for what is kept for pull 3.
    let mut queue = queue(&[(3, &["a", "b"], false, 1), (2, &["b", "c"], false, 2), (1, &["c"], false, 3)]);
    let held = holders(&[("a", 1), ("b", 0), ("c", 0)]);
    queue.dispatch(&held, &RULES, 4);
    assert_eq!((queue.gate("b"), queue.gate("c")), (to(3), to(2)));
    queue.dispatch_without_circles(&held, &RULES, 4);
    assert_eq!((queue.gate("b"), queue.gate("c")), (to(3), to(1)));
}

#[test]
fn a_circle_names_its_grants_and_who_would_yield() {
    let mut queue = queue(&[(1, &["b"], false, 1), (2, &["c"], false, 2)]);
    queue.join(&waiter(3), &names(&["a"]), Priority::High, false, false, 3).expect("there is room");
    let locks = locks(&[("a", 1), ("b", 2), ("c", 3)]);
    let found = circles(&queue, &locks);
    let [circle] = &*found else { panic!("{found:?}") };
    let around: Vec<_> = circle.links.iter().map(|link| (link.waiter.num, link.holder.num)).collect();
    assert_eq!(around, [(1, 2), (2, 3), (3, 1)]);
    // Of the lowest class, the last; then the others.
    assert_eq!(circle.rank, [pull(2), pull(1), pull(3)]);
    assert_eq!(circle.victim(|_| true).map(|link| link.holder.num), Some(2));
    assert_eq!(circle.victim(|who| who.num != 2).map(|link| link.holder.num), Some(1));
    assert!(circle.victim(|_| false).is_none());
    assert!(circle.suggestion().contains("discard its lock \"b\""), "{}", circle.suggestion());
    // The same grants have the same id; another grant of one of the locks is another circle.
    let mut later = locks.clone();
    later.insert("a".to_owned(), (pull(1), FencingToken::new(9)));
    assert_eq!(circles(&queue, &locks)[0].id, circle.id);
    assert_ne!(circles(&queue, &later)[0].id, circle.id);
}

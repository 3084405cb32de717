//! Random arrivals of all classes, over a few keys that are held for random times: nobody is passed by a ticket that joined more than
//! `4 × aging` later by the clock of its server, and everybody comes through.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Arrival {
    after: u64,
    key: &'static str,
    priority: i64,
    /// How late the clock of its server is.
    late: u64,
    /// How long it holds.
    holds: u64,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let key = prop::sample::select(vec!["a", "b"]);
    (0..60_u64, key, prop_oneof![Just(0), Just(1), Just(2), Just(3)], prop_oneof![3 => Just(0), 1 => 0..500_u64], 1..90_u64)
        .prop_map(|(after, key, priority, late, holds)| Arrival { after, key, priority, late, holds })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nobody_is_passed_by_who_joined_much_later(arrivals in prop::collection::vec(arrival(), 1..80)) {
        let (mut queue, mut now) = (Queue::default(), 10_000);
        // Who holds a key, and until when; when each pull really joined; whom each saw pass.
        let mut held: BTreeMap<&str, (i64, u64)> = BTreeMap::new();
        let mut joined: BTreeMap<i64, u64> = BTreeMap::new();
        let mut coming = arrivals.iter().enumerate().peekable();
        let mut due = now + arrivals[0].after;
        let mut rounds = 0;
        while coming.peek().is_some() || !queue.is_empty() {
            rounds += 1;
            prop_assert!(rounds < 20_000, "somebody waits for ever: {:?}", queue);
            now += 5;
            while let Some((at, arrival)) = coming.next_if(|_| due <= now) {
                let (num, priority) = (at as i64 + 1, Priority::try_from(arrival.priority).expect("is one"));
                joined.insert(num, now);
                queue.join(&waiter(num), &names(&[arrival.key]), priority, false, false, now - arrival.late).expect("there is room");
                due = now + coming.peek().map_or(0, |(_, next)| next.after);
            }
            held.retain(|_, (_, until)| *until > now);
            let look: Vec<_> = ["a", "b"].map(|key| (key, held.get(key).map_or(0, |(num, _)| *num))).to_vec();
            for event in queue.dispatch(&holders(&look), &RULES, now) {
                let Event::Reserved { pull, key } = event else { continue };
                let bound = joined[&pull.num] - arrivals[pull.num as usize - 1].late - 4 * RULES.aging;
                let passed = queue.wanted_by(&key).into_iter().find(|ticket| joined[&ticket.pull().num] < bound);
                prop_assert!(passed.is_none(), "{} passes {:?} at {}", pull.num, passed, now);
                let key = arrivals[pull.num as usize - 1].key;
                held.insert(key, (pull.num, now + arrivals[pull.num as usize - 1].holds));
                queue.took(&pull, key);
            }
        }
    }
}

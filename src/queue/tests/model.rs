//! Beside a naive list: for each key the pulls that wait for it, and nothing shared between keys but how often a pull missed. It knows
//! tickets that wait for each key; sets are in `explore`, which states what must hold of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Join(i64, Vec<&'static str>, i64),
    Take(i64, &'static str),
    Free(&'static str),
    Leave(i64, Option<&'static str>),
    Extend(i64, u64),
    Dispatch(Vec<&'static str>),
    Time(u64),
}

#[derive(Clone, Debug)]
struct Pull {
    num: i64,
    /// When it joined less its head start, and which join that was.
    place: (i64, usize),
    joined: u64,
    priority: i64,
    missed: u32,
    /// Each key, and until when that is reserved.
    keys: Vec<(&'static str, Option<u64>)>,
}

#[derive(Debug, Default)]
struct Naive {
    pulls: Vec<Pull>,
    joins: usize,
}

impl Naive {
    fn join(&mut self, num: i64, keys: &[&'static str], priority: i64, now: u64) {
        let joined = self.pulls.iter().map(|pull| pull.joined).chain([now]).max().expect("now");
        self.joins += 1;
        if !self.pulls.iter().any(|pull| pull.num == num) {
            self.pulls.push(Pull { num, place: (0, self.joins), joined, priority, missed: 0, keys: vec![] });
        }
        let pull = self.pulls.iter_mut().find(|pull| pull.num == num).expect("is there");
        pull.priority = pull.priority.max(priority);
        pull.place.0 = pull.joined as i64 - [-100, 0, 100, 300][pull.priority as usize];
        for key in keys {
            if !pull.keys.iter().any(|(wanted, _)| wanted == key) {
                pull.keys.push((key, None));
            }
        }
    }

    fn drop_keys(&mut self, num: i64, which: impl Fn(&str) -> bool) {
        self.pulls.iter_mut().filter(|pull| pull.num == num).for_each(|pull| pull.keys.retain(|(key, _)| !which(key)));
        self.pulls.retain(|pull| !pull.keys.is_empty());
    }

    fn dispatch(&mut self, looked_at: &[&'static str], held: &BTreeMap<&'static str, i64>, now: u64) {
        let mut late = BTreeSet::new();
        for pull in &mut self.pulls {
            for (key, until) in pull.keys.iter_mut().filter(|(key, _)| looked_at.contains(key)) {
                let is_over = until.is_some_and(|until| until <= now);
                if is_over && !held.contains_key(key) {
                    late.insert(pull.num);
                }
                if is_over || held.contains_key(key) {
                    *until = None;
                }
            }
            pull.missed += u32::from(late.contains(&pull.num));
        }
        for (key, holder) in held.iter().filter(|(key, _)| looked_at.contains(key)) {
            self.drop_keys(*holder, |wanted| wanted == *key);
        }
        self.pulls.retain(|pull| pull.missed < 3);
        for key in looked_at.iter().filter(|key| !held.contains_key(*key)) {
            let line = || self.pulls.iter().filter(|pull| pull.keys.iter().any(|(wanted, _)| wanted == key));
            if line().any(|pull| pull.keys.iter().any(|(wanted, until)| wanted == key && until.is_some())) {
                continue;
            }
            let Some(first) = line().min_by_key(|pull| (late.contains(&pull.num), pull.place)).map(|pull| pull.num) else {
                continue;
            };
            let pull = self.pulls.iter_mut().find(|pull| pull.num == first).expect("is there");
            pull.keys.iter_mut().filter(|(wanted, _)| wanted == key).for_each(|(_, until)| *until = Some(now + 10));
        }
    }

    fn gate(&self, key: &str) -> Gate {
        let wants = |pull: &&Pull| pull.keys.iter().any(|(wanted, _)| *wanted == key);
        let reserved = |pull: &&Pull| pull.keys.iter().any(|(wanted, until)| *wanted == key && until.is_some());
        match (self.pulls.iter().find(reserved), self.pulls.iter().any(|pull| wants(&pull))) {
            (Some(pull), _) => to(pull.num),
            (None, true) => Gate::Closed,
            (None, false) => Gate::Open,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let keys = || prop::sample::subsequence(vec!["a", "b", "c"], 1..4);
    let key = || prop::sample::select(vec!["a", "b", "c"]);
    let num = 1..6_i64;
    prop_oneof![
        4 => (num.clone(), keys(), 0..4_i64).prop_map(|(num, keys, priority)| Step::Join(num, keys, priority)),
        4 => (num.clone(), key()).prop_map(|(num, key)| Step::Take(num, key)),
        2 => key().prop_map(Step::Free),
        1 => (num.clone(), prop::option::of(key())).prop_map(|(num, key)| Step::Leave(num, key)),
        1 => (num, 1..30_u64).prop_map(|(num, more)| Step::Extend(num, more)),
        6 => keys().prop_map(Step::Dispatch),
        3 => (1..40_u64).prop_map(Step::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn is_what_a_naive_list_says(steps in prop::collection::vec(step(), 0..60)) {
        let (mut queue, mut naive, mut held, mut now) = (Queue::default(), Naive::default(), BTreeMap::new(), 1_000);
        for step in steps {
            match step {
                Step::Join(num, keys, priority) => {
                    naive.join(num, &keys, priority, now);
                    let priority = Priority::try_from(priority).expect("is one");
                    queue.join(&waiter(num), &names(&keys), priority, false, false, now).expect("there is room");
                }
                // Every third taker is a stock server.
                Step::Take(num, key) => {
                    if !held.contains_key(key) && (num == 5 || queue.admits(key, Some(&pull(num)))) {
                        held.insert(key, num);
                        if num != 5 {
                            queue.took(&pull(num), key);
                            naive.drop_keys(num, |wanted| wanted == key);
                        }
                    }
                }
                Step::Free(key) => drop(held.remove(key)),
                Step::Leave(num, key) => {
                    let before = queue.ticket(&pull(num)).map_or(0, |ticket| ticket.wants.len());
                    let left = queue.leave(&pull(num), key);
                    naive.drop_keys(num, |wanted| key.is_none_or(|key| key == wanted));
                    prop_assert_eq!(before - left, queue.ticket(&pull(num)).map_or(0, |ticket| ticket.wants.len()));
                }
                Step::Extend(num, more) => {
                    queue.extend(&pull(num), now + more);
                    let own = naive.pulls.iter_mut().filter(|pull| pull.num == num);
                    own.flat_map(|pull| &mut pull.keys).for_each(|(_, until)| *until = until.map(|until| until.max(now + more)));
                }
                Step::Dispatch(keys) => {
                    let look = keys.iter().map(|key| (*key, held.get(key).copied().unwrap_or_default())).collect::<Vec<_>>();
                    queue.dispatch(&holders(&look), &RULES, now);
                    naive.dispatch(&keys, &held, now);
                }
                Step::Time(more) => now += more,
            }
            for key in ["a", "b", "c"] {
                prop_assert_eq!(queue.gate(key), naive.gate(key), "{}", key);
                prop_assert_eq!(queue.gates().get(key).cloned().unwrap_or(Gate::Open), naive.gate(key));
                let reserved = |pull: &Pull| pull.keys.iter().any(|(wanted, until)| *wanted == key && until.is_some());
                let mut line: Vec<&Pull> = naive.pulls.iter().filter(|pull| pull.keys.iter().any(|(k, _)| *k == key)).collect();
                line.sort_by_key(|pull| (!reserved(pull), pull.place));
                for (at, waiting) in line.iter().enumerate() {
                    let place = queue.position(&pull(waiting.num), key, &RULES);
                    prop_assert_eq!(place, Some(at + 1), "{} of {}", waiting.num, key);
                    let ahead: Vec<i64> =
                        queue.ahead(&pull(waiting.num), key, &RULES).iter().map(|ticket| ticket.pull().num).collect();
                    prop_assert_eq!(ahead, line[..at].iter().map(|pull| pull.num).collect::<Vec<_>>());
                }
            }
            let missed: BTreeMap<i64, u32> = queue.tickets.iter().map(|ticket| (ticket.pull().num, ticket.missed)).collect();
            prop_assert_eq!(missed, naive.pulls.iter().map(|pull| (pull.num, pull.missed)).collect::<BTreeMap<_, _>>());
        }
    }
}

//! All courses of a small world, up to a depth: three pulls, two keys, a stock server that knows no gate, a clock.
//!
//! Pulls 1 and 2 ask for single keys and for both as a set, pull 3 is of a higher class and asks for single keys. A set is granted at
//! once, or key by key with a crash anywhere. Dispatches look at all keys, or only at those that one freed key concerns, or at that key
//! alone, by a careless caller: then only waits are longer.
//!
//! What this cannot express: callers with an old look at the locks or at the document (the swap refuses the second, the service's
//! tests have the first); clocks that differ, and sets that share only some of their keys (`directed.rs`).
//!
//! `ATLOCK_QUEUE_DEPTH=6 cargo test --release --lib queue::tests::explore` goes deeper.

mod promises;

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use self::promises::{check_dispatch, check_drain, check_step};
use super::*;
use crate::queue::order::compare;

const RULES: Rules = Rules { aging: 2, reservation: 2, caller_reservation: 2, collect_after: 2 };
const KEYS: [&str; 2] = ["a", "b"];
const PULLS: [i64; 3] = [1, 2, 3];
const STOCK: i64 = 9;

#[derive(Clone, Copy, Debug)]
enum Step {
    TryLock(i64, usize),
    TrySet(i64),
    Release(usize),
    Leave(i64),
    LeaveKey(i64, usize),
    RunGoesOn(i64),
    BeginSet(i64),
    GrantOfSet(i64, usize),
    EndSet(i64),
    UndoSets,
    StockTakes(usize),
    Dispatch,
    DispatchFreed(usize),
    DispatchCareless(usize),
    Time,
}

fn steps() -> Vec<Step> {
    let mut steps = vec![Step::Dispatch, Step::Time, Step::UndoSets];
    for key in 0..KEYS.len() {
        steps.extend([Step::Release(key), Step::StockTakes(key), Step::DispatchFreed(key), Step::DispatchCareless(key)]);
        for pull in PULLS {
            steps.extend([Step::TryLock(pull, key), Step::LeaveKey(pull, key)]);
        }
    }
    for pull in PULLS {
        steps.extend([Step::Leave(pull), Step::RunGoesOn(pull)]);
    }
    for pull in [1, 2] {
        let grants = (0..KEYS.len()).map(|key| Step::GrantOfSet(pull, key));
        steps.extend([Step::TrySet(pull), Step::BeginSet(pull), Step::EndSet(pull)].into_iter().chain(grants));
    }
    steps
}

/// A lock: its pull, and whether a set that is on its way was granted it.
type Held = Option<(i64, bool)>;

#[derive(Clone)]
struct World {
    queue: Queue,
    held: [Held; 2],
    now: u64,
    trail: Option<Rc<Trail>>,
}

struct Trail {
    step: Step,
    before: Option<Rc<Trail>>,
}

impl World {
    fn new() -> World {
        World { queue: Queue::default(), held: [None; 2], now: 100, trail: None }
    }

    fn path(&self) -> String {
        let mut steps = Vec::new();
        let mut at = &self.trail;
        while let Some(trail) = at {
            steps.push(format!("{:?}", trail.step));
            at = &trail.before;
        }
        steps.reverse();
        format!("{}\n{:#?}\nheld: {:?}, now: {}", steps.join(", "), self.queue, self.held, self.now)
    }

    fn is(&self, key: usize, pull: i64) -> bool {
        self.held[key].is_some_and(|(holder, _)| holder == pull)
    }

    fn may_take(&self, key: usize, pull: i64) -> bool {
        self.held[key].is_none() && self.queue.admits(KEYS[key], Some(&id(pull)))
    }

    fn holders(&self, keys: &BTreeSet<String>) -> BTreeMap<String, Holder> {
        let holder = |key: usize| match self.held[key] {
            None => Holder::Free,
            Some((pull, _)) => Holder::Held(id(pull)),
        };
        let look = (0..KEYS.len()).filter(|key| keys.contains(KEYS[*key]));
        look.map(|key| (KEYS[key].to_owned(), holder(key))).collect()
    }

    /// The keys that a dispatch looks at.
    fn looked_at(&self, step: Step) -> Option<BTreeSet<String>> {
        match step {
            Step::Dispatch => Some(self.queue.keys_to_look_at(&[])),
            Step::DispatchFreed(key) => Some(self.queue.keys_to_look_at(&names(&[KEYS[key]]))),
            Step::DispatchCareless(key) => Some(BTreeSet::from([KEYS[key].to_owned()])),
            _ => None,
        }
    }

    fn join(&mut self, pull: i64, keys: &[&str], whole: bool) {
        let priority = if pull == 3 { Priority::High } else { Priority::Normal };
        let waiter = Waiter {
            pull: id(pull),
            user: String::new(),
            url: String::new(),
            host_type: 0,
            author: String::new(),
            recipe: String::new(),
        };
        self.queue.join(&waiter, &names(keys), priority, whole, false, self.now).expect("there is room");
    }

    /// Takes back what the set on its way was granted, or counts it as had.
    fn end_set(&mut self, pull: i64, keys: BTreeSet<String>) {
        let is_had = (0..KEYS.len()).filter(|key| keys.contains(KEYS[*key])).all(|key| self.is(key, pull));
        for (key, name) in KEYS.iter().enumerate() {
            if is_had && self.is(key, pull) {
                self.held[key] = Some((pull, false));
                self.queue.took(&id(pull), name);
            } else if self.held[key] == Some((pull, true)) {
                self.held[key] = None;
            }
        }
        self.queue.end_acquiring(&id(pull));
        self.queue.taken_back(&id(pull));
        // Only a merge looks at that.
        self.queue.tickets.iter_mut().for_each(|ticket| ticket.set_ended = 0);
    }

    /// `None`: nothing can happen.
    fn apply(&self, step: Step) -> Option<(World, Vec<Event>)> {
        let mut next = self.clone();
        let mut events = Vec::new();
        let acquiring = |pull: i64| self.queue.ticket(&id(pull)).and_then(|ticket| ticket.acquiring.clone());
        let could = match step {
            Step::TryLock(pull, key) => {
                if self.may_take(key, pull) {
                    next.held[key] = Some((pull, false));
                    next.queue.took(&id(pull), KEYS[key]);
                } else if !self.is(key, pull) {
                    next.join(pull, &[KEYS[key]], false);
                }
                !self.is(key, pull)
            }
            Step::TrySet(pull) => {
                if (0..KEYS.len()).all(|key| self.is(key, pull) || self.may_take(key, pull)) {
                    for (key, name) in KEYS.iter().enumerate() {
                        next.held[key] = Some((pull, false));
                        next.queue.took(&id(pull), name);
                    }
                } else {
                    next.join(pull, &KEYS, true);
                }
                true
            }
            Step::Release(key) => next.held[key].take().is_some(),
            Step::StockTakes(key) => next.held[key].replace((STOCK, false)).is_none(),
            Step::Leave(pull) => next.queue.leave(&id(pull), None) > 0,
            Step::LeaveKey(pull, key) => next.queue.leave(&id(pull), Some(KEYS[key])) > 0,
            Step::RunGoesOn(pull) => next.queue.extend(&id(pull), self.now + 3),
            Step::BeginSet(pull) => {
                let digests = KEYS.iter().map(|key| (key.to_string(), Digest([pull as u8; 32]))).collect();
                let waits = self.queue.ticket(&id(pull)).is_some_and(|ticket| ticket.whole && ticket.wants.len() == 2);
                waits && next.queue.begin_acquiring(&id(pull), digests, self.now + 2)
            }
            Step::GrantOfSet(pull, key) => {
                next.held[key] = Some((pull, true));
                acquiring(pull).is_some_and(|set| set.until > self.now) && self.may_take(key, pull)
            }
            Step::EndSet(pull) => match acquiring(pull) {
                Some(set) if set.until > self.now => {
                    next.end_set(pull, set.keys.into_keys().collect());
                    true
                }
                _ => false,
            },
            Step::UndoSets => {
                next.queue.give_up(self.now);
                let abandoned = next.queue.given_up();
                for (pull, set) in &abandoned {
                    next.end_set(pull.num, set.keys.keys().cloned().collect());
                }
                !abandoned.is_empty()
            }
            Step::Dispatch | Step::DispatchFreed(_) | Step::DispatchCareless(_) => {
                let look = self.holders(&self.looked_at(step).expect("a dispatch"));
                events = next.queue.dispatch(&look, &RULES, self.now);
                next.queue != self.queue
            }
            Step::Time => {
                next.now += 1;
                true
            }
        };
        next.trail = Some(Rc::new(Trail { step, before: self.trail.clone() }));
        could.then_some((next, events))
    }

    /// The same for worlds that go on in the same way.
    fn essence(&self) -> Vec<i8> {
        let ahead = |time: u64| if time <= self.now { 0 } else { (time - self.now).min(100) as i8 };
        let mut essence: Vec<i8> =
            self.held.iter().flat_map(|held| held.map_or([0, 0], |(p, s)| [p as i8, i8::from(s)])).collect();
        let mut tickets: Vec<&Ticket> = self.queue.tickets.iter().collect();
        tickets.sort_by_key(|ticket| ticket.seq);
        for ticket in tickets {
            essence.extend([
                -1,
                ticket.pull().num as i8,
                (self.now - ticket.since) as i8,
                ticket.missed as i8,
                ticket.whole.into(),
            ]);
            let wants = ticket.wants.iter().flat_map(|(key, want)| match want {
                Want::Waiting => [key.as_bytes()[0] as i8, -1],
                Want::Reserved { until, .. } => [key.as_bytes()[0] as i8, ahead(*until)],
            });
            essence.extend(wants);
            essence.extend(ticket.acquiring.as_ref().map(|set| ahead(set.until)));
        }
        essence
    }
}

fn id(num: i64) -> PullId {
    PullId { host: String::new(), num }
}

/// From where courses begin, beside the empty world: places that lie deeper than all courses of one begin can go.
fn beginnings() -> Vec<World> {
    use Step::*;
    let courses: [&[Step]; 6] = [
        &[],
        // Two sets and a single one wait.
        &[StockTakes(0), TrySet(1), TrySet(2), TryLock(3, 0), Time],
        // A set collects, and another, older by its class, waits behind it.
        &[StockTakes(0), TrySet(1), Time, TryLock(3, 1), TrySet(2), Time, Dispatch],
        // A set is half granted.
        &[StockTakes(0), TrySet(1), TrySet(2), Release(0), Dispatch, BeginSet(1), GrantOfSet(1, 0)],
        // Two that wait for each have missed twice.
        &[
            StockTakes(0),
            StockTakes(1),
            TryLock(1, 0),
            TryLock(1, 1),
            TryLock(2, 0),
            Release(0),
            Dispatch,
            Time,
            Time,
            Dispatch,
            Time,
            Time,
            Dispatch,
            Time,
            Time,
            Dispatch,
        ],
        // Who holds one key of its set waits for the other.
        &[TryLock(1, 0), StockTakes(1), TrySet(1), TryLock(2, 0), TryLock(3, 1), Time, Time],
    ];
    let follow = |course: &&[Step]| {
        let step = |world: World, step: &Step| world.apply(*step).expect("the step can be taken").0;
        course.iter().fold(World::new(), step)
    };
    courses.iter().map(follow).collect()
}

#[test]
#[allow(clippy::print_stderr)]
fn all_courses_of_a_small_world_keep_the_promises() {
    let depth: usize =
        std::env::var("ATLOCK_QUEUE_DEPTH").map_or(4, |depth| depth.parse().expect("ATLOCK_QUEUE_DEPTH is a number"));
    let steps = steps();
    let mut seen = HashSet::new();
    let mut frontier = beginnings();
    let mut transitions = 0_u64;
    for level in 1..=depth {
        let mut next = Vec::new();
        for world in &frontier {
            for step in &steps {
                let Some((after, events)) = world.apply(*step) else { continue };
                transitions += 1;
                check_step(world, *step, &after, &events);
                check_dispatch(world, *step, &after, &events);
                if seen.insert(after.essence()) {
                    check_drain(&after);
                    next.push(after);
                }
            }
        }
        eprintln!("depth {level}: {} states, {transitions} transitions", seen.len());
        frontier = next;
    }
    assert!(seen.len() > 1_000, "only {} states", seen.len());
}

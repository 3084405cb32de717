//! The breaker does what a naive one does that keeps every event, whatever the settings, the order of events and the steps of
//! time; and what its module doc promises holds for both.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use atlock::config;
use atlock::hybrid::breaker::{Breaker, Outcome, State};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Record(Outcome),
    Trip,
    MayProbe(f64),
    Probed(bool),
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    let took = prop_oneof![3 => Just(1_u64), 1 => 240_u64..260].prop_map(Duration::from_millis);
    let outcome = prop_oneof![6 => took.prop_map(Outcome::Success), 6 => Just(Outcome::Failure), 1 => Just(Outcome::Hung)];
    let jitter = prop_oneof![8 => 0.0..1.0, 1 => Just(f64::NAN)];
    prop_oneof![
        20 => outcome.prop_map(Event::Record),
        1 => Just(Event::Trip),
        5 => jitter.prop_map(Event::MayProbe),
        5 => prop::bool::weighted(0.8).prop_map(Event::Probed),
        3 => Just(Event::Close),
    ]
}

/// Steps of time in milliseconds, often none, now and then longer than any window.
fn step() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0_u64), 4 => 1_u64..40, 4 => 40_u64..400, 1 => 400_u64..5_000]
}

fn settings() -> impl Strategy<Value = config::Breaker> {
    (1_u32..8, 1_u32..=10, 1_u32..12, 1_u64..2_000, 1_u64..500, 0_u64..3_000, 1_u32..4).prop_map(
        |(consecutive_failures, tenths, minimum_calls, window, open, more, half_open_probes)| config::Breaker {
            consecutive_failures,
            failure_rate: f64::from(tenths) / 10.0,
            minimum_calls,
            window: Duration::from_millis(window),
            slow_call: Duration::from_millis(250),
            open: Duration::from_millis(open),
            max_open: Duration::from_millis(open + more),
            half_open_probes,
        },
    )
}

/// Every event since the start with its time, and the state after it; all else is computed from these.
struct Naive {
    settings: config::Breaker,
    past: Vec<(Event, Instant, State)>,
}

impl Naive {
    fn state(&self) -> State {
        self.past.last().map_or(State::Closed, |(.., state)| *state)
    }

    /// Which event led to the present state; none while it was never in another.
    fn entered(&self) -> Option<usize> {
        let before = |event: usize| if event == 0 { State::Closed } else { self.past[event - 1].2 };
        (0..self.past.len()).rev().find(|event| self.past[*event].2 != before(*event))
    }

    /// The events since then.
    fn present(&self) -> &[(Event, Instant, State)] {
        &self.past[self.entered().map_or(0, |event| event + 1)..]
    }

    fn since(&self) -> Option<Instant> {
        self.entered().map(|event| self.past[event].1)
    }

    fn failed(&self, outcome: Outcome) -> bool {
        !matches!(outcome, Outcome::Success(took) if took <= self.settings.slow_call)
    }

    /// The calls counted since it closed.
    fn calls(&self) -> Vec<(bool, Instant)> {
        let call = |(event, at, _): &(Event, Instant, State)| match event {
            Event::Record(outcome) => Some((self.failed(*outcome), *at)),
            _ => None,
        };
        self.present().iter().filter_map(call).collect()
    }

    /// Whether these calls open it, of which the last has just ended.
    fn opens(&self, calls: &[(bool, Instant)]) -> bool {
        let in_row = calls.iter().rev().take_while(|(failed, _)| *failed).count();
        let (first, now) = (calls[0].1, calls[calls.len() - 1].1);
        let bucket = |at: Instant| (at - first).as_nanos() / (self.settings.window / 10).as_nanos();
        let within: Vec<_> = calls.iter().filter(|(_, at)| bucket(*at) + 10 > bucket(now)).collect();
        for (_, at) in calls {
            let counted = bucket(*at) + 10 > bucket(now);
            assert!(!counted || now - *at < self.settings.window, "older than the window, and counted");
            assert!(
                counted || now - *at > self.settings.window / 10 * 9,
                "newer than nine tenths of the window, and not counted"
            );
        }
        let failed = within.iter().filter(|(failed, _)| *failed).count();
        in_row >= self.settings.consecutive_failures as usize
            || within.len() >= self.settings.minimum_calls as usize
                && failed as f64 / within.len() as f64 >= self.settings.failure_rate
    }

    /// How long it is to be open now, without jitter: doubled for each opening since it was closed but the first.
    fn planned(&self) -> Duration {
        let closed = self.past.iter().rposition(|(.., state)| *state == State::Closed).map_or(0, |closed| closed + 1);
        let states: Vec<State> = self.past[closed..].iter().map(|(.., state)| *state).collect();
        let again = states.windows(2).filter(|pair| *pair == [State::HalfOpen, State::Open]).count();
        (0..again).fold(self.settings.open, |open, _| open * 2).min(self.settings.max_open)
    }

    /// The jitter of the first question since it opened, or of this one.
    fn jitter(&self, asked: f64) -> f64 {
        let drawn = self.present().iter().find_map(|(event, ..)| match event {
            Event::MayProbe(jitter) => Some(*jitter),
            _ => None,
        });
        let jitter = drawn.unwrap_or(asked);
        if jitter.is_nan() { 0.5 } else { jitter }
    }

    /// Whether it is ready to close.
    fn ready(&self) -> bool {
        let probes = self.present().iter().filter(|(event, ..)| matches!(event, Event::Probed(true))).count();
        self.state() == State::HalfOpen && probes >= self.settings.half_open_probes as usize
    }

    /// The state after an event.
    fn after(&self, event: Event, now: Instant) -> State {
        match (self.state(), event) {
            (State::Closed, Event::Trip | Event::Record(Outcome::Hung)) => State::Open,
            (State::Closed, Event::Record(outcome)) => {
                let mut calls = self.calls();
                calls.push((self.failed(outcome), now));
                if self.opens(&calls) { State::Open } else { State::Closed }
            }
            (State::Open, Event::MayProbe(jitter)) => {
                let lasts = self.planned().as_secs_f64() * (0.8 + 0.4 * self.jitter(jitter));
                // Steps are whole milliseconds: rounding to nanoseconds decides nothing but a tie.
                let over = (now - self.since().unwrap()).as_secs_f64() + 2e-9 >= lasts;
                if over { State::HalfOpen } else { State::Open }
            }
            (State::HalfOpen, Event::Trip | Event::Probed(false)) => State::Open,
            (State::HalfOpen, Event::Close) if self.ready() => State::Closed,
            (state, _) => state,
        }
    }
}

/// What the breaker answers: a change of state, or whether it may be probed.
fn tell(breaker: &mut Breaker, event: Event, now: Instant) -> Option<State> {
    match event {
        Event::Record(outcome) => breaker.record(outcome, now),
        Event::Trip => breaker.trip(now),
        Event::Probed(ok) => breaker.probed(ok, now),
        Event::Close => breaker.close(now),
        Event::MayProbe(jitter) => {
            let before = breaker.state();
            assert_eq!(breaker.may_probe(now, jitter), breaker.state() == State::HalfOpen);
            Some(breaker.state()).filter(|state| *state != before)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn answers_as_one_that_keeps_every_event(settings in settings(), events in prop::collection::vec((event(), step()), 1..150)) {
        let mut breaker = Breaker::new(&settings);
        let mut naive = Naive { settings: settings.clone(), past: Vec::new() };
        let mut now = Instant::now();
        for (event, step) in events {
            now += Duration::from_millis(step);
            let (before, opened) = (breaker.state(), breaker.since());
            let changed = tell(&mut breaker, event, now);
            let wanted = naive.after(event, now);
            naive.past.push((event, now, wanted));
            prop_assert_eq!(breaker.state(), wanted, "{:?}", event);
            prop_assert_eq!(changed, Some(wanted).filter(|state| *state != before), "{:?}", event);
            prop_assert_eq!((breaker.since(), breaker.ready()), (naive.since(), naive.ready()), "{:?}", event);

            let slack = Duration::from_nanos(2);
            match (before, changed) {
                (State::Closed, Some(to)) => prop_assert_eq!(to, State::Open),
                (State::Open, Some(to)) => {
                    prop_assert_eq!(to, State::HalfOpen);
                    prop_assert!(now - opened.unwrap() + slack >= settings.open.mul_f64(0.8), "left Open too early");
                }
                _ => {}
            }
            let reopens = breaker.reopens_at();
            prop_assert_eq!(reopens.is_some(), wanted == State::Open);
            if let Some(reopens) = reopens {
                prop_assert!(reopens - breaker.since().unwrap() <= settings.max_open.mul_f64(1.2) + slack, "open for too long");
            }
        }
    }

    /// No sequence of failures that a success interrupts in time opens it, if the rate does not.
    #[test]
    fn a_success_resets_the_row(rows in prop::collection::vec(0_u32..3, 1..60)) {
        let settings = config::Breaker { minimum_calls: u32::MAX, ..config::Breaker::default() };
        let (mut breaker, now) = (Breaker::new(&settings), Instant::now());
        for failures in rows {
            for _ in 0..failures {
                prop_assert_eq!(breaker.record(Outcome::Failure, now), None);
            }
            prop_assert_eq!(breaker.record(Outcome::Success(Duration::ZERO), now), None);
        }
    }
}

//! When Redis counts as failed, and when it is trusted again: a circuit breaker (Nygard, *Release It!*, "Circuit Breaker") as a
//! pure state machine. Its owner brings the time and the randomness, and makes the calls, the probes and the recovery.
//!
//! ```text
//! Closed ── too many failures, Hung, trip ──▶ Open ── its time is over ──▶ HalfOpen ── enough probes, recovery, close ──▶ Closed
//!                                               ◀── a probe failed, trip ──
//! ```
//!
//! - **Callers meet a healthy Redis or none.** While it is not closed, callers leave Redis alone: nobody waits for a deadline
//!   that others have waited for already, and a Redis that comes up is not met by everybody at once.
//! - **It closes only from half-open, when ready, by [`close`](Breaker::close).** What the local store decided must reach Redis
//!   before Redis decides again, so between the last probe and `close` its owner carries that over; a failure meanwhile opens it.
//! - **It stays open for its whole time**, less the jitter: a Redis that is struggling is not probed sooner however many late
//!   results or failed health probes come in. **Its time is never over `max_open`**, plus the jitter: a Redis that is back is found.
//! - **Outcomes count only while it is closed.** What ends later began before it opened, and says nothing about Redis now.
//! - **Its memory is fixed.** The window is a ring of ten partial counts, as is resilience4j's time-based sliding window
//!   (its manual, "CircuitBreaker"), from which come the rate and its minimum of calls, too. It forgets by whole buckets, so it
//!   spans between nine tenths of `window` and all of it.

use std::time::{Duration, Instant};

use crate::config;

/// Into how many parts the window is divided.
const BUCKETS: usize = 10;

/// What callers may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Call Redis.
    Closed,
    /// Leave Redis alone.
    Open,
    /// Leave Redis alone: it is being probed, or recovered.
    HalfOpen,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half-open",
        })
    }
}

/// How a call on Redis ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered after this time, which may be too long.
    Success(Duration),
    /// It failed before its deadline.
    Failure,
    /// It waited its whole deadline. One is enough to open: everybody else would wait as long.
    Hung,
}

/// The breaker of one Redis.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: config::Breaker,
    phase: Phase,
    since: Option<Instant>,
    /// By [`State`].
    transitions: [u64; 3],
}

/// A [`State`] with what matters in it alone, so that entering a state forgets what an earlier one counted.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed {
        failures_in_row: u32,
        window: Window,
    },
    Open {
        opened: Instant,
        /// How long it is to be open, without jitter.
        planned: Duration,
        /// The same with jitter, once that is drawn.
        drawn: Option<Duration>,
    },
    HalfOpen {
        /// How long it was to be open.
        planned: Duration,
        successes_in_row: u32,
    },
}

impl Phase {
    fn closed(settings: &config::Breaker) -> Phase {
        Phase::Closed { failures_in_row: 0, window: Window::new(settings.window) }
    }
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: &config::Breaker) -> Breaker {
        Breaker { settings: settings.clone(), phase: Phase::closed(settings), since: None, transitions: [0; 3] }
    }

    /// What callers may do now.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Counts how a caller's call ended; it counts while closed only. Returns the new state if it changed.
    ///
    /// A call that began before it opened and ends after it closed again is for the caller to leave out: [`Breaker::since`] tells.
    pub fn record(&mut self, outcome: Outcome, now: Instant) -> Option<State> {
        let Phase::Closed { failures_in_row, window } = &mut self.phase else { return None };
        let failed = match outcome {
            Outcome::Success(took) => took > self.settings.slow_call,
            Outcome::Failure | Outcome::Hung => true,
        };
        *failures_in_row = if failed { failures_in_row.saturating_add(1) } else { 0 };
        window.record(failed, now);
        let opens = outcome == Outcome::Hung
            || *failures_in_row >= self.settings.consecutive_failures
            || window.failed_part(self.settings.minimum_calls).is_some_and(|part| part >= self.settings.failure_rate);
        if opens { self.trip(now) } else { None }
    }

    /// Opens, whatever was counted: the health probe failed, Redis was away at the start, or the recovery failed. When it is
    /// open already, its time goes on as it was. Returns the new state if it changed.
    pub fn trip(&mut self, now: Instant) -> Option<State> {
        let planned = match self.phase {
            Phase::Closed { .. } => self.settings.open,
            Phase::Open { .. } => return None,
            Phase::HalfOpen { planned, .. } => planned.saturating_mul(2),
        };
        let planned = planned.min(self.settings.max_open);
        self.enter(Phase::Open { opened: now, planned, drawn: None }, now)
    }

    /// Whether Redis may be probed; an open breaker whose time is over becomes half-open by this.
    ///
    /// `jitter`, from 0 to 1, makes the open time 80 % to 120 % of what is planned, so that several servers do not probe a
    /// Redis at the same moments. Each opening takes the jitter of the first call that finds it open and ignores those of later
    /// calls: else the smallest of many would win.
    pub fn may_probe(&mut self, now: Instant, jitter: f64) -> bool {
        match &mut self.phase {
            Phase::Closed { .. } => false,
            Phase::HalfOpen { .. } => true,
            Phase::Open { opened, planned, drawn } => {
                let lasts = *drawn.get_or_insert_with(|| jittered(*planned, jitter));
                let over = now.saturating_duration_since(*opened) >= lasts;
                if over {
                    let planned = *planned;
                    self.enter(Phase::HalfOpen { planned, successes_in_row: 0 }, now);
                }
                over
            }
        }
    }

    /// Counts a probe's result; it counts while half-open only. Enough successes in a row make it [`ready`](Breaker::ready); a
    /// failure opens it for twice the time. Returns the new state if it changed.
    pub fn probed(&mut self, ok: bool, now: Instant) -> Option<State> {
        let Phase::HalfOpen { successes_in_row, .. } = &mut self.phase else { return None };
        if !ok {
            return self.trip(now);
        }
        *successes_in_row = successes_in_row.saturating_add(1);
        None
    }

    /// Whether enough probes succeeded: the recovery may run, and then [`close`](Breaker::close).
    pub fn ready(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen { successes_in_row, .. } if successes_in_row >= self.settings.half_open_probes)
    }

    /// Closes, if ready, with nothing counted; the next opening is of the first length again. Returns the new state if it changed.
    pub fn close(&mut self, now: Instant) -> Option<State> {
        if !self.ready() {
            return None;
        }
        self.enter(Phase::closed(&self.settings), now)
    }

    /// When an open breaker may be probed: without jitter until that is drawn, and none in other states.
    pub fn reopens_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { opened, planned, drawn } => opened.checked_add(drawn.unwrap_or(planned)),
            Phase::Closed { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// Since when it is in its state; none while it was never in another.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// How often it entered this state.
    pub fn transitions(&self, to: State) -> u64 {
        self.transitions[to as usize]
    }

    fn enter(&mut self, phase: Phase, now: Instant) -> Option<State> {
        self.phase = phase;
        self.since = Some(now);
        self.transitions[self.state() as usize] += 1;
        Some(self.state())
    }
}

/// 80 % of the time for a jitter of 0, 120 % for 1; all of it for what is no jitter.
fn jittered(time: Duration, jitter: f64) -> Duration {
    let jitter = if (0.0..=1.0).contains(&jitter) { jitter } else { 0.5 };
    let fifth = time / 5;
    (time - fifth).saturating_add(fifth.mul_f64(2.0 * jitter))
}

/// How the calls of the last while ended. Bucket `n` counts those from `n` to `n + 1` widths after the first call; the ring
/// holds the newest bucket and those before it.
#[derive(Clone, Copy, Debug)]
struct Window {
    width: Duration,
    first: Option<Instant>,
    newest: u128,
    ring: [Counts; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    calls: u32,
    failed: u32,
}

impl Window {
    fn new(length: Duration) -> Window {
        let width = (length / BUCKETS as u32).max(Duration::from_nanos(1));
        Window { width, first: None, newest: 0, ring: [Counts::default(); BUCKETS] }
    }

    /// Counts a call that ended now, or in the newest bucket if others that ended later were counted before it.
    fn record(&mut self, failed: bool, now: Instant) {
        let first = *self.first.get_or_insert(now);
        let current = now.saturating_duration_since(first).as_nanos() / self.width.as_nanos();
        for passed in (self.newest + 1..=current).rev().take(BUCKETS) {
            *self.bucket(passed) = Counts::default();
        }
        self.newest = self.newest.max(current);
        let bucket = self.bucket(self.newest);
        bucket.calls = bucket.calls.saturating_add(1);
        bucket.failed = bucket.failed.saturating_add(u32::from(failed));
    }

    fn bucket(&mut self, number: u128) -> &mut Counts {
        &mut self.ring[(number % BUCKETS as u128) as usize]
    }

    /// Which part of the calls failed, if there are enough of them. A quotient, since 7 of 100 then is 0.07 exactly as written.
    fn failed_part(&self, minimum: u32) -> Option<f64> {
        let sum = |count: fn(&Counts) -> u32| self.ring.iter().map(|bucket| u64::from(count(bucket))).sum::<u64>();
        let (calls, failed) = (sum(|counts| counts.calls), sum(|counts| counts.failed));
        (calls >= u64::from(minimum.max(1))).then(|| failed as f64 / calls as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(&config::Breaker::default()), Instant::now())
    }

    /// A breaker that opened just now.
    fn opened() -> (Breaker, Instant) {
        let (mut breaker, now) = breaker();
        assert_eq!(breaker.trip(now), Some(State::Open));
        (breaker, now)
    }

    #[test]
    fn it_opens_on_failures_in_a_row() {
        let (mut breaker, now) = breaker();
        let slow = Outcome::Success(ms(251));
        assert_eq!(breaker.record(Outcome::Failure, now), None);
        assert_eq!(breaker.record(slow, now), None);
        assert_eq!(breaker.record(Outcome::Success(ms(250)), now), None, "as long as slow_call is not too long");
        assert_eq!(breaker.record(Outcome::Failure, now), None, "a success between starts the row anew");
        assert_eq!(breaker.record(slow, now), None);
        assert_eq!(breaker.record(Outcome::Failure, now), Some(State::Open));
        assert_eq!(breaker.since(), Some(now));
    }

    #[test]
    fn it_opens_on_one_call_that_hung() {
        let (mut breaker, now) = breaker();
        assert_eq!(breaker.record(Outcome::Hung, now), Some(State::Open));
    }

    #[test]
    fn it_opens_on_the_rate_of_failures_within_the_window() {
        let (mut breaker, start) = breaker();
        for call in 0..19 {
            let outcome = if call % 2 == 0 { Outcome::Failure } else { Outcome::Success(ms(1)) };
            assert_eq!(breaker.record(outcome, start), None, "too few calls: {call}");
        }
        let mut later = breaker.clone();
        assert_eq!(breaker.record(Outcome::Success(ms(1)), start + ms(9_999)), Some(State::Open), "10 of 20 failed");
        assert_eq!(later.record(Outcome::Success(ms(1)), start + ms(10_000)), None, "those before are forgotten");
    }

    #[test]
    fn a_rate_is_met_exactly() {
        let settings =
            config::Breaker { consecutive_failures: 100, failure_rate: 0.07, minimum_calls: 100, ..config::Breaker::default() };
        let (mut breaker, now) = (Breaker::new(&settings), Instant::now());
        for call in 1..100 {
            assert_eq!(breaker.record(if call <= 7 { Outcome::Failure } else { Outcome::Success(ms(1)) }, now), None);
        }
        assert_eq!(breaker.record(Outcome::Success(ms(1)), now), Some(State::Open));
    }

    #[test]
    fn it_closes_after_probes_and_recovery_alone() {
        let (mut breaker, now) = opened();
        assert_eq!(breaker.probed(true, now), None, "not probed yet");
        assert_eq!(breaker.close(now), None);
        assert!(!breaker.may_probe(now + ms(499), MIDDLE));
        assert!(breaker.may_probe(now + ms(500), MIDDLE));
        assert_eq!((breaker.state(), breaker.state().to_string().as_str()), (State::HalfOpen, "half-open"));
        assert_eq!(breaker.record(Outcome::Success(ms(1)), now), None, "late results are no probes");
        assert_eq!((breaker.probed(true, now), breaker.ready(), breaker.close(now)), (None, false, None));
        assert_eq!((breaker.probed(true, now), breaker.ready(), breaker.state()), (None, true, State::HalfOpen));
        assert_eq!(breaker.close(now + ms(600)), Some(State::Closed));
        assert_eq!((breaker.since(), breaker.reopens_at()), (Some(now + ms(600)), None));
        assert!(!breaker.may_probe(now + ms(700), MIDDLE));
    }

    #[test]
    fn a_failure_during_the_recovery_opens_it() {
        let (mut breaker, now) = opened();
        assert!(breaker.may_probe(now + ms(500), MIDDLE));
        breaker.probed(true, now);
        breaker.probed(true, now);
        assert_eq!(breaker.clone().trip(now), Some(State::Open));
        assert_eq!(breaker.probed(false, now), Some(State::Open));
        assert!(!breaker.ready());
    }

    #[test]
    fn the_open_time_doubles_to_its_limit_and_starts_anew() {
        let (mut breaker, mut now) = opened();
        for planned in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            assert_eq!(breaker.reopens_at(), Some(now + ms(planned)));
            now += ms(planned);
            assert!(breaker.may_probe(now, MIDDLE));
            assert_eq!(breaker.probed(false, now), Some(State::Open));
        }
        now += ms(10_000);
        assert!(breaker.may_probe(now, MIDDLE));
        breaker.probed(true, now);
        breaker.probed(true, now);
        assert_eq!(breaker.close(now), Some(State::Closed));
        breaker.trip(now);
        assert_eq!(breaker.reopens_at(), Some(now + ms(500)));
    }

    #[test]
    fn jitter_is_drawn_once_for_each_opening() {
        let (mut breaker, now) = opened();
        assert_eq!(breaker.reopens_at(), Some(now + ms(500)));
        assert!(!breaker.may_probe(now, 1.0));
        assert_eq!(breaker.reopens_at(), Some(now + ms(600)));
        assert!(!breaker.may_probe(now + ms(599), 0.0));
        assert!(breaker.may_probe(now + ms(600), 0.0));
        breaker.probed(false, now);
        assert!(!breaker.may_probe(now, 0.0));
        assert_eq!(breaker.reopens_at(), Some(now + ms(800)));
    }

    #[test]
    fn what_is_no_jitter_is_none() {
        for jitter in [f64::NAN, f64::INFINITY, -1.0, 1.1] {
            assert_eq!(jittered(ms(500), jitter), ms(500));
        }
        assert_eq!(jittered(Duration::MAX, 1.0), Duration::MAX);
    }

    #[test]
    fn tripping_an_open_breaker_changes_nothing() {
        let (mut breaker, now) = opened();
        assert_eq!(breaker.trip(now + ms(400)), None);
        assert_eq!((breaker.reopens_at(), breaker.since()), (Some(now + ms(500)), Some(now)));
    }

    #[test]
    fn a_window_is_as_large_as_it_looks() {
        fn owns_no_memory<T: Copy>(_: &T) {}
        let mut window = Window::new(ms(0));
        owns_no_memory(&window);
        let now = Instant::now();
        window.record(true, now);
        window.record(true, now + Duration::from_secs(1 << 40));
        window.record(true, now);
        assert_eq!(window.ring.iter().map(|bucket| bucket.calls).sum::<u32>(), 2, "a late reading counts in the newest bucket");
    }
}

//! Many callers, few round trips: while one caller's command is on its way, those of others wait, and the next to go takes
//! them all along (flat combining; Hendler, Incze, Shavit, Tzafrir, SPAA 2010). A lone caller goes at once.
//!
//! Invariants:
//! - A command is sent at most once. Its caller learns its reply, that it was not sent, or that its reply was lost.
//! - A few callers are under way at most ([`Queue::most_leaders`]), and one at least while somebody waits: a leader whose batch is answered
//!   hands over to a waiting caller, if there is one, unless there are too many leaders already.
//! - A caller waits no longer than its deadline, its leader's round trip included. A leader reads until its own deadline; whoever
//!   followed it and has time left is told [`Failure::LeftBehind`], and tries again (`retry.rs`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redis::Value;

use super::super::errors::{Failure, timed_out};
use super::attempt::Attempt;
use super::round_trip::RoundTrip;

/// Batches under way at once: while one is at the server, the next is made.
const LEADERS: usize = 2;
/// The same for a server that is farther than [`FAR`]: to wait for somebody else's round trip costs more than a round trip of one's own.
const FAR_LEADERS: usize = 16;
const FAR: Duration = Duration::from_micros(200);
/// Most commands that one batch takes.
const BATCH: usize = 64;
/// Largest command that goes with others, bytes; a larger one would make them wait.
pub(super) const LARGEST: usize = 64 << 10;

/// What sends a batch: one reply or failure for each command.
pub(super) trait Exchange {
    /// Sends the commands, packed one behind the other, and reads a reply for each.
    fn exchange(&self, packed: &[u8], count: usize, deadline: Instant) -> Vec<Attempt<Value>>;
}

/// The queue in front of a server. Safe from any thread.
#[derive(Default)]
pub(super) struct Combiner {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Job>>,
    leaders: usize,
    round_trip: RoundTrip,
}

impl Queue {
    fn most_leaders(&self) -> usize {
        if self.round_trip.get().is_some_and(|trip| trip > FAR) { FAR_LEADERS } else { LEADERS }
    }
}

struct Job {
    packed: Vec<u8>,
    deadline: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    progress: Progress,
    /// The caller is to lead the next batch, whether its own command is in it or was in one before.
    leads: bool,
}

enum Progress {
    /// In the queue.
    Waiting,
    /// In a batch.
    Taken,
    Answered(Attempt<Value>),
    /// The caller has left.
    Gone,
}

impl Combiner {
    /// Sends one packed command, alone or with others, and waits for its reply.
    pub(super) fn call(&self, packed: Vec<u8>, deadline: Instant, server: &impl Exchange) -> Attempt<Value> {
        let job = self.enter(packed, deadline);
        // More than once only if more waited before it than one batch takes.
        while job.is_to_lead(deadline) {
            self.lead(deadline, server);
        }
        self.leave(&job)
    }

    fn enter(&self, packed: Vec<u8>, deadline: Instant) -> Arc<Job> {
        let mut queue = self.queue.lock();
        let leads = queue.leaders < queue.most_leaders();
        queue.leaders += usize::from(leads);
        let state = Mutex::new(State { progress: Progress::Waiting, leads });
        let job = Arc::new(Job { packed, deadline, state, changed: Condvar::new() });
        queue.waiting.push_back(Arc::clone(&job));
        job
    }

    /// Sends what waits, answers it, and hands over.
    fn lead(&self, deadline: Instant, server: &impl Exchange) {
        let handover = Handover(self);
        let batch = self.take_batch();
        let mut packed = Vec::with_capacity(batch.iter().map(|job| job.packed.len()).sum());
        for job in &batch {
            packed.extend_from_slice(&job.packed);
        }
        let sent = Instant::now();
        let replies = server.exchange(&packed, batch.len(), deadline);
        let now = Instant::now();
        if replies.iter().any(Result::is_ok) {
            self.queue.lock().round_trip.learn(now - sent, now);
        }
        drop(handover);
        for (job, reply) in batch.iter().zip(replies) {
            let left_behind = now >= deadline && now < job.deadline;
            job.answer(if left_behind { reply.map_err(Failure::left_behind) } else { reply });
        }
    }

    fn take_batch(&self) -> Vec<Arc<Job>> {
        let mut queue = self.queue.lock();
        let count = queue.waiting.len().min(BATCH);
        let batch: Vec<_> = queue.waiting.drain(..count).collect();
        batch.into_iter().filter(|job| job.take()).collect()
    }

    /// The next waiting caller leads, or one leader fewer is under way.
    fn pass_turn(&self, queue: &mut Queue) {
        let is_needed = queue.leaders <= queue.most_leaders();
        if !(is_needed && queue.waiting.iter().any(|job| job.make_leader())) {
            queue.leaders -= 1;
        }
    }

    /// The caller's outcome, whatever became of its job.
    fn leave(&self, job: &Job) -> Attempt<Value> {
        // Under both locks: nobody can make it a leader any more, and if somebody just did, another must lead.
        let mut queue = self.queue.lock();
        let left = std::mem::replace(&mut *job.state.lock(), State { progress: Progress::Gone, leads: false });
        if left.leads {
            self.pass_turn(&mut queue);
        }
        match left.progress {
            Progress::Answered(reply) => reply,
            Progress::Taken => Err(Failure::ReplyLost(timed_out("no reply came in time"))),
            Progress::Waiting | Progress::Gone => Err(Failure::not_in_time("no connection was free in time")),
        }
    }
}

/// Hands over even if sending panics.
struct Handover<'a>(&'a Combiner);

impl Drop for Handover<'_> {
    fn drop(&mut self) {
        self.0.pass_turn(&mut self.0.queue.lock());
    }
}

impl Job {
    /// Waits until the caller is to lead (true), or has its answer, or the deadline passed.
    fn is_to_lead(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.leads && matches!(state.progress, Progress::Waiting | Progress::Taken) {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        std::mem::take(&mut state.leads)
    }

    /// Marks it as part of a batch; false if its caller has left.
    fn take(&self) -> bool {
        let mut state = self.state.lock();
        let present = matches!(state.progress, Progress::Waiting);
        if present {
            state.progress = Progress::Taken;
        }
        present
    }

    /// Makes its caller a leader; false if the caller does not wait, or leads already.
    fn make_leader(&self) -> bool {
        let mut state = self.state.lock();
        let can = matches!(state.progress, Progress::Waiting) && !state.leads;
        state.leads |= can;
        drop(state);
        self.changed.notify_one();
        can
    }

    fn answer(&self, reply: Attempt<Value>) {
        let mut state = self.state.lock();
        if !matches!(state.progress, Progress::Gone) {
            state.progress = Progress::Answered(reply);
            drop(state);
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Answers each 8-byte command with itself, now and then late, with a lost connection, or with a panic.
    #[derive(Default)]
    struct Echo {
        under_way: AtomicUsize,
        sent: AtomicUsize,
        batches: AtomicUsize,
        most: AtomicUsize,
        takes: Duration,
        faults: bool,
    }

    impl Exchange for Echo {
        fn exchange(&self, packed: &[u8], count: usize, _deadline: Instant) -> Vec<Attempt<Value>> {
            assert_eq!(packed.len(), 8 * count);
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(under_way <= FAR_LEADERS);
            self.most.fetch_max(under_way, Ordering::SeqCst);
            self.sent.fetch_add(count, Ordering::SeqCst);
            let nth = self.batches.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(self.takes);
            let replies = packed.chunks(8).map(|command| Ok(Value::BulkString(command.to_vec())));
            let replies = match nth % 7 {
                3 if self.faults => replies.map(|_| Err(Failure::ReplyLost(timed_out("lost")))).collect(),
                5 if self.faults => {
                    std::thread::sleep(Duration::from_millis(3));
                    replies.collect()
                }
                _ => replies.collect(),
            };
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            replies
        }
    }

    fn run(faults: bool, takes: Duration, patience: Duration) -> (Echo, usize, usize) {
        let (combiner, server) = (Combiner::default(), Echo { faults, takes, ..Echo::default() });
        let (answered, unsent) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for caller in 0_u32..100 {
                let (combiner, server, answered, unsent) = (&combiner, &server, &answered, &unsent);
                scope.spawn(move || {
                    for nth in 0_u32..50 {
                        let command = [caller.to_be_bytes(), nth.to_be_bytes()].concat();
                        match combiner.call(command.clone(), Instant::now() + patience, server) {
                            Ok(Value::BulkString(reply)) => {
                                assert_eq!(reply, command, "another caller's reply");
                                answered.fetch_add(1, Ordering::SeqCst);
                            }
                            Ok(other) => panic!("{other:?}"),
                            Err(Failure::NotSent(_)) => drop(unsent.fetch_add(1, Ordering::SeqCst)),
                            Err(_) => {}
                        }
                    }
                });
            }
        });
        let queue = combiner.queue.lock();
        assert_eq!(queue.leaders, 0, "a leader was forgotten");
        assert!(queue.waiting.iter().all(|job| matches!(job.state.lock().progress, Progress::Gone)), "somebody still waits");
        let counts = (answered.into_inner(), unsent.into_inner());
        drop(queue);
        (server, counts.0, counts.1)
    }

    #[test]
    fn everybody_gets_its_own_reply_in_fewer_trips() {
        let (server, answered, _) = run(false, Duration::from_micros(100), Duration::from_secs(60));
        assert_eq!((answered, server.sent.into_inner()), (5_000, 5_000));
        assert!(server.batches.into_inner() < 5_000, "nothing was combined");
    }

    #[test]
    fn more_lead_where_the_server_is_far() {
        let (server, answered, _) = run(false, 10 * FAR, Duration::from_secs(60));
        assert_eq!((answered, server.most.into_inner()), (5_000, FAR_LEADERS));
    }

    #[test]
    fn too_many_leaders_become_fewer_and_the_last_one_hands_over() {
        let combiner = Combiner::default();
        let mut queue = combiner.queue.lock();
        queue.leaders = LEADERS + 1;
        let waits = || {
            let state = Mutex::new(State { progress: Progress::Waiting, leads: false });
            Arc::new(Job { packed: Vec::new(), deadline: Instant::now(), state, changed: Condvar::new() })
        };
        queue.waiting = [waits(), waits(), waits()].into();
        let leading = |queue: &Queue| queue.waiting.iter().filter(|job| job.state.lock().leads).count();
        combiner.pass_turn(&mut queue);
        assert_eq!((queue.leaders, leading(&queue)), (LEADERS, 0));
        combiner.pass_turn(&mut queue);
        assert_eq!((queue.leaders, leading(&queue)), (LEADERS, 1));
    }

    /// Answers each of the first batches when it may, and none after them.
    #[derive(Default)]
    struct Stuck {
        batches: AtomicUsize,
        may: [AtomicBool; LEADERS],
    }

    impl Exchange for Stuck {
        fn exchange(&self, _packed: &[u8], count: usize, deadline: Instant) -> Vec<Attempt<Value>> {
            let nth = self.batches.fetch_add(1, Ordering::SeqCst);
            while Instant::now() < deadline {
                if self.may.get(nth).is_some_and(|may| may.load(Ordering::SeqCst)) {
                    return vec![Ok(Value::Okay); count];
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            vec![Err(Failure::ReplyLost(timed_out("the deadline passed"))); count]
        }
    }

    #[test]
    fn whoever_has_time_left_is_told_to_try_again() {
        let (combiner, server) = (Combiner::default(), Stuck::default());
        let call = |millis| combiner.call(vec![0; 8], Instant::now() + Duration::from_millis(millis), &server);
        let wait_for = |waiting, batches| {
            while combiner.queue.lock().waiting.len() != waiting || server.batches.load(Ordering::SeqCst) != batches {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        std::thread::scope(|scope| {
            (0..LEADERS).for_each(|_| drop(scope.spawn(|| call(60_000).unwrap())));
            wait_for(0, LEADERS);
            // The first that waits leads the other, while the second leader is under way: that one would make the other lead, too.
            let impatient = scope.spawn(|| call(1_500));
            wait_for(1, LEADERS);
            let patient = scope.spawn(|| call(60_000));
            wait_for(2, LEADERS);
            server.may[0].store(true, Ordering::SeqCst);
            assert!(matches!(impatient.join().unwrap(), Err(Failure::ReplyLost(_))), "it had its time");
            assert!(matches!(patient.join().unwrap(), Err(Failure::LeftBehind { sent: true })));
            server.may.iter().for_each(|may| may.store(true, Ordering::SeqCst));
        });
    }

    #[test]
    fn nobody_waits_for_ever_whatever_fails_and_whoever_leaves() {
        for patience in [Duration::from_secs(60), Duration::from_millis(2), Duration::from_micros(300), Duration::ZERO] {
            let (server, answered, unsent) = run(true, Duration::from_micros(200), patience);
            // What was not sent certainly was not.
            assert!(server.sent.into_inner() + unsent <= 5_000);
            assert!(answered <= 5_000);
        }
    }
}

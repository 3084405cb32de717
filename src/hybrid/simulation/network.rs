//! The network between the servers and Redis: whether Redis can be reached, what becomes of a question, and the questions that
//! arrive late.
//!
//! All servers have one network: Redis is away for all of them, or for none. A question fails as a whole; half an answer is a
//! matter of the connection, and of its own tests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::random::Random;
use super::redis::Question;

/// What becomes of a question.
pub(super) enum Fate {
    Answered,
    /// It never arrives, and that is known.
    Refused,
    /// It is executed, and the answer is lost.
    AnswerLost,
    /// Nothing comes until the deadline; executed or not.
    Hangs(bool),
    /// Given up early; executed later, perhaps.
    Stuck,
}

/// A question that is executed later, if at all.
pub(super) struct Stuck {
    pub(super) not_after: Instant,
    pub(super) question: Question,
    pub(super) request: String,
    pub(super) is_retry: bool,
}

pub(super) struct Network {
    pub(super) is_up: AtomicBool,
    /// How many of a hundred questions fail.
    pub(super) trouble: AtomicU64,
    /// Redis answers nothing.
    pub(super) hangs: AtomicBool,
    /// Redis cannot be reached once a key has been looked at.
    pub(super) goes_after_a_look: AtomicBool,
    /// What happens when Redis has made a change, before its answer is there, once.
    pub(super) after_change: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    stuck: Mutex<Vec<Stuck>>,
}

impl Network {
    pub(super) fn new() -> Network {
        Network {
            is_up: AtomicBool::new(true),
            trouble: AtomicU64::new(0),
            hangs: AtomicBool::default(),
            goes_after_a_look: AtomicBool::default(),
            after_change: Mutex::default(),
            stuck: Mutex::default(),
        }
    }

    pub(super) fn fate(&self, random: &Random) -> Fate {
        if self.hangs.load(Ordering::SeqCst) {
            return Fate::Hangs(false);
        }
        if !self.is_up.load(Ordering::SeqCst) {
            let is_refused = self.goes_after_a_look.load(Ordering::SeqCst) || random.percent(70);
            return if is_refused { Fate::Refused } else { Fate::Hangs(false) };
        }
        if !random.percent(self.trouble.load(Ordering::SeqCst)) {
            return Fate::Answered;
        }
        match random.below(5) {
            1 => Fate::AnswerLost,
            2 => Fate::Hangs(random.percent(50)),
            3 => Fate::Stuck,
            _ => Fate::Refused,
        }
    }

    pub(super) fn hold_up(&self, question: Stuck) {
        self.stuck.lock().push(question);
    }

    /// What was held up and arrives now. What is too late by now, or met a Redis that is away, never will.
    pub(super) fn arriving(&self, now: Instant, random: &Random) -> Vec<Stuck> {
        let mut stuck = self.stuck.lock();
        let is_up = self.is_up.load(Ordering::SeqCst);
        stuck.retain(|late| is_up && now <= late.not_after);
        stuck.extract_if(.., |_| random.percent(40)).collect()
    }

    pub(super) fn has_stuck(&self) -> bool {
        !self.stuck.lock().is_empty()
    }

    /// Nothing that is on its way arrives any more.
    pub(super) fn drop_stuck(&self) {
        self.stuck.lock().clear();
    }
}

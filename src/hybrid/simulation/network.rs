//! The network between the servers and Redis: whether Redis can be reached, what becomes of a question, and the questions that
//! arrive late.
//!
//! All servers have one network: Redis is away for all of them, or for none. A question fails as a whole; half an answer is a
//! matter of the connection, and of its own tests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::random::Random;
use crate::sync::mark;

/// What becomes of a question.
pub(crate) enum Fate {
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

/// What happens when Redis has executed a command.
type AfterCommand = Box<dyn FnMut(&[Vec<u8>]) -> bool + Send>;

pub(crate) struct Network {
    pub(crate) is_up: AtomicBool,
    /// How many of a hundred questions fail.
    pub(crate) trouble: AtomicU64,
    /// Redis answers nothing.
    pub(crate) hangs: AtomicBool,
    /// What happens when Redis has executed a command, before the answer is there, until it says that it is done.
    pub(crate) after_command: Mutex<Option<AfterCommand>>,
    stuck: Mutex<Vec<Vec<Vec<u8>>>>,
}

impl Network {
    pub(crate) fn new() -> Network {
        Network {
            is_up: AtomicBool::new(true),
            trouble: AtomicU64::new(0),
            hangs: AtomicBool::default(),
            after_command: Mutex::default(),
            stuck: Mutex::default(),
        }
    }

    pub(crate) fn fate(&self, random: &Random) -> Fate {
        if self.hangs.load(Ordering::SeqCst) {
            return Fate::Hangs(false);
        }
        if !self.is_up.load(Ordering::SeqCst) {
            mark!("fault: Redis is away");
            return if random.percent(70) { Fate::Refused } else { Fate::Hangs(false) };
        }
        if !random.percent(self.trouble.load(Ordering::SeqCst)) {
            return Fate::Answered;
        }
        match random.below(5) {
            1 => mark!("fault: an answer is lost", Fate::AnswerLost),
            2 => mark!("fault: a question hangs", Fate::Hangs(random.percent(50))),
            3 => mark!("fault: a question is stuck", Fate::Stuck),
            _ => mark!("fault: a question is refused", Fate::Refused),
        }
    }

    /// Redis has executed it; its answer is on the way.
    pub(crate) fn was_executed(&self, command: &[Vec<u8>]) {
        let Some(mut then) = self.after_command.lock().take() else { return };
        if !then(command) {
            *self.after_command.lock() = Some(then);
        }
    }

    /// It arrives later, or never.
    pub(crate) fn hold_up(&self, command: Vec<Vec<u8>>) {
        self.stuck.lock().push(command);
    }

    /// What was held up and arrives now. What meets a Redis that is away never will.
    pub(crate) fn arriving(&self, random: &Random) -> Vec<Vec<Vec<u8>>> {
        let mut stuck = self.stuck.lock();
        if !self.is_up.load(Ordering::SeqCst) {
            stuck.clear();
        }
        stuck.extract_if(.., |_| random.percent(30)).collect()
    }

    pub(crate) fn has_stuck(&self) -> bool {
        !self.stuck.lock().is_empty()
    }

    /// Nothing that is on its way arrives any more.
    pub(crate) fn drop_stuck(&self) {
        self.stuck.lock().clear();
    }
}

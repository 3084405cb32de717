//! The shadow as its callers see it: what is told, what is reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counts::{Counts, Outcome, Report};
use super::observed::{Answer, Asked};
use super::open::{self, Decides};
use super::thread::{Fill, Open, Worker};
use super::traffic::{Begun, Traffic};
use crate::call::Calls;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::sync::{Condvar, Mutex, spawn};

/// How long closing waits for the shadow's thread.
const PATIENCE: Duration = Duration::from_secs(2);

/// A shadow: what is told to it is compared, some time later. Safe from any thread.
#[derive(Debug)]
pub struct Shadow {
    name: String,
    traffic: Arc<Traffic>,
    counts: Arc<Counts>,
    ended: Arc<Ended>,
}

/// Whether the thread has ended.
#[derive(Debug, Default)]
struct Ended {
    is_over: Mutex<bool>,
    over: Condvar,
}

/// An operation that is under way. If it is dropped, it has failed.
#[derive(Debug)]
pub struct Ticket {
    traffic: Arc<Traffic>,
    counts: Arc<Counts>,
    begun: Option<Begun>,
    operation: Operation,
    is_fill: bool,
}

impl Shadow {
    /// Begins to follow what `decides`. `fill` has its locks listed through this shadow, once it can take them; without it,
    /// whoever tells the operations tells such a list, too.
    ///
    /// Errors: `Internal` if there is no thread. What is wrong with the shadow's store is in the [`Report`].
    pub fn start(config: &Config, decides: Decides, fill: Option<Fill>, calls: Calls, clock: Arc<dyn Clock>) -> Result<Shadow> {
        let (settings, timeout) = (config.locking.shadow.clone(), config.locking.timeout);
        let (name, calls, encryption) = (open::name(&settings), Arc::new(calls), config.locking.encryption.clone());
        let for_open = Arc::clone(&calls);
        let open = Box::new(move || open::open((&settings, &encryption), &decides, timeout, &for_open));
        Shadow::start_over(name, open, fill, calls, clock)
    }

    /// The same over another store.
    pub(super) fn start_over(
        name: String,
        open: Open,
        fill: Option<Fill>,
        calls: Arc<Calls>,
        clock: Arc<dyn Clock>,
    ) -> Result<Shadow> {
        let (traffic, counts, ended) = (Arc::new(Traffic::default()), Arc::new(Counts::new()), Arc::new(Ended::default()));
        let worker = Worker { traffic: Arc::clone(&traffic), counts: Arc::clone(&counts), calls, clock, open, fill };
        let at_end = Arc::clone(&ended);
        let thread = spawn("atlock-shadow", move || {
            worker.run();
            *at_end.is_over.lock() = true;
            at_end.over.notify_all();
        });
        // It ends by itself: whoever closes waits only for a while.
        thread.map_err(|e| Error::new(Code::Internal, format!("the thread atlock-shadow cannot be started: {e}"))).map(drop)?;
        Ok(Shadow { name, traffic, counts, ended })
    }

    /// An operation begins. To be called before the store that decides is asked.
    pub fn begin(&self, asked: Asked) -> Ticket {
        let (operation, is_fill) = (asked.operation(), matches!(asked, Asked::List { fill: true, .. }));
        let begun = self.traffic.begin(asked);
        Ticket { traffic: Arc::clone(&self.traffic), counts: Arc::clone(&self.counts), begun, operation, is_fill }
    }

    /// How it stands.
    pub fn report(&self) -> Report {
        self.counts.report(&self.name, self.traffic.waiting())
    }

    /// What an operator should know: that nothing is compared, and why.
    pub fn warning(&self) -> Option<String> {
        self.counts.warning().map(|because| format!("the shadow ({}) compares nothing: {because}", self.name))
    }

    /// Whole families of OpenMetrics text, without the end line.
    pub fn metrics(&self) -> String {
        self.counts.text()
    }

    /// Takes nothing more. Idempotent.
    pub fn stop(&self) {
        self.traffic.close();
    }

    /// Stops, and waits for a while until the store is closed. Idempotent.
    pub fn close(&self) {
        self.stop();
        let until = Instant::now() + PATIENCE;
        let mut is_over = self.ended.is_over.lock();
        while !*is_over && !self.ended.over.wait_until(&mut is_over, until).timed_out() {}
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Ticket {
    /// The operation has ended like this.
    pub fn end(mut self, answer: Answer) {
        self.tell(answer);
    }

    fn tell(&mut self, answer: Answer) {
        let Some(begun) = self.begun.take() else { return };
        if !self.traffic.end(begun, answer) && !self.is_fill {
            self.counts.count(self.operation, Outcome::Dropped);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tell(Answer::NotKnown);
    }
}

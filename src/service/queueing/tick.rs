//! Looks at each queue now and then: reservations end, what a crash left is put right, and gates that a store forgot are set again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::super::state::State;
use crate::error::{Code, Error, Result};
use crate::sync::{Condvar, JoinHandle, Mutex, spawn};

/// Time between two looks.
const TICK: Duration = Duration::from_secs(5);
/// So many looks go by before all repositories are looked for, not only those that are known to have a queue.
const LOOK_FOR_ALL: u32 = 12;

/// The thread that looks; it ends with this.
#[derive(Debug)]
pub(in crate::service) struct Ticker {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Begins to look, at once.
    pub(in crate::service) fn start(state: Weak<State>) -> Result<Ticker> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let for_thread = Arc::clone(&stop);
        let run = move || {
            let (stopped, changed) = &*for_thread;
            let mut looks = 0;
            loop {
                let Some(state) = state.upgrade() else { return };
                // What fails is in the status; a panic must not end the thread.
                let tick = std::panic::AssertUnwindSafe(|| state.tick(looks % LOOK_FOR_ALL == 0));
                let _ = std::panic::catch_unwind(tick);
                drop(state);
                looks += 1;
                let mut stopped = stopped.lock();
                if !*stopped {
                    changed.wait_for(&mut stopped, TICK);
                }
                if *stopped {
                    return;
                }
            }
        };
        let failed = |e| Error::new(Code::Internal, format!("the thread atlock-queue cannot be started: {e}"));
        Ok(Ticker { stop, thread: Some(spawn("atlock-queue", run).map_err(failed)?) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        // It catches its panics.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl State {
    /// One look at all queues that are known, or that there are.
    pub(in crate::service) fn tick(&self, look_for_all: bool) {
        if look_for_all {
            match self.store().queues(&self.step()) {
                Ok(repos) => self.queueing.repos.lock().extend(repos),
                Err(error) => self.queueing.failed(&error),
            }
        }
        let repos: Vec<String> = self.queueing.repos.lock().iter().cloned().collect();
        for repo in repos {
            let looked = self.dispatch(&repo, &[]).and_then(|queue| self.assert_gates(&queue));
            if let Err(error) = looked {
                self.queueing.failed(&error);
            }
        }
    }
}

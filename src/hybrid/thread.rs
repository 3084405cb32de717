//! A thread that does something every now and then.

use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Condvar, JoinHandle, Mutex, MutexGuard, spawn};

use crate::error::{Code, Error, Result};

/// Time between two rounds.
const TICK: Duration = Duration::from_millis(25);

/// The thread, until this is dropped.
pub(super) struct Repeating {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Repeating {
    /// Starts a thread that calls `round` again and again until it is stopped.
    pub(super) fn start(name: &str, mut round: impl FnMut() + Send + 'static) -> Result<Repeating> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let for_thread = Arc::clone(&stop);
        let run = move || {
            let (stopped, changed) = &*for_thread;
            let mut stopped = stopped.lock();
            while !*stopped {
                MutexGuard::unlocked(&mut stopped, || {
                    // A panic must not end the thread: the next round may go well.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut round));
                });
                if !*stopped {
                    changed.wait_for(&mut stopped, TICK);
                }
            }
        };
        let thread =
            spawn(name, run).map_err(|e| Error::new(Code::Internal, format!("the thread {name} cannot be started: {e}")))?;
        Ok(Repeating { stop, thread: Some(thread) })
    }
}

/// Ends the thread, after the round under way.
impl Drop for Repeating {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        // It catches its panics.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

//! The thread that looks at queues: every tick at all, soon at those where somebody joined, and when a circle can be confirmed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::nudge::Nudge;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::sync::{JoinHandle, spawn};

/// Time between two looks at everything.
const TICK: Duration = Duration::from_secs(5);
/// Time between two looks for the sake of who joined: those who join at once are looked at together.
const SOON: Duration = Duration::from_millis(500);

/// What is to be looked at.
#[derive(Debug)]
pub(in crate::service) enum Look {
    /// Everything.
    All,
    /// The queues of these repositories, and what is due besides.
    At(BTreeSet<String>),
}

/// The thread; it ends with this.
#[derive(Debug)]
pub(in crate::service) struct Ticker {
    nudge: Arc<Nudge>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Begins to look, at once. `look` tells how soon it wants to look again, if that is before the next tick; `None` ends the thread.
    pub(in crate::service) fn start(
        nudge: Arc<Nudge>,
        clock: Arc<dyn Clock>,
        look: impl FnMut(Look) -> Option<Option<Duration>> + Send + 'static,
    ) -> Result<Ticker> {
        let failed = |e| Error::new(Code::Internal, format!("the thread atlock-queue cannot be started: {e}"));
        let for_thread = Arc::clone(&nudge);
        let thread = spawn("atlock-queue", move || go_on(look, &for_thread, &*clock)).map_err(failed)?;
        Ok(Ticker { nudge, thread: Some(thread) })
    }
}

fn go_on(mut look: impl FnMut(Look) -> Option<Option<Duration>>, nudge: &Nudge, clock: &dyn Clock) {
    let (mut tick, mut repos) = (clock.now(), BTreeSet::new());
    loop {
        let what = if clock.now() >= tick {
            tick = clock.now() + TICK;
            Look::All
        } else {
            Look::At(std::mem::take(&mut repos))
        };
        // A panic must not end the thread.
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(what)));
        let Some(soon) = looked.unwrap_or(Some(None)) else { return };
        let next = soon.map_or(tick, |after| tick.min(clock.now() + after));
        match nudge.wait(next, clock.now() + SOON, clock) {
            Some(wanted) => repos.extend(wanted),
            None => return,
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.nudge.stop();
        // It catches its panics.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

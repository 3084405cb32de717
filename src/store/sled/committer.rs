//! The only writer: one thread that turns waiting changes into groups (group commit).
//!
//! A group is made durable in the journal, applied to sled (`group.rs`), and then acknowledged: that order is what P2 rests on, and
//! it makes what a read shows durable, too. A group too large for the journal is applied first and then made durable in sled
//! itself, and the journal gets a mark of it. When the journal is full, a checkpoint makes what was applied durable in sled. Before
//! anybody is told, the store looks whether its files are still at their paths (`ground.rs`). A failure on the way ends the store
//! (`health.rs`): nobody is acknowledged after it.
//!
//! Bounds: [`QUEUE_CHANGES`] and [`QUEUE_BYTES`] waiting, as much in a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, JoinHandle, Mutex, MutexGuard, spawn};

use super::files::OpenFile;
use super::ground::Ground;
use super::group::Group;
use super::job::{Change, Job, Slot};
use super::journal::Journal;
use super::meta::Meta;
use super::step::{Step, StepHook};
use super::transaction::Transaction;
use super::tree::{Tree, closed};
use super::trim;
use crate::call::Call;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};

/// Most changes that wait, and that one group takes.
const QUEUE_CHANGES: usize = 512;
/// Most bytes of values that wait; one change may go over it.
const QUEUE_BYTES: usize = 32 << 20;
/// How long nothing has come to be written when memory is given back.
const IDLE: Duration = Duration::from_millis(100);
/// How long closing waits for the group that is being written.
const CLOSE_WAIT: Duration = Duration::from_secs(30);

/// The queue and its thread. Safe from any thread.
pub(super) struct Committer {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(writer: Writer) -> Result<Committer> {
        let queue = Arc::new(Queue::default());
        let for_thread = Arc::clone(&queue);
        let thread = spawn("atlock-committer", move || run(&for_thread, writer))
            .map_err(|e| Error::new(Code::StoreFailed, format!("the store's thread cannot be started: {e}")))?;
        Ok(Committer { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Has `change` made in the next group and returns its answer once it is durable. `bytes` is about what it holds.
    ///
    /// Errors: `Timeout` if it was not begun before the deadline, `OutcomeUnknown` if it was, and the change's own.
    pub(super) fn commit<T, F>(&self, bytes: usize, call: &Call, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    {
        self.submit_after(None::<(usize, F)>, bytes, call.deadline, change)?.wait(call.deadline)
    }

    /// Queues `change` and returns where its answer will come; it is made also if nobody waits for that. `first` is made before
    /// it, in the same group, and its answer is nobody's.
    ///
    /// Errors: `Timeout` if the queue was full until the deadline; `Closed`.
    pub(super) fn submit_after<S, G, T, F>(
        &self,
        first: Option<(usize, G)>,
        bytes: usize,
        deadline: Instant,
        change: F,
    ) -> Result<Arc<Slot<T>>>
    where
        S: Send + 'static,
        G: FnOnce(&mut Transaction<'_>) -> Result<S> + Send + 'static,
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    {
        let first = first.map(|(bytes, change)| Waiting::new(bytes, change).0);
        let (waiting, slot) = Waiting::new(bytes, change);
        self.queue.push(first.into_iter().chain([waiting]).collect(), deadline)?;
        Ok(slot)
    }

    /// Writes what waits, refuses what comes, and ends the thread. Does nothing the second time.
    pub(super) fn close(&self) -> Result<()> {
        // Held throughout, so that a second closer returns only when it is closed.
        let mut thread = self.thread.lock();
        self.queue.close(CLOSE_WAIT)?;
        // It has left its loop, where panics are caught.
        thread.take().map(JoinHandle::join);
        Ok(())
    }
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
    emptied: Condvar,
    ended: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    closed: bool,
    ended: bool,
}

struct Waiting {
    bytes: usize,
    job: Box<dyn Change>,
}

impl Waiting {
    fn new<T, F>(bytes: usize, change: F) -> (Waiting, Arc<Slot<T>>)
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    {
        let (job, slot) = Job::new(change);
        (Waiting { bytes, job: Box::new(job) }, slot)
    }
}

impl QueueState {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.waiting.is_empty() || (self.waiting.len() < QUEUE_CHANGES && self.bytes + bytes <= QUEUE_BYTES)
    }
}

impl Queue {
    /// At once: the thread is not woken for a part.
    fn push(&self, waiting: Vec<Waiting>, deadline: Instant) -> Result<()> {
        let bytes = waiting.iter().map(|waiting| waiting.bytes).sum();
        let mut state = self.state.lock();
        while !state.closed && !state.has_room_for(bytes) {
            if self.emptied.wait_until(&mut state, deadline).timed_out() && !state.has_room_for(bytes) {
                return Err(Error::new(
                    Code::Timeout,
                    "the store's queue stayed full until the deadline: the store changed nothing",
                ));
            }
        }
        if state.closed {
            return Err(closed());
        }
        state.bytes += bytes;
        state.waiting.extend(waiting);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Everything that waits; empty when closed. `idle` is called if nothing comes for a while.
    fn take(&self, idle: impl FnOnce()) -> Vec<Box<dyn Change>> {
        let mut state = self.state.lock();
        if state.waiting.is_empty() && !state.closed && self.filled.wait_for(&mut state, IDLE).timed_out() {
            MutexGuard::unlocked(&mut state, idle);
        }
        while state.waiting.is_empty() && !state.closed {
            self.filled.wait(&mut state);
        }
        let group = std::mem::take(&mut state.waiting);
        state.bytes = 0;
        drop(state);
        self.emptied.notify_all();
        group.into_iter().map(|waiting| waiting.job).collect()
    }

    fn close(&self, patience: Duration) -> Result<()> {
        let mut state = self.state.lock();
        state.closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
        while !state.ended {
            if self.ended.wait_for(&mut state, patience).timed_out() && !state.ended {
                let text = format!("the disk has not finished a write within {} s; the store is not closed", patience.as_secs());
                return Err(Error::new(Code::StoreFailed, text));
            }
        }
        Ok(())
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.ended = true;
        drop(state);
        self.ended.notify_all();
    }
}

fn run(queue: &Queue, mut writer: Writer) {
    /// However the thread ends, nobody waits for it any more.
    struct End<'a>(&'a Queue);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.end();
        }
    }
    let _end = End(queue);
    loop {
        let group = queue.take(trim::give_back);
        if group.is_empty() {
            break;
        }
        writer.commit(group);
    }
    // It only spares the next opening some work: everything acknowledged is in the journal.
    let tree = Arc::clone(&writer.tree);
    let _ = tree.health().check().and_then(|()| tree.health().watch(|| writer.checkpoint()));
    drop(writer);
}

/// What the thread writes with.
pub(super) struct Writer {
    pub tree: Arc<Tree>,
    pub meta: Meta,
    /// sled's log, to sync it.
    pub log: Box<dyn OpenFile>,
    pub journal: Journal,
    pub ground: Arc<Ground>,
    pub clock: Arc<dyn Clock>,
    pub hook: StepHook,
}

impl Writer {
    /// Makes a group, and answers.
    pub(super) fn commit(&mut self, group: Vec<Box<dyn Change>>) {
        let mut group: Vec<_> =
            group.into_iter().filter_map(|mut change| change.take().then_some(Member { change, changed: false })).collect();
        let mut may_have_happened = false;
        // The health outlives the borrow of the writer.
        let tree = Arc::clone(&self.tree);
        let verdict = tree.health().check().and_then(|()| {
            tree.health().watch(|| {
                self.write(&mut group, &mut may_have_happened)?;
                self.ground.check()
            })
        });
        for Member { change, changed } in group {
            change.answer(verdict.clone().map_err(|failure| outcome(&failure, changed && may_have_happened)));
        }
    }

    fn write(&mut self, members: &mut [Member], may_have_happened: &mut bool) -> Result<()> {
        let tree = Arc::clone(&self.tree);
        let Some(group) = tree.read(|view| {
            let mut tx = Transaction::new(&view, self.meta, self.clock.unix_micros());
            for member in members {
                let before = tx.changes();
                member.change.make(&mut tx)?;
                member.changed = tx.changes() > before;
            }
            Ok(tx.into_group())
        })?
        else {
            // Nothing to write. What these answers rest on is durable: it is the end of an earlier group.
            return Ok(());
        };
        let meta = group.meta;
        let record = group.encode();
        if self.journal.can_hold(record.len()) {
            if !self.journal.has_room_for(record.len()) {
                self.checkpoint()?;
            }
            self.step(Step::Journal)?;
            *may_have_happened = true;
            self.journal.append(meta.sequence, &record).map_err(|e| io_failed("writing the journal", &e))?;
            self.apply(group, true)?;
        } else {
            *may_have_happened = true;
            self.apply(group, false)?;
            self.checkpoint()?;
            self.step(Step::Journal)?;
            self.journal.restart_at(meta.sequence).map_err(|e| io_failed("writing the journal", &e))?;
        }
        self.meta = meta;
        Ok(())
    }

    fn apply(&self, group: Group, in_journal: bool) -> Result<()> {
        self.step(Step::Apply)?;
        self.tree.apply(group, in_journal)
    }

    /// Makes everything that was applied durable in sled, and lets the journal begin anew.
    pub(super) fn checkpoint(&mut self) -> Result<()> {
        self.step(Step::Flush)?;
        self.tree.flush()?;
        self.step(Step::Sync)?;
        self.log.sync_data().map_err(|e| io_failed("syncing sled's log", &e))?;
        self.journal.restart();
        Ok(())
    }

    fn step(&self, step: Step) -> Result<()> {
        (self.hook)(step).map_err(|e| io_failed(&format!("{step:?}"), &e))
    }
}

struct Member {
    change: Box<dyn Change>,
    changed: bool,
}

fn io_failed(doing: &str, error: &std::io::Error) -> Error {
    Error::new(Code::StoreFailed, format!("{doing}: {error}"))
}

fn outcome(failure: &Error, may_have_happened: bool) -> Error {
    if may_have_happened {
        Error::new(Code::OutcomeUnknown, format!("the change may or may not be stored: {failure}"))
    } else {
        failure.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_queue_that_stays_empty_is_idle_once() {
        let queue = Queue::default();
        let (idle, is_idle) = mpsc::channel();
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| queue.take(|| idle.send(()).expect("is awaited")).len());
            is_idle.recv_timeout(Duration::from_secs(10)).expect("it is idle");
            let (waiting, _slot) = Waiting::new(0, |_: &mut Transaction<'_>| Ok(()));
            queue.push(vec![waiting], Instant::now() + Duration::from_secs(10)).expect("has room");
            assert_eq!(taken.join().expect("ends"), 1);
        });
        let (waiting, _slot) = Waiting::new(0, |_: &mut Transaction<'_>| Ok(()));
        queue.push(vec![waiting], Instant::now()).expect("has room");
        assert_eq!(queue.take(|| panic!("it is not idle")).len(), 1);
        drop(idle);
        assert!(is_idle.try_recv().is_err(), "it was idle once");
    }
}

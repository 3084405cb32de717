//! The locks of the library's own tests: `parking_lot`'s, which a task of a simulation waits for by letting another task go on.
//!
//! A writer that waits for an [`RwLock`] keeps new readers out, as `parking_lot`'s does: a deadlock that comes of that is found here, too.
//! Not modelled: in which order those who wait are served (any of them may be next), and the time that a lock takes.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::tasks::{self, Place};

/// Where those who wait for this are found.
fn place_of<T>(of: &T) -> Place {
    Place::at(std::ptr::from_ref(of).addr())
}

/// Takes a lock by `attempt`, or waits for it; `None` if the deadline came first.
fn take<G>(place: Place, until: Option<Instant>, attempt: impl Fn() -> Option<G>) -> Option<G> {
    tasks::pause();
    loop {
        if let Some(guard) = attempt() {
            return Some(guard);
        }
        if tasks::wait_for_lock(place, until) {
            return attempt();
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    of: &'a Mutex<T>,
    guard: Option<parking_lot::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let guard = if tasks::is_active() { take(place_of(self), None, || self.0.try_lock()) } else { Some(self.0.lock()) };
        MutexGuard { of: self, guard }
    }
}

impl<T> Mutex<T> {
    pub(crate) fn try_lock_for(&self, time: Duration) -> Option<MutexGuard<'_, T>> {
        let guard = if tasks::is_active() {
            take(place_of(self), Some(tasks::now() + time), || self.0.try_lock())
        } else {
            self.0.try_lock_for(time)
        };
        guard.map(|guard| MutexGuard { of: self, guard: Some(guard) })
    }
}

impl<T> MutexGuard<'_, T> {
    /// Runs `f` while the mutex is not locked.
    pub(crate) fn unlocked<U>(guard: &mut Self, f: impl FnOnce() -> U) -> U {
        guard.unlock();
        let done = f();
        guard.guard = guard.of.lock().guard.take();
        done
    }

    fn unlock(&mut self) {
        if self.guard.take().is_some() {
            tasks::wake_all(place_of(self.of));
        }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.unlock();
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("is locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("is locked")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(parking_lot::Condvar);

pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) const fn new() -> Condvar {
        Condvar(parking_lot::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        match &mut guard.guard {
            Some(guard) if !tasks::is_active() => self.0.wait(guard),
            _ => drop(self.wait_in_task(guard, None)),
        }
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        match &mut guard.guard {
            Some(guard) if !tasks::is_active() => WaitTimeoutResult(self.0.wait_until(guard, deadline).timed_out()),
            _ => self.wait_in_task(guard, Some(deadline)),
        }
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> WaitTimeoutResult {
        match &mut guard.guard {
            Some(guard) if !tasks::is_active() => WaitTimeoutResult(self.0.wait_for(guard, time).timed_out()),
            _ => self.wait_in_task(guard, Some(tasks::now() + time)),
        }
    }

    fn wait_in_task<T>(&self, guard: &mut MutexGuard<'_, T>, until: Option<Instant>) -> WaitTimeoutResult {
        guard.unlock();
        let timed_out = tasks::wait(place_of(self), until);
        guard.guard = guard.of.lock().guard.take();
        WaitTimeoutResult(timed_out)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
        tasks::wake_one(place_of(self));
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
        tasks::wake_all(place_of(self));
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T> {
    lock: parking_lot::RwLock<T>,
    waiting_writers: AtomicUsize,
}

pub(crate) struct RwLockReadGuard<'a, T> {
    of: &'a RwLock<T>,
    guard: Option<parking_lot::RwLockReadGuard<'a, T>>,
}

pub(crate) struct RwLockWriteGuard<'a, T> {
    of: &'a RwLock<T>,
    guard: Option<parking_lot::RwLockWriteGuard<'a, T>>,
}

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> RwLock<T> {
        RwLock { lock: parking_lot::RwLock::new(value), waiting_writers: AtomicUsize::new(0) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        let guard = if tasks::is_active() { self.read_in_task(None) } else { Some(self.lock.read()) };
        RwLockReadGuard { of: self, guard }
    }

    pub(crate) fn try_read_until(&self, deadline: Instant) -> Option<RwLockReadGuard<'_, T>> {
        let guard = if tasks::is_active() { self.read_in_task(Some(deadline)) } else { self.lock.try_read_until(deadline) };
        guard.map(|guard| RwLockReadGuard { of: self, guard: Some(guard) })
    }

    /// Not kept out by a writer that waits.
    pub(crate) fn try_read_recursive(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.lock.try_read_recursive().map(|guard| RwLockReadGuard { of: self, guard: Some(guard) })
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        let guard = if tasks::is_active() { self.write_in_task(None) } else { Some(self.lock.write()) };
        RwLockWriteGuard { of: self, guard }
    }

    pub(crate) fn try_write_for(&self, time: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        let guard =
            if tasks::is_active() { self.write_in_task(Some(tasks::now() + time)) } else { self.lock.try_write_for(time) };
        guard.map(|guard| RwLockWriteGuard { of: self, guard: Some(guard) })
    }

    fn read_in_task(&self, until: Option<Instant>) -> Option<parking_lot::RwLockReadGuard<'_, T>> {
        let is_kept_out = || self.waiting_writers.load(Ordering::SeqCst) > 0;
        take(place_of(self), until, || if is_kept_out() { None } else { self.lock.try_read() })
    }

    fn write_in_task(&self, until: Option<Instant>) -> Option<parking_lot::RwLockWriteGuard<'_, T>> {
        /// A writer that dies while it waits keeps nobody out.
        struct Waiting<'a>(&'a AtomicUsize, Place);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
                tasks::wake_all(self.1);
            }
        }
        self.waiting_writers.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting_writers, place_of(self));
        take(place_of(self), until, || self.lock.try_write())
    }
}

impl<T> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        tasks::wake_all(place_of(self.of));
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("is locked")
    }
}

impl<T> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        tasks::wake_all(place_of(self.of));
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("is locked")
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("is locked")
    }
}

/// A thread, or a task of a simulation.
pub(crate) enum JoinHandle<T> {
    Thread(std::thread::JoinHandle<T>),
    Task(Arc<End<T>>),
}

/// The end of a task.
pub(crate) struct End<T> {
    state: Mutex<Ended<T>>,
    came: Condvar,
}

enum Ended<T> {
    NotYet,
    With(T),
    /// Its process is dead, or it panicked.
    Died,
}

/// Tells of the end, however it comes.
struct Ends<T>(Arc<End<T>>);

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if matches!(*state, Ended::NotYet) {
            *state = Ended::Died;
        }
        drop(state);
        self.0.came.notify_all();
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinHandle")
    }
}

impl<T> JoinHandle<T> {
    /// Waits for its end.
    pub(crate) fn join(self) -> std::thread::Result<T> {
        match self {
            JoinHandle::Thread(thread) => thread.join(),
            JoinHandle::Task(end) => {
                let mut state = end.state.lock();
                loop {
                    match std::mem::replace(&mut *state, Ended::Died) {
                        Ended::With(value) => return Ok(value),
                        Ended::Died => return Err(Box::new("the task died")),
                        Ended::NotYet => *state = Ended::NotYet,
                    }
                    end.came.wait(&mut state);
                }
            }
        }
    }
}

/// Starts a thread of this name; inside a simulation, a task beside the one that starts it.
pub(crate) fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    if !tasks::is_active() {
        return std::thread::Builder::new().name(name.to_owned()).spawn(run).map(JoinHandle::Thread);
    }
    let end = Arc::new(End { state: Mutex::new(Ended::NotYet), came: Condvar::new() });
    let ends = Ends(Arc::clone(&end));
    tasks::spawn_beside(name, move || {
        let value = run();
        *ends.0.state.lock() = Ended::With(value);
    });
    Ok(JoinHandle::Task(end))
}

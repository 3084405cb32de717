//! Locks, condition variables and threads of everything whose order of events is proved: `parking_lot`'s and the system's.
//!
//! The library's own tests have others in their place (`cooperative`), which are the same outside of a simulation. Inside one, threads
//! are tasks on a single thread: who waits lets another task go on, a deadline is one of the simulated clock, and a seed decides who is
//! next (`tasks`). So the very code that runs in production is what a schedule interleaves.

#[cfg(test)]
mod cooperative;
#[cfg(test)]
pub(crate) mod explore;
#[cfg(test)]
pub(crate) mod marks;
#[cfg(test)]
pub(crate) mod tasks;

/// A place of which a test is to know that it was come by (`marks`); outside of the library's own tests it is nothing. The simulation
/// counts how often it met each. With a value, that is what it gives.
macro_rules! mark {
    ($name:literal) => {
        #[cfg(test)]
        $crate::sync::marks::met($name);
    };
    ($name:literal, $value:expr) => {{
        #[cfg(test)]
        $crate::sync::marks::met($name);
        $value
    }};
}
pub(crate) use mark;

#[cfg(test)]
pub(crate) use self::cooperative::{Condvar, JoinHandle, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, spawn};
#[cfg(not(test))]
pub(crate) use self::system::spawn;
#[cfg(not(test))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(test))]
pub(crate) use std::thread::JoinHandle;

#[cfg(not(test))]
mod system {
    use std::io;
    use std::thread::{Builder, JoinHandle};

    /// Starts a thread of this name.
    ///
    /// Errors: the system has no thread for it.
    pub(crate) fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
        Builder::new().name(name.to_owned()).spawn(run)
    }
}

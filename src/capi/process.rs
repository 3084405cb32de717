//! Which process the library works in. A child that was forked has a copy of the library's memory, but none of its threads: a call there
//! would wait for a thread that is not there, or write files that are the parent's.
//!
//! Invariant: once a process has opened something, its children are refused everything, also to open a store of their own, because
//! sled's threads are the process's. A check is one system call (getpid), before any lock is taken and anything is allocated.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Code, Error, Result};

/// The process that opened something; 0 before the first one.
static OPENER: AtomicU32 = AtomicU32::new(0);

/// This process is about to open something.
pub(super) fn opens() -> Result<()> {
    let here = std::process::id();
    match OPENER.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed) {
        Err(opener) if opener != here => Err(forked(opener, here)),
        _ => Ok(()),
    }
}

/// A handle, or what it was opened with, is used.
pub(super) fn is_the_openers() -> Result<()> {
    let (opener, here) = (OPENER.load(Ordering::Relaxed), std::process::id());
    // Nothing was opened yet: nobody's copy has it.
    if opener == here || opener == 0 { Ok(()) } else { Err(forked(opener, here)) }
}

#[cold]
fn forked(opener: u32, here: u32) -> Error {
    Error::new(
        Code::Forked,
        format!(
            "process {here} was forked by process {opener} after that one had opened a store: the library does nothing here. Use it in \
             the parent alone, or fork before anything is opened, or call exec in the child"
        ),
    )
}

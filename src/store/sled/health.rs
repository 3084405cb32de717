//! Whether the store still works: after its first failure it answers nothing until it is opened again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::error::{Code, Error, Result};

/// The first failure, kept. After a failed write or sync nobody knows which bytes are on the disk (the kernel may have
/// dropped them), so neither the tree in memory nor a second sync can be trusted; only opening verifies everything.
#[derive(Debug, Default)]
pub(super) struct Health {
    failure: OnceLock<Error>,
}

impl Health {
    /// The failure, if there was one.
    pub(super) fn check(&self) -> Result<()> {
        match self.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Runs `f`. Failure of the store itself, or a panic, is kept; other errors are only passed on.
    pub(super) fn watch<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(panicked(&*panic)));
        result.map_err(|error| if ends_the_store(&error) { self.fail(&error) } else { error })
    }

    /// Keeps a failure, and returns the one that is kept.
    pub(super) fn fail(&self, cause: &Error) -> Error {
        let text = format!("the embedded store failed and answers nothing until it is opened again: {cause}");
        self.failure.get_or_init(|| Error::new(Code::StoreFailed, text)).clone()
    }
}

fn ends_the_store(error: &Error) -> bool {
    matches!(error.code(), Code::StoreFailed | Code::StoreDamaged)
}

/// A caught panic as an error.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(Code::StoreFailed, format!("a panic: {}", text.unwrap_or("without a text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stays() {
        let health = Health::default();
        assert_eq!(health.check(), Ok(()));
        let refusal = Error::new(Code::EntryUnreadable, "one entry");
        assert_eq!(health.watch(|| Err::<(), _>(refusal.clone())), Err(refusal));
        assert_eq!(health.check(), Ok(()));
        let failure = health.watch(|| -> Result<()> { panic!("bit {}", 7) }).expect_err("is caught");
        assert_eq!(failure.code(), Code::StoreFailed);
        assert!(failure.message().ends_with("a panic: bit 7"), "{failure}");
        assert_eq!(health.watch(|| Err::<(), _>(Error::new(Code::StoreFailed, "later"))), Err(failure.clone()));
        assert_eq!(health.check(), Err(failure));
    }
}

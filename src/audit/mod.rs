//! The audit trail: one line of JSON for each change to a lock, and for each that was refused or failed.
//!
//! What it promises, and what not:
//! - A trail that cannot be written never fails an operation on a lock. The event is lost, counted, and a warning until a write
//!   succeeds again.
//! - A line is whole or, after a crash or on a full disk, the last one before a line break. It is one write(2), so several
//!   processes may write to one file; whoever moves the file away finds a new one begun. An empty line may stand between two:
//!   whoever opens the file while another's write is half done takes its line for a torn one, and closes it.
//! - A line is written once the store has answered. Lines of operations at the same time may stand in another order than the store
//!   made them in; the tokens of the grants tell.
//! - No fsync: a power failure may take the last moments' lines. The locks do not depend on them, and a flush for each would
//!   cost every change as much as its own durability.
//! - No secret: of a lock's value, which holds a clone URL with a token, only the fields of [`Holder`] are ever read.

mod event;
mod file;
#[cfg(test)]
mod tests;
mod trail;

pub use self::event::{By, Event, Holder, Kind};
pub use self::file::AuditLog;
pub use self::trail::Trail;

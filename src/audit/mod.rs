//! The audit trail: one line of JSON for each change to a lock, for each that was refused or failed, and for what opens or shuts the door.
//!
//! What it promises, and what not:
//! - A line says who did it (`by`) and by which way (`via`), as whoever asked has said it ([`Actor`]); what was not said is absent, and never
//!   guessed. The holder of a released lock is `holder`.
//! - A trail that cannot be written never fails an operation on a lock. The event is lost, counted, and a warning until a write
//!   succeeds again. With `locking.audit.required` it is the other way round: a line of its own (`intent`) is on the disk before the store
//!   is asked, or the store is not asked. What came of it is another line, with the same `request`. An intent without one: it is not known
//!   what came of it. What hybrid mode's recovery does is no new decision, and has no intents.
//! - Each line has the hash of the line before ([`struct@Hash`]), also across files, so that [`verify`] finds one that is missing, changed or moved.
//!   A line is written under a lock of the file (flock), by one write(2): several processes may write to one file. Who cannot have the lock
//!   for a second loses its line.
//! - A line is whole or, after a crash or on a full disk, cut short. The next line closes it, and has the hash of what is there: so it is
//!   told from a line that somebody cut afterwards.
//! - A full file is moved to `.1`; the oldest one that is too many is removed once an entry (`dropped`) has its last hash.
//! - A line is written once the store has answered. Lines of operations at the same time may stand in another order than the store
//!   made them in; the tokens of the grants tell.
//! - Without `required` no fsync: a power failure may take the last moments' lines. The locks do not depend on them, and a flush for each would
//!   cost every change as much as its own durability.
//! - No secret: of a lock's value, which holds a clone URL with a token, only the fields of [`Holder`] are ever read.
//!
//! | file | what it does |
//! |---|---|
//! | `actor` | who, and by which way |
//! | `event` | what a line says |
//! | `entry` | the same, told by a program |
//! | `trail` | what the service's answers come to |
//! | `log` | all sinks of a process, and what they lost |
//! | `chain`, `file`, `stdout` | hashes, the file, stdout |
//! | `verify` | whether a trail is whole |

mod actor;
mod chain;
mod entry;
mod event;
mod file;
mod log;
mod stdout;
#[cfg(test)]
mod tests;
mod trail;
mod verify;

pub use self::actor::{Actor, By, Person, Via};
pub use self::chain::Hash;
pub use self::entry::{Entry, Recorder};
pub use self::event::{Dropped, Event, Holder, Kind};
pub use self::log::AuditLog;
pub use self::trail::Trail;
pub use self::verify::{Finding, Verified, verify};

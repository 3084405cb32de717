//! Shadow mode: another store is written and asked as well, and never believed, so that a team can compare both before it
//! switches.
//!
//! Invariant: what a caller is answered, how long that takes, and whether it fails, never depends on the shadow. The store that
//! decides has answered before the shadow hears of the operation; whoever tells it pushes onto a bounded queue and waits for
//! nobody; a thread of its own asks the shadow's store. Nothing leads back from there to an answer.
//!
//! Faults survived: a shadow that hangs, fails, panics, lies about everything, cannot be opened, or is too slow: its operations
//! are counted as `failed` or `dropped`, and it is filled again when it answers. Closing waits for it for two seconds.
//!
//! What is compared is in `compare`; in which order, in `traffic`; what must not become a shadow, in `open`.
//!
//! What it cannot see: operations of other servers on the same store, and programs that change the store behind this server's
//! back. A lock that they take or release is counted as a difference. Command locks and pull statuses, which no store lists, are
//! compared from their second operation on. With a queue, who is next is decided once: the shadow compares locks, and no places.

mod compare;
mod counts;
mod observed;
mod open;
mod tapped;
mod tell;
#[cfg(test)]
mod tests;
mod thread;
mod told;
mod traffic;
mod trust;

pub use self::counts::{Difference, Report, State};
pub use self::observed::{Answer, Asked, Condition, Said};
pub use self::open::Decides;
pub use self::tapped::Tapped;
pub use self::tell::{Shadow, Ticket};
pub use self::thread::Fill;
pub use self::told::Told;

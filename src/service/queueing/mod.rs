//! Waiting for locks: what the queue of a repository (`crate::queue`) means for the operations.
//!
//! | file | what it does |
//! |---|---|
//! | `change` | changes a queue by compare-and-swap, and then says at each key what grants obey |
//! | `attempt` | one try to take a lock, in order, and joining the queue when that is refused |
//! | `wait` | a caller who waits until it has the lock |
//! | `runs` | a plan, apply or unlock of a pull from begin to end: what it gives up meanwhile is given up at its end |
//! | `sets` | all locks of a plan, or none newly |
//! | `wait_set` | a caller who waits until it has all locks of a set |
//! | `next` | whose turn it is: a server plans that pull by itself |
//! | `json` | what these operations take and answer, for whoever is not Rust |
//! | `tick`, `nudge` | looks at each queue now and then, or soon |
//! | `deadlock`, `seen` | pulls that wait for each other in a circle |
//! | `freeze`, `frozen` | locks that nobody is to take for now |
//! | `explain` | why a lock is as it is, and what would free it |
//! | `memory`, `open_runs`, `place`, `counts` | what one process knows beside the store |
//! | `carry` | what goes along when a server that runs opens other stores |
//! | `look` | who waits where, what a grant is worth, counters |
//!
//! Invariants:
//! - Order only refuses: a lock is taken by [`Store::grant`](crate::store::Store::grant) for a caller who asks for it, and released because a
//!   person, Atlantis, or the end of its command asked for that. Nothing here takes a lock from its holder, and nothing expires.
//! - A queue that cannot be read or written fails no lock: the caller is answered as without a queue, and the status says so.
//! - With the queue off, no document and no gate is read or written; nor of a repository that `priority_queue.repos` leaves out. What is there
//!   from before stays, and counts for nothing.
//!
//! Faults survived: a crash between any two steps. Two steps stand apart: the queue's document, and the gate beside each lock. The document
//! is written first, and says which gates there are; the next tick puts right what a crash left. A key that is free and gated without anybody
//! behind it is opened by the next who asks.

pub(super) mod attempt;
pub mod carry;
mod change;
mod counts;
pub mod deadlock;
pub mod explain;
pub mod freeze;
mod frozen;
pub mod json;
pub mod look;
pub(super) mod memory;
pub mod next;
mod nudge;
pub mod open_runs;
pub mod place;
pub mod runs;
mod seen;
mod sets;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod tick;
pub(super) mod ticker;
pub mod wait;
pub mod wait_set;

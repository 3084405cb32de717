//! The order in which pulls that were refused a lock get it: the queue of one repository, as a pure state machine. It knows no store,
//! no clock and no lock list; whoever calls reads the document, looks at the locks, and swaps the document if nobody else did.
//!
//! **The rule.** A queue only ever refuses. It grants no lock, releases none, and takes none away; so the worst that a wrong queue
//! does is a wait, and two pulls never hold one lock because of it.
//!
//! # Words
//! - A **queue** is a repository's: all of its tickets, in one order.
//! - A **ticket** is one waiting pull with the keys that it wants. It waits for *each* of them, or for the *whole* set.
//! - A **reservation** keeps a free key for one ticket, for a while. A key of a set may be **collected** before: it is kept until the
//!   whole set is there.
//! - The **gate** of a key is what a grant obeys. It is derived from the tickets, and stands beside the lock: open (nobody waits),
//!   closed (somebody waits), reserved (to this pull).
//!
//! ```text
//!            join                    free, and first                   took
//! (no ticket) ────► Waiting ────────────────────────► Reserved ───────────────────► the key leaves its ticket;
//!                    │  ▲                                │  │                       the last key ends the ticket
//!                    │  └── missed · another has it ─────┘  │
//!                    └──── leave · took · missed 3 times ───┘
//! ```
//!
//! # Order
//! By `since − head start × aging`, then by `seq`; head starts are low −1, normal 0, high 1, critical 3. One order for all keys of a
//! repository, so tickets never wait for each other in a circle. A priority is a bounded advantage: no ticket is passed by one that
//! joined more than `4 × aging` later by its server's clock. `since` is never before that of a ticket that is there, so a server whose clock is late lets
//! nobody pass. A clock that is far ahead makes the classes alone decide, until the ticket that it made is gone.
//!
//! A whole set is passed on keys that it cannot use yet (Kueue's `BestEffortFIFO`), until it is `collect_after` old; then what gets
//! free of it is kept for it (`StrictFIFO`). One ticket of a queue collects at a time, so that no two hold what the other needs.
//! The FIFO locks of ZooKeeper and etcd are no model here: their waiters are sessions, and a session's end loses the place. A pull
//! waits for days, over restarts of everybody.
//!
//! # Invariants
//! - L1 No method grants or releases.
//! - L2 A key is reserved to at most one ticket.
//! - L3 After a dispatch that looked at all keys, no key is closed and free while somebody could use it.
//! - L4 Who could use a key is not passed by a later ticket, but for one dispatch after a reservation that it missed. A set could use
//!   its keys when it could have all, or when it collects. A key that a ticket yields ([`cycle`]) it could not use.
//! - L5 A ticket ends because it took what it wanted, left, or missed three reservations.
//! - L6 A ticket's `seq` and `since` stay what they are, and a key is in a ticket because its pull asked for it.
//!
//! # Faults
//! - *A crash between any two steps of a caller.* The gate that was closed without a ticket is opened by the next dispatch of that
//!   key; a reservation ends by its time; a set half granted is named by its ticket ([`Queue::given_up`]).
//! - *A stock server on the same Redis knows no gate and takes a reserved key.* The reservation is undone, the place stays.
//! - *Two servers at once, one with an old look at the locks.* The document is swapped by compare-and-swap; an old look reserves a
//!   key that is held, and the next dispatch undoes that.
//! - *The document is lost.* All places are, and no lock.
//! - *The document went on in two places* (fallback): [`merge`].
//! - *The document is damaged, or newer:* an error, and nothing is written over it.

mod asker;
mod change;
pub mod cycle;
mod dispatch;
mod document;
mod format;
pub mod freeze;
mod gate;
mod merge;
mod order;
mod state;
mod ticket;

#[cfg(test)]
mod tests;

pub use dispatch::{Event, Holder};
pub use document::revision;
pub use gate::{Gate, lets_in};
pub use merge::merge;
pub use order::Rules;
pub use state::Queue;
pub use ticket::{Acquiring, Digest, Priority, PullId, Ticket, Waiter, Want};

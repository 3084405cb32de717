//! The embedded store: a sled tree in a folder of this machine.
//!
//! Invariants:
//! - A key has at most one holder (P1). One thread makes all changes, one after the other, each against the state that the
//!   ones before it left (`committer.rs`, `transaction.rs`).
//! - A change is acknowledged only after its group is durable, in the journal or in sled's own log (P2; `journal.rs`).
//! - Fencing tokens of the store strictly increase, across restarts too, and when the wall clock is set back: the last one is
//!   in the meta record of every batch.
//! - What is acknowledged is at the store's path, where nobody else can open one (`ground.rs`).
//! - An open store was whole when it was opened: every entry that was ever acknowledged, and nothing else (`open.rs`).
//!
//! Faults survived without losing anything acknowledged: kill -9 at any point, power loss, a full disk, a failed or torn
//! write, a failed sync of which the kernel forgets what it should have written. `crash_tests` tries them at each operation on a
//! file.
//!
//! Faults detected, and refused with a text that says what to do: a damaged, truncated or emptied `sled/`, one that is older
//! than the journal reaches back, a journal that is missing, emptied, or damaged before its end; a missing file. Not detected:
//! the last record of the journal damaged, the journal or the whole folder replaced by an older copy while the store is closed; a
//! `sled/` that is damaged after a crash tore the first record behind an opening or a checkpoint, which stands where the records
//! before were.
//!
//! While it is open: its files moved, deleted, replaced or mounted over; nothing is acknowledged from then on (`ground.rs`).
//!
//! After the first I/O error the store answers nothing until it is opened again (`health.rs`).
//!
//! What is sealed, and how: `crate::sealing`; where in the store: `record.rs`, `sealed.rs`. What deletes a released lock's value for good: `compact.rs`.
//!
//! A read shows only what is durable, but for a group too large for the journal: that is applied first, and undone should the
//! machine lose power before it is durable; nobody was told by then that it succeeded.

mod changes;
mod committer;
mod compact;
#[cfg(test)]
mod crash_tests;
mod database;
mod files;
mod folder;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod ground;
mod group;
mod health;
mod history;
mod host_marks;
mod job;
mod journal;
mod key_state;
mod local;
mod meta;
mod moved;
mod open;
mod owned;
mod pull_index;
mod read;
mod read_only;
mod record;
mod rekey;
mod remembered;
mod resealing;
mod sealed;
#[cfg(test)]
pub(crate) mod simulated;
mod step;
mod store;
mod system_files;
mod to_migrate;
mod transaction;
mod tree;
mod trim;

pub use self::compact::Compacted;
pub use self::read_only::SledReader;
pub use self::resealing::Resealed;
pub use self::step::{Step, StepHook};
pub use self::store::SledStore;

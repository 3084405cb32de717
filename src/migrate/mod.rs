//! Moving all locks from one store to another while no server runs: BoltDB file, embedded store, Redis, Redis Cluster, in each direction; and
//! back.
//!
//! What is to be done with a key is said by recovery's own rules (`merge`, `hybrid::resolve`), with the source as the one that has decided.
//!
//! Invariants:
//! - **At most one of the two stores can be opened by a server at any moment**, and from the first change to the last neither can. Before
//!   anything is copied both have a mark on their disks (`store::moved`), which each opening of this library looks for and refuses; at the
//!   end the source's says where its locks are, and the target's that it decides, which refuses nobody. Hybrid mode does not fall back from a
//!   Redis that is refused.
//! - What a command had finished is not done again, however late its manifest is: who decides is told by the marks, which change last.
//! - A lock in the target is never overwritten or removed unless its bytes are known to be a migration's own, or were said to be old.
//! - The source is not changed but for its mark; its entries go only by `clean_up`, once the target decides, each if it is still what the
//!   backup names.
//! - Fencing tokens go along, and never go back: the target decides only when its clock has passed the source's last token.
//! - Nothing is asked of memory: what is left to do follows from the two stores, the backup (what both had before) and the phase in the
//!   manifest, which is on the disk before its work begins.
//!
//! Faults survived: kill -9 and power loss anywhere (the same command goes on; or `rollback` undoes); a store that goes away in the middle,
//! and a lost answer (an error, and then the same); one that comes back without its data (a loss is told from a release, because nobody can
//! release while the marks are there: it is refused, and a rollback puts back what the backup has); a second migration (the folder's lock, and the marks, which are compared and set); a
//! server that starts in between (it is refused by the mark, or by the embedded store's lock); a crash between the two marks' last changes
//! (both refuse until the command is given again); an entry that cannot be read (skipped and named, or with `strict` nothing is done).
//!
//! What one of both cannot have (a BoltDB file has no queues, freezes and tokens) is skipped and named; the way back leaves that as it was.
//!
//! Not covered: a stock server that uses a Redis meanwhile looks for no mark. Its connection is seen before the migration begins, and what
//! it changes is seen until the comparison ends; after that nobody looks.
//!
//! What goes along: locks and command locks with their tokens, pull statuses, queues, freezes. What does not: who announced itself, the
//! memory of requests for their retries, tombstones and what else a store remembers of *its* Redis, conflicts that were reported, gates (the
//! queue gives them anew). The audit trail is a file, and stays.
//!
//! BoltDB files are read and written by Atlantis's own code alone, which the linked server's program has (`boltdb_place`).

mod backup;
mod boltdb_place;
mod bring;
mod clean;
mod entry;
mod execute;
mod files;
mod manifest;
mod merge;
mod open;
mod place;
mod redis_place;
mod report;
mod restore;
mod rollback;
mod side;
mod sled_place;
mod verify;

pub use self::boltdb_place::{Access, HostFiles};
pub use self::entry::Skipped;
pub use self::execute::{execute, plan};
pub use self::manifest::{Manifest, ManifestSide, Phase};
pub use self::merge::{Conflict, OnConflict};
pub use self::open::{Options, Silent, Tell};
pub use self::report::Report;
pub use self::restore::restore;
pub use self::rollback::rollback;
pub use self::side::{Named, Side};
pub use self::verify::{Verified, verify};

//! A simulated disk for the real engine: journal, groups, checkpoints and opening run over it unchanged, through `files.rs`.
//!
//! | file | models | cannot express |
//! |---|---|---|
//! | `file` | a file's durable bytes, and what was written since: of that a crash keeps any sectors of 512 bytes, each in any version that it had, and any length; a sync that fails forgets what it should have written, while reading shows it | old content of other files in sectors that were never written |
//! | `disk` | folders, of whose changes since the last sync a crash keeps a beginning, folder by folder; a full disk; an older copy put back; a flipped byte | names of one folder that survive in another order than they were made; renames from folder to folder |
//! | `process`, `handle` | who uses the disk until it dies: each operation fails, is done by half, hangs, or is the last one, as a hook says; locks | reading past the end of a file that is cut meanwhile |
//! | `database` | what the engine relies on of sled | what sled does beyond that: see there |
//!
//! Deterministic: whatever happens by chance is drawn from what the caller gives, and nothing has a time or a thread of its own.

mod database;
mod disk;
mod file;
mod handle;
mod process;
mod random;

pub(crate) use self::disk::{Disk, Image};
pub(crate) use self::process::{Fate, Hook, Operation, Process, What};
pub(crate) use self::random::Random;

//! atlock: the locking layer of an Atlantis server, with a C ABI (`include/atlock.h`) over a safe Rust API ([`service`]).
//!
//! ```text
//! capi     the C ABI: casts, ownership, panic guard
//! service  one method for each operation
//! socket   by which other programs ask the running server
//! shadow   another store that is compared with the one that decides
//! mode     strict, native or hybrid: opens what a mode needs, hands locks over from one to another
//! migrate  all locks from one store to another while no server runs, and back
//! migration_command  the commands for that: typed, done, told
//! look     the stores of a server that does not run, of which nothing is changed
//! hybrid   Redis, and the local store in its place: fallback, recovery
//! store    sled (embedded), redis (shared), host (the program's own), reference (for tests); contract: what hybrid asks of them
//! queue    in which order those who wait for a lock get it: pure
//! sealing  encryption of what is stored on this machine
//! domain   what locks are: names, JSON, who holds them
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use atlock::{clock::SystemClock, config::Config, service::Service, store::Granted};
//!
//! # fn main() -> atlock::error::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let settings = format!("locking: {{backend: sled, data_dir: {:?}}}", folder.path());
//! let locks = Service::open(&Config::parse(&settings, "example")?, None, Arc::new(SystemClock))?;
//! let lock = br#"{"Project":{"RepoFullName":"acme/infra","Path":"."},"Workspace":"default","Pull":{"Num":1}}"#;
//! assert!(matches!(locks.try_lock(lock)?, Granted::Yes { .. }));
//! assert!(matches!(locks.try_lock(lock)?, Granted::Held { .. }));
//! assert_eq!(locks.unlock_by_pull("acme/infra", 1)?.len(), 1);
//! # Ok(())
//! # }
//! ```

pub mod audit;
pub mod call;
pub mod capi;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod health;
pub mod hybrid;
pub mod look;
pub mod metrics;
pub mod migrate;
pub mod migration_command;
pub mod mode;
pub mod operation;
mod private_file;
pub mod process;
pub mod queue;
mod redact;
pub mod sealing;
pub mod service;
pub mod shadow;
pub mod socket;
pub mod store;
mod sync;

//! atlock: the locking layer of an Atlantis server.

pub mod clock;
pub mod config;
pub mod error;
pub mod key;
pub mod model;
pub mod store;

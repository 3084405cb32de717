//! The C ABI: casts, ownership and a panic guard; nothing else. `include/atlock.h` is generated from here, and its
//! preamble (`cbindgen.toml`) states the rules that hold for every function.
//!
//! The modules stand in the order in which the header declares what they hold.
#![allow(unsafe_code)]

mod caller;
mod entry;
mod process;

pub mod version;

pub mod status;

pub mod handle;

pub mod change;

pub mod lock;

pub mod wait;

pub mod run;

pub mod queue;

pub mod command;

pub mod pull_status;

pub mod info;

pub mod explain;

pub mod audit;

pub mod shadow;

#[cfg(feature = "default-instance")]
pub mod default_instance;

pub mod migration;

pub mod host_store;

pub mod buffer;

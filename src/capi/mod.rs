//! The C ABI: casts, ownership and a panic guard; nothing else. `include/atlock.h` is generated from here, and its
//! preamble (`cbindgen.toml`) states the rules that hold for every function.
#![allow(unsafe_code)]

pub mod buffer;
pub mod command;
#[cfg(feature = "default-instance")]
pub mod default_instance;
mod guard;
pub mod handle;
pub mod host_store;
pub mod info;
mod input;
pub mod lock;
pub mod pull_status;
pub mod status;

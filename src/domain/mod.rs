//! What locks are, apart from any store: their names, their JSON, who holds them.

pub mod json;
pub mod key;
pub mod limits;
pub mod lock;
mod lock_reader;
pub mod pattern;
mod scan;
pub mod token;

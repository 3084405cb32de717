//! What a store must be able to do so that hybrid mode (`crate::hybrid`) can keep it beside another one.

pub mod copy;
pub mod local;
mod redis_record;
pub mod shared;

//! Placeholder, replaced by the redis store.

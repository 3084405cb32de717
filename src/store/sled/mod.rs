//! Placeholder, replaced by the sled store.

//! What the simulated server has: keys, what stands at each, and until when.

use std::collections::{BTreeMap, BTreeSet};

/// What a command answers; an error's text begins with its code.
pub(super) type Answer = Result<redis::Value, String>;

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// What stands at a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    Text(Vec<u8>),
    /// In the order in which a small hash of Redis has its fields.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    Set(BTreeSet<Vec<u8>>),
    Sorted(BTreeMap<Vec<u8>, f64>),
}

impl Stored {
    /// As `TYPE` calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Stored::Text(_) => "string",
            Stored::Hash(_) => "hash",
            Stored::Set(_) => "set",
            Stored::Sorted(_) => "zset",
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Stored::Text(_) => false,
            Stored::Hash(fields) => fields.is_empty(),
            Stored::Set(members) => members.is_empty(),
            Stored::Sorted(members) => members.is_empty(),
        }
    }
}

/// A key's content, and its end, if it has one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) stored: Stored,
    /// Milliseconds since 1970.
    pub(crate) expires: Option<u64>,
}

/// All keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Data {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// No entry ends before.
    soonest: Option<u64>,
}

macro_rules! reads {
    ($read:ident, $variant:ident, $type:ty) => {
        pub(super) fn $read(&self, key: &[u8]) -> Result<Option<&$type>, String> {
            match self.entries.get(key).map(|entry| &entry.stored) {
                None => Ok(None),
                Some(Stored::$variant(found)) => Ok(Some(found)),
                Some(_) => Err(WRONG_TYPE.to_owned()),
            }
        }
    };
}

macro_rules! collection {
    ($read:ident, $write:ident, $variant:ident, $type:ty) => {
        reads!($read, $variant, $type);

        /// Makes it, if nothing is there.
        pub(super) fn $write(&mut self, key: &[u8]) -> Result<&mut $type, String> {
            let new = || Entry { stored: Stored::$variant(<$type>::default()), expires: None };
            match &mut self.entries.entry(key.to_vec()).or_insert_with(new).stored {
                Stored::$variant(found) => Ok(found),
                _ => Err(WRONG_TYPE.to_owned()),
            }
        }
    };
}

impl Data {
    reads!(text, Text, Vec<u8>);
    collection!(hash, hash_mut, Hash, Vec<(Vec<u8>, Vec<u8>)>);
    collection!(set, set_mut, Set, BTreeSet<Vec<u8>>);
    collection!(sorted, sorted_mut, Sorted, BTreeMap<Vec<u8>, f64>);

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Vec<u8>, &Entry)> {
        self.entries.iter()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        self.entries.remove(key).is_some()
    }

    /// A collection that has become empty is no key.
    pub(super) fn tidy(&mut self, key: &[u8]) {
        if self.entries.get(key).is_some_and(|entry| entry.stored.is_empty()) {
            self.entries.remove(key);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Data::default();
    }

    /// Replaces what is there, whatever it is.
    pub(super) fn put(&mut self, key: &[u8], stored: Stored, expires: Option<u64>) {
        self.entries.insert(key.to_vec(), Entry { stored, expires });
        self.note(expires);
    }

    /// Whether the key is there, which then ends at this moment.
    pub(super) fn set_end(&mut self, key: &[u8], expires: Option<u64>) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        entry.expires = expires;
        self.note(expires);
        true
    }

    fn note(&mut self, expires: Option<u64>) {
        self.soonest = self.soonest.into_iter().chain(expires).min();
    }

    /// Removes what has ended before this moment, milliseconds since 1970.
    pub(super) fn expire(&mut self, now: u64) {
        if self.soonest.is_some_and(|soonest| soonest < now) {
            self.entries.retain(|_, entry| entry.expires.is_none_or(|end| end >= now));
            self.soonest = self.entries.values().filter_map(|entry| entry.expires).min();
        }
    }
}

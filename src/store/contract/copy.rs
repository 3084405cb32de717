//! What crosses between hybrid mode and a store that is kept as a copy: see [`crate::store::host`].

use super::local::EntryKey;

/// An entry as it was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Which entry.
    pub key: EntryKey,
    /// Its bytes, which may be no JSON; `None` if they are not even UTF-8.
    pub value: Option<Vec<u8>>,
}

/// All that was found there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDump {
    /// Every entry.
    pub entries: Vec<HostEntry>,
    /// The mark of the last change that had one; `None` if there never was one.
    pub mark: Option<HostMark>,
}

/// A mark, as a host store gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMark {
    /// Its text.
    pub text: String,
    /// Whether anything was written since, by whomever.
    pub written_since: bool,
}

/// A change to make there.
#[derive(Clone, Copy, Debug)]
pub struct HostWrite<'a> {
    /// Which entry.
    pub key: &'a EntryKey,
    /// What to store there, UTF-8; `None` deletes.
    pub value: Option<&'a [u8]>,
}

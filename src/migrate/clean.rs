//! Removing from the source what was moved.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::merge::Step;
use super::place::Place;
use crate::error::Result;
use crate::store::contract::local::EntryKey;

/// Removes these entries from a store, each if it is still what the backup has: at the key at which it stands, be that an old one. How many.
pub(super) fn clean(store: &dyn Place, moved: &BTreeMap<EntryKey, Entry>) -> Result<usize> {
    let there = store.survey()?;
    let is_same = |key: &EntryKey, entry: &Entry| moved.get(key).is_some_and(|moved| moved.held.value == entry.held.value);
    let same = there.entries.into_iter().filter(|(key, entry)| is_same(key, entry));
    let steps: Vec<Step> = same.map(|(_, entry)| Step { key: entry.at, seen: Some(entry.held), new: None }).collect();
    store.make(&steps)
}

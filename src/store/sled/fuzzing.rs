//! The readers of what is on the disk, for `crate::fuzzing`.
#![allow(clippy::expect_used)] // a panic is what they tell by

use sled::IVec;

use super::group::Group;
use super::history::History;
use super::host_marks::decode_mark;
use super::journal::scan;
use super::record::Stored;
use super::remembered::decode_conflict;
use crate::error::Code;

/// A journal: whole, and one record's payload.
pub(crate) fn journal(bytes: &[u8]) {
    for payload in scan(bytes).values().map(Vec::as_slice).chain([bytes]) {
        match Group::decode(payload) {
            Ok(group) => assert_eq!(group.encode(), payload, "a group changes by being read"),
            Err(e) => assert_eq!(e.code(), Code::StoreDamaged),
        }
    }
}

/// What is at a key of the tree; the first byte is the key's length.
pub(crate) fn record(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(*length).min(rest.len()));
    if let Ok(stored) = Stored::decode(key, IVec::from(value)) {
        let nothing_more = |_: &[u8]| Ok(None);
        // What is longer than its first part is damaged here.
        drop(stored.open(key, &crate::sealing::PLAIN, nothing_more));
    }
    if let Ok((name, history)) = History::decode(key, value) {
        let written = history.encode(&name).expect("what was read is written");
        let (again, history) = History::decode(key, &written).expect("what was written is read");
        assert_eq!((&again, history.encode(&name)), (&name, Ok(written)), "a history changes by being read");
    }
    drop(decode_mark(key, value));
    drop(decode_conflict(value));
}

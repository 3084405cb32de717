//! What the start makes of the host store's content: whether it is believed, and what follows for each key.
//!
//! Invariants:
//! - A lock counts as released because the host store lacks it only where that is known to be the very content that this server wrote
//!   last, and to have been changed by somebody else since (P1: when in doubt, the lock stays). A store that is new, empty, put
//!   back from a backup, or another server's, proves nothing by what it lacks.
//! - A lock in it that is unknown here is taken over, unless it is known to have been here and released.
//!
//! How it is known: each write carries a *mark*, this server's name and a number that grows by one, which the host store keeps in
//! the same step; the local store writes down the number before (may be there) and after (is there). The host store tells whether
//! anything was written after the mark. Where the content is not believed, the numbers go on at the time, or behind the mark that is there
//! ([`go_on`]): no content from before bears one of those, nor one that an older copy of the local store was about to write.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::store::contract::copy::{HostDump, HostMark};
use crate::store::contract::local::{Change, EntryKey, Held, HostCopy, HostLacks, KeyState, LocalStore, digest};

/// Whether the host store's content is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// There was nothing but the host store before: all that is in it is so.
    First,
    /// It is what this server wrote last, and nothing was written since.
    Copy,
    /// The same, and somebody else wrote since: what differs was decided there.
    Changed,
    /// It is not known to be what this server wrote last.
    Doubted {
        /// Why.
        why: &'static str,
        /// Whether it is what this server wrote some time before that: an old backup.
        is_old: bool,
    },
}

impl Belief {
    pub(super) fn is_doubt(&self) -> bool {
        matches!(self, Belief::Doubted { .. })
    }
}

/// The mark with this number.
pub(super) fn mark(instance: &str, seq: u64) -> String {
    format!("{seq} {instance}")
}

/// What is believed of a store that bears this mark; `copy` is what is remembered of it, and `instance` this server's name.
pub(super) fn judge(mark: Option<&HostMark>, copy: HostCopy, instance: &str) -> Belief {
    let doubted = |why, is_old| Belief::Doubted { why, is_old };
    let Some(mark) = mark else {
        return doubted(
            "it bears no mark: it is new, or was written by another program or an older version of this library",
            false,
        );
    };
    match read(mark) {
        Some((seq, name)) if name == instance => {
            if seq == copy.seq || (copy.applying && seq == copy.seq + 1) {
                return if mark.written_since { Belief::Changed } else { Belief::Copy };
            }
            if seq < copy.seq {
                return doubted("it is older than what was last written to it: a backup was put back", !mark.written_since);
            }
            doubted("it is newer than the local store: an older copy of locking.data_dir was put back", false)
        }
        _ => doubted("it bears another server's mark, or one of this server before locking.data_dir was new", false),
    }
}

/// What is remembered of the host store from now on, once all that follows from its content is: no number is used twice. `now` is in
/// microseconds since 1970.
pub(super) fn go_on(belief: &Belief, mark: Option<&HostMark>, copy: HostCopy, instance: &str, now: u64) -> Option<Change> {
    let there = mark.and_then(read).filter(|(_, name)| *name == instance).map(|(seq, _)| seq);
    let seq = match belief {
        Belief::Doubted { .. } => now.max(copy.seq + 2).max(there.map_or(0, |there| there + 1)),
        Belief::Copy | Belief::Changed if there == Some(copy.seq + 1) => copy.seq + 1,
        _ => return None,
    };
    Some(Change::HostCopy(HostCopy { seq, applying: false }))
}

fn read(mark: &HostMark) -> Option<(u64, &str)> {
    mark.text.split_once(' ').and_then(|(seq, name)| Some((seq.parse().ok()?, name)))
}

/// What the local store knows.
pub(super) struct Known {
    all: BTreeMap<EntryKey, KeyState>,
    /// Of which keys the host store lacks the value, and what it may have there.
    lacking: BTreeMap<EntryKey, Vec<Option<[u8; 32]>>>,
}

impl Known {
    pub(super) fn of(local: &dyn LocalStore) -> Result<Known> {
        let lacking = local.host_lacks(usize::MAX)?.into_iter().map(|mark| (mark.key, mark.there)).collect();
        // Of what stock never has, its content says nothing.
        let all = local.everything()?.into_iter().filter(|(key, _)| key.is_stocks()).collect();
        Ok(Known { all, lacking })
    }

    fn value(&self, key: &EntryKey) -> Option<&Held> {
        self.all.get(key).and_then(|local| local.value.as_ref())
    }

    /// Whether the host store has what was copied there; or both changed, and a lock that was taken here is copied where none is
    /// there.
    fn is_behind(&self, key: &EntryKey, there: Option<[u8; 32]>) -> bool {
        self.lacking.get(key).is_some_and(|copied| copied.contains(&there) || there.is_none())
    }

    /// Whether this value was here and was given up: its tombstone says so, or that it was copied and is to be replaced there. The latter is
    /// known however often the key has changed hands since.
    fn was_here(&self, key: &EntryKey, value: [u8; 32]) -> bool {
        let was_copied = self.lacking.get(key).is_some_and(|copied| copied.contains(&Some(value)));
        was_copied || self.all.get(key).is_some_and(|local| local.tombstones.iter().any(|old| old.digest == value))
    }
}

/// Of what the host store lacks, that in whose place somebody else took something there since.
pub(super) fn decided_there(dump: &HostDump, mut lacking: Vec<HostLacks>) -> Vec<HostLacks> {
    let theirs: BTreeMap<&EntryKey, Option<&Vec<u8>>> = dump.entries.iter().map(|e| (&e.key, e.value.as_ref())).collect();
    let there = |key: &EntryKey| theirs.get(key).copied().flatten().map(|value| digest(value));
    lacking.retain(|mark| there(&mark.key).is_some_and(|there| !mark.there.contains(&Some(there))));
    lacking
}

/// What follows from the host store's content.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What the local store is handed.
    pub changes: Vec<Change>,
    /// Locks that were released there.
    pub released: Vec<(EntryKey, Held)>,
    /// Locks that were taken there.
    pub taken: Vec<(EntryKey, Held)>,
}

impl Findings {
    /// The host store's value holds.
    fn take(&mut self, key: &EntryKey, ours: Option<&Held>, theirs: Option<&Vec<u8>>, token: FencingToken) {
        let held = theirs.map(|value| Held { value: value.clone(), token });
        if key.lock().is_some() {
            self.released.extend(ours.map(|held| (key.clone(), held.clone())));
            self.taken.extend(held.clone().map(|held| (key.clone(), held)));
        }
        self.changes.push(Change::SetHere(key.clone(), held));
        self.has(key, theirs);
    }

    /// What is written, in this order: what is taken over, of which the host store lacks all until the end; from where its marks go on; what it
    /// has. A crash in between leaves no mark by which other content than this would be believed, and nothing that is not taken over.
    pub(super) fn in_order(&self, goes_on: Option<Change>) -> Vec<Change> {
        let (there, taken): (Vec<Change>, Vec<Change>) =
            self.changes.iter().cloned().partition(|change| matches!(change, Change::Copied(..)));
        taken.into_iter().chain(goes_on).chain(there).collect()
    }

    /// The host store has this value; if it is not the one here, that is to be copied.
    fn has(&mut self, key: &EntryKey, theirs: Option<&Vec<u8>>) {
        self.changes.push(Change::Copied(key.clone(), theirs.map(|value| digest(value))));
    }
}

/// Compares both stores' content, key by key.
pub(super) fn compare(belief: &Belief, dump: &HostDump, known: &Known, next_token: impl Fn() -> FencingToken) -> Findings {
    let mut findings = Findings::default();
    if *belief == Belief::Copy {
        return findings;
    }
    let theirs: BTreeMap<&EntryKey, Option<&Vec<u8>>> = dump.entries.iter().map(|e| (&e.key, e.value.as_ref())).collect();
    let keys: BTreeSet<&EntryKey> = theirs.keys().copied().chain(known.all.keys()).collect();
    for key in keys {
        let ours = known.value(key);
        // Not UTF-8: nobody's lock.
        let is_unreadable = theirs.get(key).is_some_and(Option::is_none);
        let value = theirs.get(key).copied().flatten();
        let there = value.map(|value| digest(value));
        let token = || if key.lock().is_some() { next_token() } else { FencingToken::NONE };
        let is_same = !is_unreadable && value == ours.map(|held| &held.value);
        match belief {
            Belief::Copy => {}
            Belief::First | Belief::Changed => {
                if !is_same && !is_unreadable && !known.is_behind(key, there) {
                    findings.take(key, ours, value, token());
                }
            }
            Belief::Doubted { is_old, .. } => {
                let is_new = ours.is_none() && !is_old && there.is_some_and(|there| !known.was_here(key, there));
                if is_new {
                    findings.take(key, None, value, token());
                    continue;
                }
                let is_nobodys = is_unreadable && ours.is_none();
                if !is_nobodys && (!is_same || known.lacking.contains_key(key)) {
                    findings.has(key, value);
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::copy::HostEntry;
    use crate::store::contract::local::{SyncState, Tombstone};

    fn judged(text: Option<&str>, written_since: bool, copy: HostCopy) -> Belief {
        let mark = text.map(|text| HostMark { text: text.to_owned(), written_since });
        judge(mark.as_ref(), copy, "me a")
    }

    #[test]
    fn only_the_last_content_is_believed() {
        let (still, applying) = (HostCopy { seq: 5, applying: false }, HostCopy { seq: 5, applying: true });
        assert_eq!(judged(Some(&mark("me a", 5)), false, still), Belief::Copy);
        assert_eq!(judged(Some(&mark("me a", 5)), true, still), Belief::Changed);
        // A crash while it was being written.
        assert_eq!(judged(Some(&mark("me a", 5)), true, applying), Belief::Changed);
        assert_eq!(judged(Some(&mark("me a", 6)), false, applying), Belief::Copy);
        for (text, written_since, copy, is_old) in [
            (None, false, still, false),
            (Some("5 me"), false, still, false),
            (Some("me a"), false, still, false),
            (Some("5"), false, still, false),
            (Some(""), false, still, false),
            (Some("4 me a"), false, still, true),
            (Some("4 me a"), true, still, false),
            (Some("6 me a"), false, still, false),
            (Some("7 me a"), false, applying, false),
        ] {
            let belief = judged(text, written_since, copy);
            assert!(matches!(belief, Belief::Doubted { is_old: old, .. } if old == is_old), "{text:?} {copy:?}: {belief:?}");
        }
    }

    /// A backup, or an older data folder, never bears the number of what is there now.
    #[test]
    fn no_number_is_used_twice() {
        let copy = HostCopy { seq: 5, applying: true };
        let goes_on = |seq: u64, now| {
            let mark = HostMark { text: mark("me a", seq), written_since: false };
            match go_on(&judge(Some(&mark), copy, "me a"), Some(&mark), copy, "me a", now) {
                Some(Change::HostCopy(HostCopy { seq, applying: false })) => Some(seq),
                None => None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(goes_on(5, 1000), None, "nothing is known of the next");
        assert_eq!(goes_on(6, 1000), Some(6), "it was used");
        assert_eq!(goes_on(7, 1000), Some(1000));
        assert_eq!(goes_on(4, 1000), Some(1000));
        assert_eq!(goes_on(4, 0), Some(7), "whatever the clock shows");
        assert_eq!(goes_on(1002, 1000), Some(1003), "a process before this one began at the same time, and wrote two");
    }

    /// A crash between two groups leaves nothing believed, and nothing not taken over.
    #[test]
    fn what_follows_is_written_in_order() {
        let key = |name: &str| EntryKey::Command(name.to_owned());
        let (mut findings, value) = (Findings::default(), b"{}".to_vec());
        findings.has(&key("a"), None);
        findings.take(&key("b"), None, Some(&value), FencingToken::new(1));
        let written = findings.in_order(Some(Change::HostCopy(HostCopy::default())));
        assert!(
            matches!(&written[..], [Change::SetHere(..), Change::HostCopy(_), Change::Copied(..), Change::Copied(..)]),
            "{written:?}"
        );
    }

    /// What each belief makes of one key: what is here, what was here, what the host store lacks by the marks, what it has.
    #[test]
    fn each_belief_makes_of_a_key_what_it_may() {
        let key = EntryKey::Project("a/b/c/default/".to_owned());
        let (a, b) = ("A", "B");
        let doubted = |is_old| Belief::Doubted { why: "", is_old };
        let bytes = |text: &str| text.as_bytes().to_vec();
        let hash = |text: &str| Some(digest(text.as_bytes()));
        let taken = |value: Option<&str>| format!("take {value:?}");
        let copied = "copy".to_owned();
        let none = String::new();
        for (belief, ours, was, lacking, theirs, wanted) in [
            (Belief::Changed, Some(a), None, None, None, taken(None)),
            (Belief::Changed, Some(a), None, None, Some(b), taken(Some(b))),
            (Belief::Changed, None, None, None, Some(b), taken(Some(b))),
            (Belief::Changed, Some(a), None, None, Some(a), none.clone()),
            (Belief::Changed, Some(a), None, Some(None), None, none.clone()),
            (Belief::Changed, None, None, Some(hash(b)), Some(b), none.clone()),
            (Belief::Copy, Some(a), None, None, None, none.clone()),
            (Belief::Copy, None, None, None, Some(b), none.clone()),
            (Belief::First, None, None, None, Some(b), taken(Some(b))),
            (Belief::First, Some(a), None, Some(None), None, none.clone()),
            (doubted(false), Some(a), None, None, None, copied.clone()),
            (doubted(false), Some(a), None, None, Some(b), copied.clone()),
            (doubted(false), None, None, None, Some(b), taken(Some(b))),
            (doubted(false), None, Some(b), None, Some(b), copied.clone()),
            // Its tombstone may be forgotten.
            (doubted(false), None, None, Some(hash(b)), Some(b), copied.clone()),
            (doubted(false), None, None, Some(hash(a)), Some(b), taken(Some(b))),
            (doubted(true), None, None, None, Some(b), copied.clone()),
            (doubted(false), Some(a), None, None, Some(a), none.clone()),
            // A mark that is not true of this content goes.
            (doubted(false), Some(a), None, Some(None), Some(a), copied.clone()),
        ] {
            let case = format!("{belief:?} {ours:?} {was:?} {lacking:?} {theirs:?}");
            let local = KeyState {
                value: ours.map(|text| Held { value: bytes(text), token: FencingToken::new(1) }),
                state: SyncState::Synced,
                tombstones: was
                    .iter()
                    .map(|text| Tombstone::of(&Held { value: bytes(text), token: FencingToken::new(9) }, SyncState::Synced))
                    .collect(),
                at: 0,
            };
            let known = Known {
                all: [(key.clone(), local)].into(),
                lacking: lacking.map(|there| (key.clone(), vec![there])).into_iter().collect(),
            };
            let entries = theirs.map(|text| HostEntry { key: key.clone(), value: Some(bytes(text)) }).into_iter().collect();
            let findings = compare(&belief, &HostDump { entries, mark: None }, &known, || FencingToken::new(7));
            let did = match &findings.changes[..] {
                [] => String::new(),
                [Change::Copied(_, there)] if *there == theirs.and_then(hash) => copied.clone(),
                [Change::SetHere(_, held), Change::Copied(_, there)] if *there == theirs.and_then(hash) => {
                    taken(held.as_ref().map(|held| std::str::from_utf8(&held.value).unwrap()))
                }
                other => format!("{other:?}"),
            };
            assert_eq!(did, wanted, "{case}");
            let counts = (findings.released.len(), findings.taken.len());
            let of_taken = |taken: bool| (usize::from(taken && ours.is_some()), usize::from(taken && theirs.is_some()));
            assert_eq!(counts, of_taken(did.starts_with("take")), "{case}");
        }
    }
}

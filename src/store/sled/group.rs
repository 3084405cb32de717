//! The writes of one group, and how they reach the tree as one.
//!
//! The usual group is in the journal before its writes are applied one by one, the meta record last. What sled recovers after a
//! crash is a beginning of its log (sled 0.34.7: `check_contiguity_in_unstable_tail` in src/pagecache/iterator.rs), so the tree may
//! hold a part of the group that follows its meta record; [`recover`] makes that group, and those behind it, from the journal. It
//! makes all that the journal has without a gap, also those that sled had: each write says what its entry is then, so the last
//! one decides. Where there was a group that is too large for the journal, its mark there says that the tree has it.
//!
//! A group that is too large for the journal is one sled batch. sled writes a manifest with the log position of the batch's last
//! record in front of its records, and recovery stops before a batch whose end it does not find (`Tree::apply_batch` in
//! src/tree.rs, `PageCache::pin_log` in src/pagecache/mod.rs, `LogRead::BatchManifest` in src/pagecache/iterator.rs). That holds
//! for records inside the log, so none is ever long enough to leave it (`record.rs`). For the usual group that would cost a
//! write that sled waits for.

use super::database::{Database, Write};
use super::journal::Records;
use super::meta::Meta;
use super::record::{META_KEY, Reader, length_bytes};

use crate::error::{Code, Error, Result};
use crate::sync::mark;

/// Stands for the length of a value where the entry is removed.
const REMOVED: u32 = u32::MAX;

/// The writes of one group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// What the tree holds after them.
    pub meta: Meta,
    /// In the order of their keys, each key once, the meta record not among them.
    pub writes: Vec<Write>,
}

impl Group {
    /// Applies a group that is in the journal. Readers are excluded by the caller.
    pub(super) fn apply(self, db: &dyn Database) -> sled::Result<()> {
        for (key, value) in self.writes {
            match value {
                Some(value) => db.insert(&key, value)?,
                None => db.remove(&key)?,
            }
        }
        db.insert(META_KEY, self.meta.encode().into())
    }

    /// Applies a group that is not in the journal.
    pub(super) fn apply_batch(self, db: &dyn Database) -> sled::Result<()> {
        let meta = (META_KEY.to_vec(), Some(self.meta.encode().into()));
        db.apply_batch([meta].into_iter().chain(self.writes).collect())
    }

    /// Its form in the journal.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.meta.encode();
        for (key, value) in &self.writes {
            bytes.extend_from_slice(&length_bytes(key.len()));
            bytes.extend_from_slice(key);
            match value {
                Some(value) => {
                    bytes.extend_from_slice(&length_bytes(value.len()));
                    bytes.extend_from_slice(value);
                }
                None => bytes.extend_from_slice(&REMOVED.to_be_bytes()),
            }
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Group> {
        let (meta, rest) = Meta::decode(bytes)?;
        let mut reader = Reader(rest);
        let mut writes = Vec::new();
        while !reader.0.is_empty() {
            let write = decode_write(&mut reader);
            writes.push(write.ok_or_else(|| Error::new(Code::StoreDamaged, "a record of the journal is not in its format"))?);
        }
        Ok(Group { meta, writes })
    }
}

fn decode_write(reader: &mut Reader<'_>) -> Option<Write> {
    let key_length = u32::from_be_bytes(reader.take()?);
    let key = reader.take_slice(key_length)?.to_vec();
    match u32::from_be_bytes(reader.take()?) {
        REMOVED => Some((key, None)),
        length => Some((key, Some(reader.take_slice(length)?.into()))),
    }
}

/// Why a tree was not completed.
#[derive(Debug)]
pub(super) enum Unrecovered {
    /// Something is not as it was acknowledged.
    Damaged(Error),
    /// sled failed.
    Sled(sled::Error),
}

impl From<Error> for Unrecovered {
    fn from(error: Error) -> Unrecovered {
        Unrecovered::Damaged(error)
    }
}

impl From<sled::Error> for Unrecovered {
    fn from(error: sled::Error) -> Unrecovered {
        Unrecovered::Sled(error)
    }
}

/// Applies what the journal has beyond the tree, and compares the whole tree with its meta record.
///
/// Errors: `StoreDamaged` if the tree has no meta record, if a group between the tree's last one and the journal's last one is
/// missing, or if the tree is not what its meta record says. sled's own are something else: the disk may only be full.
pub(super) fn recover(db: &dyn Database, journal: &Records) -> std::result::Result<Meta, Unrecovered> {
    let bytes = db.get(META_KEY)?.ok_or_else(|| Error::new(Code::StoreDamaged, "its meta record is missing"))?;
    let (mut meta, _) = Meta::decode(&bytes)?;
    for (sequence, record) in journal.range(first_to_apply(journal, meta.sequence)?..) {
        let group = Group::decode(record)?;
        if group.meta.sequence != *sequence {
            return Err(Error::new(Code::StoreDamaged, "a record of the journal has another batch's number").into());
        }
        mark!("opening: a group from the journal");
        meta = group.meta;
        group.apply(db)?;
    }
    db.flush()?;
    Ok(meta.verify(db).map(|()| meta)?)
}

/// The first of the journal's records that follow one another up to its last; a number behind the last if the tree, which ends
/// with `tree_last`, has them all.
fn first_to_apply(journal: &Records, tree_last: u64) -> Result<u64> {
    let last = journal.last_key_value().map_or(0, |(last, _)| *last);
    if last <= tree_last {
        return Ok(last + 1);
    }
    // A mark's group is in the tree alone, and what came before must not undo it.
    let mut first = last + 1;
    while journal.get(&(first - 1)).is_some_and(|record| !record.is_empty()) {
        first -= 1;
    }
    if first > tree_last + 1 {
        let text = format!("batch {last} was acknowledged, but batch {} is missing", first - 1);
        return Err(Error::new(Code::StoreDamaged, text));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use sled::IVec;

    use super::super::database::open_sled;
    use super::*;

    fn put(key: &str) -> Write {
        (key.as_bytes().to_vec(), Some(key.as_bytes().into()))
    }

    /// Three groups, each with the meta record that follows from the one before.
    fn groups() -> Vec<Group> {
        let mut meta = Meta::default();
        let mut next = |writes: Vec<Write>, removed: &[&str]| {
            for (key, value) in &writes {
                match value {
                    Some(value) => meta.add(key, value),
                    None => removed.iter().for_each(|key| meta.subtract(key.as_bytes(), key.as_bytes())),
                }
            }
            meta = meta.next();
            Group { meta, writes }
        };
        vec![
            next(vec![put("La"), put("Lb")], &[]),
            next(vec![(b"La".to_vec(), None), put("Lc")], &["La"]),
            next(vec![put("Ld")], &[]),
        ]
    }

    fn store() -> (tempfile::TempDir, Box<dyn Database>) {
        let folder = tempfile::tempdir().expect("a folder");
        let db = open_sled(folder.path()).expect("opens");
        db.insert(META_KEY, Meta::default().encode().into()).expect("is inserted");
        (folder, db)
    }

    fn records(groups: &[Group]) -> Records {
        groups.iter().map(|group| (group.meta.sequence, group.encode())).collect()
    }

    /// However much of the journal sled had already, a part of a group too, the end is the same.
    #[test]
    fn the_journal_completes_the_tree() {
        for (applied, more) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)] {
            let (_folder, db) = store();
            groups().into_iter().take(applied).for_each(|group| group.apply(&*db).expect("is applied"));
            for (key, value) in groups().into_iter().skip(applied).take(1).flat_map(|group| group.writes).take(more) {
                match value {
                    Some(value) => db.insert(&key, value).expect("is inserted"),
                    None => db.remove(&key).expect("is removed"),
                }
            }
            let meta = recover(&*db, &records(&groups())).expect("is recovered");
            assert_eq!(meta, groups()[2].meta);
            let keys: Vec<IVec> = db.scan_prefix(&[]).map(|entry| entry.expect("is read").0).collect();
            assert_eq!(keys, [&b"Lb"[..], b"Lc", b"Ld", META_KEY]);
        }
    }

    /// A group that was too large for the journal is in sled alone; what the journal still has from before must not undo it.
    #[test]
    fn older_records_undo_nothing() {
        let all = groups();
        let (_folder, db) = store();
        all[0].clone().apply(&*db).expect("is applied");
        all[1].clone().apply_batch(&*db).expect("is applied");
        assert_eq!(recover(&*db, &records(&all[..1])).expect("is recovered"), all[1].meta);
        let journal = [&all[0], &all[2]].into_iter().map(|group| (group.meta.sequence, group.encode())).collect();
        assert_eq!(recover(&*db, &journal).expect("is recovered"), all[2].meta);
    }

    #[test]
    fn a_gap_is_refused() {
        let all = groups();
        for (kept, applied) in [(vec![1, 2], 0), (vec![2], 1), (vec![0, 2], 0), (vec![0, 2], 1)] {
            let (_folder, db) = store();
            all.iter().take(applied).for_each(|group| group.clone().apply(&*db).expect("is applied"));
            let journal = kept.iter().map(|nth| (all[*nth].meta.sequence, all[*nth].encode())).collect();
            let error = recover(&*db, &journal).expect_err("is refused");
            assert!(matches!(&error, Unrecovered::Damaged(e) if e.message().contains("is missing")), "{error:?}");
        }
        let (_folder, db) = store();
        all.iter().take(2).for_each(|group| group.clone().apply(&*db).expect("is applied"));
        assert!(recover(&*db, &records(&all[2..])).is_ok(), "what sled has need not be in the journal");
    }

    #[test]
    fn a_tree_without_its_meta_record_is_refused() {
        let (_folder, db) = store();
        db.remove(META_KEY).expect("is removed");
        assert!(recover(&*db, &records(&groups())).is_err());
    }

    proptest! {
        #[test]
        fn a_group_is_read_back(writes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
            let writes = writes.into_iter().map(|(key, value)| (key, value.map(IVec::from))).collect();
            let group = Group { meta: Meta::default().next(), writes };
            prop_assert_eq!(Group::decode(&group.encode()), Ok(group));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Group::decode(&bytes);
        }
    }
}

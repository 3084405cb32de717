//! The writes of one group, and how they reach the tree as one.
//!
//! Invariant: after a crash the tree holds all writes of a group and its meta record, or none. Two ways, by size:
//! - A large group is a sled batch. sled writes a manifest with the log position of the batch's last record in front of its
//!   records, and recovery stops before a batch whose end it does not find (sled 0.34.7: `Tree::apply_batch` in src/tree.rs,
//!   `PageCache::pin_log` in src/pagecache/mod.rs, `LogRead::BatchManifest` in src/pagecache/iterator.rs). That holds for
//!   records inside the log, so none is ever long enough to leave it (`record.rs`).
//! - A small group, the usual case of a lone change, is written ahead: its writes are also in the meta record, which is
//!   inserted first, alone. What recovery keeps is always a beginning of the log (`check_contiguity_in_unstable_tail` in
//!   src/pagecache/iterator.rs), so a tree without the new meta record has none of the writes, and in a tree with it
//!   [`recover`] makes those that are missing. This costs the bytes twice and saves the manifest, a
//!   write that sled waits for on its own: a lone grant takes a quarter less time.

use sled::IVec;

use super::meta::Meta;
use super::record::{META_KEY, Reader, length_bytes};
use super::tree::{failed, read_entry};
use crate::error::{Code, Error, Result};

/// Most bytes that are written ahead.
pub(super) const REDO_LIMIT: usize = 8 << 10;
/// Stands for the length of a value where the entry is removed.
const REMOVED: u32 = u32::MAX;

/// A tree entry to put, or with `None` to remove.
type Write = (Vec<u8>, Option<IVec>);

/// The writes of one group.
pub(super) struct Group {
    /// What the tree holds after them.
    pub meta: Meta,
    /// In the order of their keys, each key once, the meta record not among them.
    pub writes: Vec<Write>,
}

impl Group {
    /// Applies it. Readers are excluded by the caller.
    pub(super) fn apply(self, db: &sled::Db) -> sled::Result<()> {
        let redo = encode_redo(&self.writes);
        if redo.len() <= REDO_LIMIT { self.write_ahead(db, &redo) } else { self.apply_batch(db) }
    }

    fn write_ahead(self, db: &sled::Db, redo: &[u8]) -> sled::Result<()> {
        db.insert(META_KEY, [&self.meta.encode(), redo].concat())?;
        self.writes.into_iter().try_for_each(|write| apply_one(db, write))
    }

    fn apply_batch(self, db: &sled::Db) -> sled::Result<()> {
        let mut batch = sled::Batch::default();
        batch.insert(META_KEY, self.meta.encode());
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        db.apply_batch(batch)
    }
}

fn apply_one(db: &sled::Db, (key, value): Write) -> sled::Result<()> {
    match value {
        Some(value) => db.insert(key, value).map(drop),
        None => db.remove(key).map(drop),
    }
}

/// Makes what a crash cut off the last group, and compares the whole tree with its meta record. `None`: there is none, and
/// nothing else either.
pub(super) fn recover(db: &sled::Db) -> Result<Option<Meta>> {
    let Some(bytes) = read_entry(db, META_KEY)? else {
        return Meta::default().verify(db).map(|()| None);
    };
    let (meta, redo) = Meta::decode(&bytes)?;
    for (key, value) in decode_redo(redo)? {
        if read_entry(db, &key)? != value {
            apply_one(db, (key, value)).map_err(failed)?;
        }
    }
    db.flush().map_err(failed)?;
    meta.verify(db).map(|()| Some(meta))
}

fn encode_redo(writes: &[Write]) -> Vec<u8> {
    let mut redo = Vec::new();
    for (key, value) in writes {
        redo.extend_from_slice(&length_bytes(key.len()));
        redo.extend_from_slice(key);
        match value {
            Some(value) => {
                redo.extend_from_slice(&length_bytes(value.len()));
                redo.extend_from_slice(value);
            }
            None => redo.extend_from_slice(&REMOVED.to_be_bytes()),
        }
        if redo.len() > REDO_LIMIT {
            // Too long whatever follows.
            break;
        }
    }
    redo
}

fn decode_redo(redo: &[u8]) -> Result<Vec<Write>> {
    let mut reader = Reader(redo);
    let mut writes = Vec::new();
    while !reader.0.is_empty() {
        writes.push(
            decode_write(&mut reader)
                .ok_or_else(|| Error::new(Code::StoreDamaged, "the writes in the meta record are not in their format"))?,
        );
    }
    Ok(writes)
}

fn decode_write(reader: &mut Reader<'_>) -> Option<Write> {
    let key_length = u32::from_be_bytes(reader.take()?);
    let key = reader.take_slice(key_length)?.to_vec();
    match u32::from_be_bytes(reader.take()?) {
        REMOVED => Some((key, None)),
        length => Some((key, Some(reader.take_slice(length)?.into()))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(sequence: u64, writes: Vec<Write>) -> Group {
        let mut meta = Meta::default();
        meta.sequence = sequence;
        writes.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))).for_each(|(key, value)| meta.add(key, value));
        Group { meta, writes }
    }

    fn put(key: &str) -> Write {
        (key.as_bytes().to_vec(), Some(key.as_bytes().into()))
    }

    /// A crash after each record that a group puts into the log.
    #[test]
    fn a_group_that_was_cut_short_is_completed() {
        for applied in 0..=2 {
            let folder = tempfile::tempdir().expect("a folder");
            let db = sled::open(folder.path()).expect("opens");
            group(1, vec![put("Lold")]).apply(&db).expect("is applied");
            let writes = vec![put("Lnew"), (b"Lold".to_vec(), None)];
            let new = group(2, writes);
            db.insert(META_KEY, [new.meta.encode(), encode_redo(&new.writes)].concat()).expect("is inserted");
            new.writes.iter().take(applied).for_each(|write| apply_one(&db, write.clone()).expect("is applied"));
            let meta = recover(&db).expect("is recovered").expect("is not empty");
            assert_eq!(meta.sequence, 2);
            assert_eq!((db.get("Lnew"), db.get("Lold")), (Ok(Some("Lnew".into())), Ok(None)));
        }
    }

    #[test]
    fn a_large_group_is_a_batch() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = sled::open(folder.path()).expect("opens");
        let long = (b"Llong".to_vec(), Some(vec![7; REDO_LIMIT].into()));
        group(1, vec![long]).apply(&db).expect("is applied");
        let meta = db.get(META_KEY).expect("is read").expect("is there");
        assert_eq!(meta.len(), Meta::default().encode().len());
        assert_eq!(recover(&db).expect("is whole").expect("is not empty").sequence, 1);
    }

    proptest! {
        #[test]
        fn writes_are_read_back(writes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
            let writes: Vec<Write> = writes.into_iter().map(|(key, value)| (key, value.map(IVec::from))).collect();
            let redo = encode_redo(&writes);
            prop_assume!(redo.len() <= REDO_LIMIT);
            prop_assert_eq!(decode_redo(&redo), Ok(writes));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode_redo(&bytes);
        }
    }
}

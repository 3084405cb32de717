//! The meta record: written in every batch, it says what the tree must hold. Compared with the tree on opening.

use xxhash_rust::xxh3::Xxh3;

use super::record::{META_KEY, Reader};
use crate::error::{Code, Error, Result};

const FORMAT: u8 = 1;

/// What the tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Number of the last batch; 0 in a new store.
    pub sequence: u64,
    /// Number of tree entries, this record aside.
    pub entries: u64,
    /// Last fencing token given.
    pub last_token: u64,
    /// Sum over all tree entries, this record aside, of their digests: it does not depend on their order, and one entry
    /// more or less is one addition.
    checksum: u128,
}

impl Meta {
    /// Counts an entry in.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        self.checksum = self.checksum.wrapping_add(digest(key, value));
    }

    /// Counts an entry out.
    pub(super) fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_sub(1);
        self.checksum = self.checksum.wrapping_sub(digest(key, value));
    }

    /// The same, as the record of the next batch.
    pub(super) fn next(self) -> Meta {
        Meta { sequence: self.sequence + 1, ..self }
    }

    /// The next fencing token: larger than every earlier one of this store, also when the wall clock was set back.
    pub(super) fn next_token(&mut self, unix_micros: u64) -> u64 {
        self.last_token = self.last_token.saturating_add(1).max(unix_micros);
        self.last_token
    }

    /// Its stored form.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        for number in [self.sequence, self.entries, self.last_token] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.checksum.to_be_bytes());
        bytes
    }

    /// Reads the stored form.
    pub(super) fn decode(bytes: &[u8]) -> Result<Meta> {
        let mut reader = Reader(bytes);
        let meta = (|| {
            if reader.take::<1>()? != [FORMAT] {
                return None;
            }
            let sequence = u64::from_be_bytes(reader.take()?);
            let entries = u64::from_be_bytes(reader.take()?);
            let last_token = u64::from_be_bytes(reader.take()?);
            let checksum = u128::from_be_bytes(reader.take()?);
            reader.0.is_empty().then_some(Meta { sequence, entries, last_token, checksum })
        })();
        meta.ok_or_else(|| Error::new(Code::StoreDamaged, "the meta record is not in its format"))
    }

    /// Reads the tree's meta record and compares it with everything in the tree. `None`: there is no such record, and
    /// nothing else either.
    pub(super) fn verified(db: &sled::Db) -> Result<Option<Meta>> {
        let mut recorded = None;
        let mut found = Meta::default();
        for entry in db.iter() {
            let (key, value) = entry.map_err(|e| Error::new(Code::StoreDamaged, format!("it cannot be read: {e}")))?;
            if key == META_KEY {
                recorded = Some(Meta::decode(&value)?);
            } else {
                found.add(&key, &value);
            }
        }
        match recorded {
            Some(meta) if (meta.entries, meta.checksum) == (found.entries, found.checksum) => Ok(Some(meta)),
            None if found.entries == 0 => Ok(None),
            other => {
                let (said, of) =
                    (other.map_or("no meta record".to_owned(), |meta| format!("{} entries", meta.entries)), found.entries);
                let text = format!(
                    "{of} entries were found where batch {} left {said}, or their checksum differs",
                    other.map_or(0, |m| m.sequence)
                );
                Err(Error::new(Code::StoreDamaged, text))
            }
        }
    }
}

/// Against accidents, not against attackers: who can write the folder can write the locks.
fn digest(key: &[u8], value: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&key.len().to_be_bytes());
    hash.update(key);
    hash.update(value);
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_knows_every_entry_and_no_order() {
        let (mut one, mut other) = (Meta::default(), Meta::default());
        one.add(b"a", b"1");
        one.add(b"b", b"2");
        other.add(b"b", b"2");
        other.add(b"x", b"3");
        other.add(b"a", b"1");
        assert_ne!(one, other);
        other.subtract(b"x", b"3");
        assert_eq!(one, other);
        assert_ne!(digest(b"ab", b"c"), digest(b"a", b"bc"));
    }

    #[test]
    fn is_read_back() {
        let mut meta = Meta { sequence: 7, last_token: 9, ..Meta::default() };
        meta.add(b"k", b"v");
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Ok(meta));
        assert!(Meta::decode(&bytes[1..]).is_err());
        assert!(Meta::decode(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn tokens_increase_when_the_clock_does_not() {
        let mut meta = Meta::default();
        assert_eq!([100, 100, 50, 200].map(|now| meta.next_token(now)), [100, 101, 102, 200]);
    }
}

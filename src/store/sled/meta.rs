//! The meta record: written in every batch, it says what the tree must hold. Compared with the tree on opening.

use xxhash_rust::xxh3::Xxh3;

use super::database::Database;
use super::record::{META_KEY, Reader};
use crate::domain::token::FencingToken;
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

    /// The same number and token, of a tree that holds nothing yet.
    pub(super) fn emptied(self) -> Meta {
        Meta { entries: 0, checksum: 0, ..self }
    }

    /// The same, as the record of the next batch.
    pub(super) fn next(self) -> Meta {
        Meta { sequence: self.sequence + 1, ..self }
    }

    /// The next fencing token: larger than every earlier one of this store, also when the wall clock was set back.
    pub(super) fn next_token(&mut self, unix_micros: u64) -> FencingToken {
        self.last_token = self.last_token.saturating_add(1).max(unix_micros);
        FencingToken::new(self.last_token)
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

    /// Reads the stored form from the beginning of `bytes`, and returns what is behind it.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Meta, &[u8])> {
        let mut reader = Reader(bytes);
        let meta = (|| {
            if reader.take::<1>()? != [FORMAT] {
                return None;
            }
            let sequence = u64::from_be_bytes(reader.take()?);
            let entries = u64::from_be_bytes(reader.take()?);
            let last_token = u64::from_be_bytes(reader.take()?);
            let checksum = u128::from_be_bytes(reader.take()?);
            Some(Meta { sequence, entries, last_token, checksum })
        })();
        let meta = meta.ok_or_else(|| Error::new(Code::StoreDamaged, "the meta record is not in its format"))?;
        Ok((meta, reader.0))
    }

    /// Compares itself with everything in the tree.
    pub(super) fn verify(&self, db: &dyn Database) -> Result<()> {
        let mut found = Meta::default();
        for entry in db.scan_prefix(&[]) {
            let (key, value) = entry.map_err(|e| Error::new(Code::StoreDamaged, format!("it cannot be read: {e}")))?;
            if key != META_KEY {
                found.add(&key, &value);
            }
        }
        if (self.entries, self.checksum) == (found.entries, found.checksum) {
            return Ok(());
        }
        let text = format!(
            "{} entries were found where batch {} left {}, or their contents differ",
            found.entries, self.sequence, self.entries
        );
        Err(Error::new(Code::StoreDamaged, text))
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
        assert_eq!(Meta::decode(&bytes), Ok((meta, &[][..])));
        assert!(Meta::decode(&bytes[1..]).is_err());
        assert_eq!(Meta::decode(&[bytes, vec![7]].concat()), Ok((meta, &[7][..])));
    }

    #[test]
    fn tokens_increase_when_the_clock_does_not() {
        let mut meta = Meta::default();
        assert_eq!([100, 100, 50, 200].map(|now| meta.next_token(now).get()), [100, 101, 102, 200]);
    }
}

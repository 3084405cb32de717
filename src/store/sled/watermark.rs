//! The watermark: outside sled, the sequence number of the last batch that was acknowledged.
//!
//! Invariant: the number here is never above that of the last batch that is durable in sled. It is written after the batch
//! is synced and before the batch is acknowledged, so a sled folder that is behind it has lost something acknowledged:
//! sled opens a truncated log beside a snapshot as an empty store, without an error.
//!
//! Faults survived: a kill at any point (the kernel has the write), a torn write (two slots, written in turn, each with a
//! checksum). Power loss may take back the last writes here, which only makes the check weaker, never wrong: so no fsync.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64_with_seed;

const SLOT: usize = 16;
/// Far enough apart for two disk sectors.
const SLOT_DISTANCE: u64 = 4096;
/// A file of zeros is not a valid watermark.
const SEED: u64 = u64::from_be_bytes(*b"atlockwm");

/// The open file.
#[derive(Debug)]
pub(super) struct Watermark {
    file: File,
}

impl Watermark {
    /// Writes a new file with number 0, durably but for its name: the caller syncs the folder.
    pub(super) fn create(path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        for slot in 0..2 {
            file.write_all_at(&encode(0), slot * SLOT_DISTANCE)?;
        }
        file.sync_all()
    }

    /// Opens the file; `None` for the number if neither slot can be read.
    pub(super) fn open(path: &Path) -> io::Result<(Watermark, Option<u64>)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let highest = (0..2).filter_map(|slot| read_slot(&file, slot)).max();
        Ok((Watermark { file }, highest))
    }

    /// Records that batch `sequence` is durable. Batches come in order, so the slot with the highest number is never the one
    /// that is written.
    pub(super) fn advance(&self, sequence: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(sequence), (sequence % 2) * SLOT_DISTANCE)
    }
}

fn encode(sequence: u64) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(&sequence.to_be_bytes());
    slot[8..].copy_from_slice(&xxh3_64_with_seed(&sequence.to_be_bytes(), SEED).to_be_bytes());
    slot
}

fn read_slot(file: &File, slot: u64) -> Option<u64> {
    let mut bytes = [0; SLOT];
    file.read_exact_at(&mut bytes, slot * SLOT_DISTANCE).ok()?;
    let sequence = u64::from_be_bytes(*bytes.first_chunk()?);
    (encode(sequence) == bytes).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_write_leaves_the_number_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("watermark");
        Watermark::create(&path).expect("is created");
        let (watermark, number) = Watermark::open(&path).expect("opens");
        assert_eq!(number, Some(0));
        for sequence in 1..=4 {
            watermark.advance(sequence).expect("is written");
            assert_eq!(Watermark::open(&path).expect("opens").1, Some(sequence));
        }
        // Batch 5 goes to slot 1; its write stops half way.
        watermark.file.write_all_at(&encode(5)[..7], SLOT_DISTANCE).expect("is written");
        watermark.file.write_all_at(&[0xff], SLOT_DISTANCE + 7).expect("is written");
        assert_eq!(Watermark::open(&path).expect("opens").1, Some(4));
        watermark.file.write_all_at(&[0; SLOT], 0).expect("is written");
        assert_eq!(Watermark::open(&path).expect("opens").1, None);
    }
}

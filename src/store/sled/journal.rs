//! The write-ahead journal: where a group of changes becomes durable.
//!
//! sled's log grows, and making a grown file durable costs the file system a commit of its own journal. This file has its full
//! size from the beginning, so making a record durable is one write of whole blocks (O_DSYNC, and O_DIRECT where the file system
//! takes it): about half the time.
//!
//! Invariants:
//! - A group is acknowledged only after its record is durable here, or, for a group that does not fit, in sled's log.
//! - Records are overwritten only after a checkpoint: everything up to the last one is durable in sled. So the records above
//!   sled's own last batch are all here, without a gap, wherever a crash came.
//! - A record is whole or not there: it carries its number, its length and a checksum. One that is torn was never acknowledged.
//! - A group that did not fit leaves its number here, as a mark, before it is acknowledged: sled's files without it are too old, and
//!   without the mark nothing would tell.
//!
//! Faults survived: kill and power loss at any point. Detected: a record that is missing or damaged while a later one is there; a
//! journal that was emptied. Not detected: damage to the very last record, which looks like a torn one; the file replaced by
//! an older copy of itself.
//!
//! Format: blocks of 4 KiB. The first holds [`MAGIC`]; a record begins at a block: [`RECORD`], sequence number, length of the
//! payload, checksum (8 bytes each, big-endian), payload. A mark begins with [`MARK`] and has no payload: versions that do not know
//! marks see nothing there.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::files::{Files, Found, OpenFile};

const BLOCK: usize = 4096;
/// Size of the file: what sled writes between two checkpoints must stay below two of its segments (`record::SEGMENT`). sled takes
/// what it has written for durable, and overwrites a segment in place once what replaced it is written, two segments later at the
/// earliest (`SegmentAccountant::stabilize` in src/pagecache/segment.rs): with more between two syncs, power loss could take both.
/// For a group it writes about three times as much as stands here.
pub(super) const FILE_BYTES: usize = 128 << 10;
const _: () = assert!(3 * FILE_BYTES < 2 * super::record::SEGMENT);
const MAGIC: &[u8; 16] = b"atlock journal 1";
const RECORD: &[u8; 8] = b"atlockwr";
const MARK: &[u8; 8] = b"atlockmk";
const HEADER: usize = 32;

/// The payloads of the records found, by sequence number; that of a mark is empty.
pub(super) type Records = BTreeMap<u64, Vec<u8>>;

/// The open journal; its owner writes alone.
#[derive(Debug)]
pub(super) struct Journal {
    file: Box<dyn OpenFile>,
    capacity: usize,
    end: usize,
    buffer: Vec<u8>,
}

impl Journal {
    /// Writes a new file, durably but for its name: the caller syncs the folder.
    pub(super) fn create(files: &dyn Files, path: &Path) -> io::Result<()> {
        let mut bytes = vec![0; FILE_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        files.write(path, &bytes)
    }

    /// Opens the file. `None` for the records: it is not a journal, or no longer.
    pub(super) fn open(files: &dyn Files, path: &Path) -> io::Result<(Journal, Option<Records>)> {
        let bytes = files.read(path)?;
        let mut journal = Journal {
            file: files.open_blocks(path, true)?,
            capacity: bytes.len() / BLOCK * BLOCK,
            end: BLOCK,
            buffer: Vec::new(),
        };
        if !bytes.starts_with(MAGIC) || bytes.len() < 2 * BLOCK {
            return Ok((journal, None));
        }
        // Some file systems take O_DIRECT when opening and refuse it when writing.
        if journal.write_blocks(0, &[&bytes[..BLOCK]]).is_err() {
            journal.file = files.open_blocks(path, false)?;
            journal.write_blocks(0, &[&bytes[..BLOCK]])?;
        }
        Ok((journal, Some(scan(&bytes))))
    }

    /// The open file.
    pub(super) fn found(&self) -> io::Result<Found> {
        self.file.found()
    }

    /// How long the file always is, bytes.
    pub(super) fn length(&self) -> u64 {
        self.capacity as u64
    }

    /// Whether an empty journal has room for a payload of this length.
    pub(super) fn can_hold(&self, length: usize) -> bool {
        BLOCK + blocks_of(length) <= self.capacity
    }

    /// Whether there is room behind the last record.
    pub(super) fn has_room_for(&self, length: usize) -> bool {
        self.end + blocks_of(length) <= self.capacity
    }

    /// Writes a record, durably. There must be room.
    ///
    /// A file that another program has cut short is an error: the records before this one are not in it any more.
    pub(super) fn append(&mut self, sequence: u64, payload: &[u8]) -> io::Result<()> {
        self.write_record(RECORD, sequence, payload)
    }

    /// Begins anew, everything in it being durable elsewhere, with the mark of the last group.
    pub(super) fn restart_at(&mut self, sequence: u64) -> io::Result<()> {
        self.restart();
        self.write_record(MARK, sequence, &[])
    }

    fn write_record(&mut self, kind: &[u8; 8], sequence: u64, payload: &[u8]) -> io::Result<()> {
        if self.found()?.length < self.length() {
            return Err(io::Error::other("another program has cut the file short"));
        }
        let length = payload.len() as u64;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(kind);
        header[8..16].copy_from_slice(&sequence.to_be_bytes());
        header[16..24].copy_from_slice(&length.to_be_bytes());
        header[24..].copy_from_slice(&checksum(sequence, payload).to_be_bytes());
        self.write_blocks(self.end, &[&header, payload])?;
        self.end += blocks_of(payload.len());
        Ok(())
    }

    /// Overwrites all of it, durably: another file has taken its place.
    pub(super) fn wipe(&mut self) -> io::Result<()> {
        let zeros = [0; BLOCK];
        (0..self.capacity).step_by(BLOCK).try_for_each(|at| self.write_blocks(at, &[&zeros]))
    }

    /// Begins anew: everything in it is durable elsewhere.
    pub(super) fn restart(&mut self) {
        self.end = BLOCK;
    }

    /// Writes the parts, one behind the other and filled up to whole blocks, from memory that is aligned as O_DIRECT wants it.
    fn write_blocks(&mut self, at: usize, parts: &[&[u8]]) -> io::Result<()> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>().next_multiple_of(BLOCK);
        self.buffer.clear();
        self.buffer.resize(length + BLOCK, 0);
        let start = self.buffer.as_ptr().align_offset(BLOCK);
        let aligned = &mut self.buffer[start..start + length];
        let mut filled = 0;
        for part in parts {
            aligned[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        self.file.write_at(aligned, at as u64)?;
        // A rare large group should not hold its memory for good.
        self.buffer.shrink_to(16 * BLOCK);
        Ok(())
    }
}

fn blocks_of(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(BLOCK)
}

/// Every whole record, of this lap and of those before. No number stands twice: a record that can be read again is replayed, and
/// numbers go on from there.
pub(super) fn scan(bytes: &[u8]) -> Records {
    let mut records = Records::new();
    let mut at = BLOCK;
    while at + HEADER <= bytes.len() {
        match read_record(&bytes[at..]) {
            Some((sequence, payload)) => {
                at += blocks_of(payload.len());
                records.insert(sequence, payload.to_vec());
            }
            None => at += BLOCK,
        }
    }
    records
}

fn read_record(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    let is_mark = bytes.starts_with(MARK);
    if !is_mark && !bytes.starts_with(RECORD) {
        return None;
    }
    let (sequence, length) = (number(8)?, usize::try_from(number(16)?).ok()?);
    // Damage to their first bytes must not make one of the other.
    if is_mark != (length == 0) {
        return None;
    }
    let payload = bytes.get(HEADER..HEADER.checked_add(length)?)?;
    (number(24)? == checksum(sequence, payload)).then_some((sequence, payload))
}

fn checksum(sequence: u64, payload: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&sequence.to_be_bytes());
    hash.update(&(payload.len() as u64).to_be_bytes());
    hash.update(payload);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::system_files::SystemFiles;
    use super::*;

    fn payload(sequence: u64, length: usize) -> Vec<u8> {
        (0..length).map(|i| (i as u64 ^ sequence) as u8).collect()
    }

    fn opened(path: &Path) -> (Journal, Records) {
        let (journal, records) = Journal::open(&SystemFiles, path).expect("opens");
        (journal, records.expect("is a journal"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Whatever was appended since the last restart is found again; what is left of laps before has lower numbers.
        #[test]
        fn records_are_found_again(laps in proptest::collection::vec(proptest::collection::vec(0_usize..8_000, 0..12), 1..4)) {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("journal");
            Journal::create(&SystemFiles, &path).expect("is created");
            let (mut journal, found) = opened(&path);
            prop_assert_eq!(found.len(), 0);
            let mut sequence = 0;
            for lap in laps {
                journal.restart();
                let first = sequence + 1;
                for length in lap {
                    sequence += 1;
                    journal.append(sequence, &payload(sequence, length)).expect("is written");
                    let (_, found) = opened(&path);
                    for kept in first..=sequence {
                        prop_assert!(found.contains_key(&kept), "record {} of {}..={}", kept, first, sequence);
                    }
                    prop_assert_eq!(found.last_key_value().map(|(last, _)| *last), Some(sequence));
                    prop_assert_eq!(&found[&sequence], &payload(sequence, length));
                }
            }
        }

        #[test]
        fn a_changed_byte_hides_its_record_and_no_other(at in 0_usize..40_000, flip in 1_u8..) {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("journal");
            Journal::create(&SystemFiles, &path).expect("is created");
            let (mut journal, _) = opened(&path);
            for sequence in 1..=8 {
                journal.append(sequence, &payload(sequence, 5_000)).expect("is written");
            }
            let mut bytes = std::fs::read(&path).expect("is read");
            bytes[BLOCK + at] ^= flip;
            let found = scan(&bytes);
            prop_assert!(found.len() >= 7, "{:?}", found.keys());
            prop_assert!(found.iter().all(|(sequence, bytes)| *bytes == payload(*sequence, 5_000)));
        }
    }

    #[test]
    fn room_is_counted_in_blocks() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        Journal::create(&SystemFiles, &path).expect("is created");
        let (mut journal, _) = opened(&path);
        assert!(journal.can_hold(FILE_BYTES - BLOCK - HEADER) && !journal.can_hold(FILE_BYTES - BLOCK - HEADER + 1));
        let mut records = 0;
        while journal.has_room_for(BLOCK - HEADER) {
            records += 1;
            journal.append(records, &payload(records, BLOCK - HEADER)).expect("is written");
        }
        assert_eq!(records as usize, FILE_BYTES / BLOCK - 1);
        assert_eq!(opened(&path).1.len(), FILE_BYTES / BLOCK - 1);
        assert_eq!(std::fs::metadata(&path).expect("is there").len() as usize, FILE_BYTES);
    }
}

//! A database that keeps what the engine relies on of sled (`database.rs`), and nothing beyond that: a map whose log is `db`.
//!
//! - A record is handed to the kernel when [`BUFFER`] bytes have come together, in the middle of a group, too, and at `flush`. Nothing
//!   is ever synced.
//! - Opening reads the log up to the first record that is not whole, and cuts it there: that is what a crash, a hole, or damage leaves
//!   of it. A batch is one record. A damaged `conf` is refused.
//! - After a failed write nothing is written any more, and closing panics, as sled does.
//!
//! Beyond it: segments of the log that sled overwrites in place, its snapshots, its threads, the lock that these hold on the file a
//! little longer than the store, and whatever is wrong in sled itself. `tests/sled_*.rs` run on sled.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use parking_lot::Mutex;
use sled::IVec;
use xxhash_rust::xxh3::Xxh3;

use super::handle::Handle;
use super::process::Process;
use crate::store::sled::database::{Database, Scan, Write};
use crate::store::sled::files::{Files as _, OpenFile as _};

/// What is kept in memory before it is handed to the kernel, bytes.
const BUFFER: usize = 8 << 10;
const CONF: &[u8] = b"a simulated database";
/// Length of the payload, checksum.
const HEADER: usize = 12;
/// Stands for the length of a value where the entry is removed.
const REMOVED: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct LogDatabase {
    file: Handle,
    entries: Mutex<BTreeMap<Vec<u8>, IVec>>,
    tail: Mutex<Tail>,
}

/// The end of the log.
#[derive(Debug, Default)]
struct Tail {
    /// How much the kernel has.
    length: usize,
    buffer: Vec<u8>,
    failed: bool,
}

impl LogDatabase {
    pub(super) fn open(process: &Process, dir: &Path) -> sled::Result<LogDatabase> {
        let conf = dir.join("conf");
        if process.look(&conf)?.is_none() {
            process.open_log(&conf)?.write_at(CONF, 0)?;
        } else if process.read(&conf)? != CONF {
            return Err(sled::Error::Unsupported("its conf is damaged".to_owned()));
        }
        let file = process.open_log(&dir.join("db"))?;
        let log = file.read()?;
        let (mut entries, mut length) = (BTreeMap::new(), 0);
        while let Some((writes, end)) = read_record(&log, length) {
            writes.into_iter().for_each(|write| make(&mut entries, write));
            length = end;
        }
        if length < log.len() {
            file.cut(length)?;
        }
        let tail = Tail { length, ..Tail::default() };
        Ok(LogDatabase { file, entries: Mutex::new(entries), tail: Mutex::new(tail) })
    }

    fn write(&self, writes: Vec<Write>) -> sled::Result<()> {
        let mut tail = self.tail.lock();
        let at = tail.length + tail.buffer.len();
        append_record(&mut tail.buffer, at, &writes);
        let is_full = tail.buffer.len() >= BUFFER;
        drop(tail);
        let mut entries = self.entries.lock();
        writes.into_iter().for_each(|write| make(&mut entries, write));
        drop(entries);
        if is_full { self.hand_over() } else { Ok(()) }
    }

    /// Holds no lock while the disk works: there is one writer, and readers go on.
    fn hand_over(&self) -> sled::Result<()> {
        let (at, bytes) = {
            let mut tail = self.tail.lock();
            if tail.failed {
                return Err(io::Error::other("an earlier write failed").into());
            }
            (tail.length, std::mem::take(&mut tail.buffer))
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.file.write_at(&bytes, at as u64);
        let mut tail = self.tail.lock();
        tail.failed = written.is_err();
        tail.length += bytes.len();
        written.map_err(sled::Error::from)
    }
}

impl Database for LogDatabase {
    fn get(&self, key: &[u8]) -> sled::Result<Option<IVec>> {
        Ok(self.entries.lock().get(key).cloned())
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Scan<'_> {
        let entries = self.entries.lock();
        let found = entries.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        let found: Vec<_> = found.map(|(key, value)| Ok((IVec::from(key.as_slice()), value.clone()))).collect();
        Box::new(found.into_iter())
    }

    fn insert(&self, key: &[u8], value: IVec) -> sled::Result<()> {
        self.write(vec![(key.to_vec(), Some(value))])
    }

    fn remove(&self, key: &[u8]) -> sled::Result<()> {
        self.write(vec![(key.to_vec(), None)])
    }

    fn apply_batch(&self, writes: Vec<Write>) -> sled::Result<()> {
        self.write(writes)
    }

    fn flush(&self) -> sled::Result<()> {
        self.hand_over()
    }
}

impl Drop for LogDatabase {
    fn drop(&mut self) {
        if let Err(e) = self.hand_over()
            && !self.file.is_dead()
            && !std::thread::panicking()
        {
            panic!("the database's last write failed: {e}");
        }
    }
}

fn make(entries: &mut BTreeMap<Vec<u8>, IVec>, (key, value): Write) {
    match value {
        Some(value) => drop(entries.insert(key, value)),
        None => drop(entries.remove(&key)),
    }
}

fn append_record(log: &mut Vec<u8>, at: usize, writes: &[Write]) {
    let start = log.len();
    log.extend_from_slice(&[0; HEADER]);
    for (key, value) in writes {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("is short").to_be_bytes();
        log.extend_from_slice(&length(key));
        log.extend_from_slice(&value.as_ref().map_or(REMOVED.to_be_bytes(), |value| length(value)));
        log.extend_from_slice(key);
        log.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let length = u32::try_from(log.len() - start - HEADER).expect("is short");
    log[start..start + 4].copy_from_slice(&length.to_be_bytes());
    let checksum = checksum(at, &log[start + HEADER..]);
    log[start + 4..start + HEADER].copy_from_slice(&checksum.to_be_bytes());
}

/// The writes of the record at this place, and where it ends.
fn read_record(log: &[u8], at: usize) -> Option<(Vec<Write>, usize)> {
    let number = |at: usize| log.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let start = at + HEADER;
    let end = start.checked_add(usize::try_from(number(at)?).ok()?)?;
    let payload = log.get(start..end)?;
    if log[at + 4..start] != checksum(at, payload).to_be_bytes() {
        return None;
    }
    let (mut writes, mut next) = (Vec::new(), start);
    while next < end {
        let (key_length, value_length) = (usize::try_from(number(next)?).ok()?, number(next + 4)?);
        let key_end = next + 8 + key_length;
        let key = log.get(next + 8..key_end)?.to_vec();
        next = key_end;
        let value = match value_length {
            REMOVED => None,
            length => {
                next += usize::try_from(length).ok()?;
                Some(IVec::from(log.get(key_end..next)?))
            }
        };
        writes.push((key, value));
    }
    (!writes.is_empty()).then_some((writes, end))
}

/// A record that is not at its place is none.
fn checksum(at: usize, payload: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&at.to_be_bytes());
    hash.update(payload);
    hash.digest()
}

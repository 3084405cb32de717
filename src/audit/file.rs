//! The file of the audit trail: appended to, and moved away when it is full.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::chain::{Hash, line};
use super::event::{Dropped, Event, Kind};

/// How long a line waits for another process that writes.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks whether that has ended.
const PAUSE: Duration = Duration::from_micros(200);
/// How much is read at once to find where the last line begins.
const PART: u64 = 8 << 10;
/// More files than that are not looked for.
pub(super) const MOST_FILES: u32 = 1000;

/// The trail's file, and those that were moved away.
#[derive(Debug)]
pub(super) struct TrailFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    open: OpenFile,
    /// Hash of the last line that was written here.
    last: Option<Hash>,
    /// Whether another process is waited for. Who waited in vain does not let the next callers wait, too.
    is_patient: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    /// Only a plain file has a size, is locked and moved; a pipe or a device is written to for ever.
    plain: bool,
    /// The size after the own last line, and its hash: nobody else has written if the size is still that.
    known: Option<(u64, Hash)>,
    /// Whether a line was cut short in what has no size.
    torn: bool,
}

/// Where a line goes.
struct End {
    size: u64,
    /// Hash of the line before.
    previous: Hash,
    /// Whether that lacks its line break.
    torn: bool,
}

impl TrailFile {
    pub(super) fn open(path: &Path, max_bytes: u64, keep: u32) -> io::Result<TrailFile> {
        // The host may change its folder.
        let path = std::path::absolute(path)?;
        let open = OpenFile::at(&path)?;
        Ok(TrailFile { path, max_bytes, keep, open, last: None, is_patient: true })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line, and with `synced` waits for the disk. What went wrong beside that is no failure, and is returned.
    pub(super) fn append(&mut self, time: &str, event: &Event<'_>, synced: bool) -> io::Result<Option<String>> {
        self.open.follow(&self.path)?;
        if !self.open.plain {
            let previous = self.last.unwrap_or(Hash::NONE);
            let end = End { size: 0, previous, torn: self.open.torn };
            return self.write(&end, &line(time, event, previous)).map(|()| None);
        }
        self.lock()?;
        let written = self.append_locked(time, event);
        let synced = if synced && written.is_ok() { self.open.file.sync_data() } else { Ok(()) };
        self.unlock();
        synced.and(written)
    }

    fn append_locked(&mut self, time: &str, event: &Event<'_>) -> io::Result<Option<String>> {
        let mut end = self.end()?;
        let mut text = line(time, event, end.previous);
        let full = end.size > 0 && end.size + text.len() as u64 + 2 > self.max_bytes;
        let mut trouble = None;
        if full {
            match self.rotate(end.previous) {
                Ok(too_many) => {
                    self.lock()?;
                    self.drop_files(too_many, time, event.instance)?;
                    end = self.end()?;
                    text = line(time, event, end.previous);
                }
                Err(e) => trouble = Some(format!("is full and cannot be moved to .1: {e}")),
            }
        }
        self.write(&end, &text).map(|()| trouble)
    }

    /// Locks the file that is at the path: no other process writes or moves it meanwhile.
    fn lock(&mut self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.open.file.try_lock() {
                Ok(()) if !self.open.follow(&self.path)? => {
                    self.is_patient = true;
                    return Ok(());
                }
                // It was moved before it was locked, and is closed.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if self.is_patient && Instant::now() < until => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    self.is_patient = false;
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps it locked"));
                }
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
    }

    fn unlock(&self) {
        // It cannot fail for a lock that is held, and closing the file ends it, too.
        let _ = self.open.file.unlock();
    }

    fn end(&self) -> io::Result<End> {
        let size = self.open.file.metadata()?.len();
        match self.open.known {
            Some((known, hash)) if known == size => Ok(End { size, previous: hash, torn: false }),
            _ if size == 0 => Ok(End { size, previous: self.before(), torn: false }),
            _ => {
                let (last, torn) = last_line(&self.open.file, size)?;
                Ok(End { size, previous: Hash::of(&last), torn })
            }
        }
    }

    /// What a file that is begun follows. One that somebody else removed leaves a gap, which is to be seen; one that was moved to `.1` does
    /// not.
    fn before(&self) -> Hash {
        let moved = fs::read(numbered(&self.path, 1)).unwrap_or_default();
        let mut lines = moved.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let last = lines.clone().next_back().map(Hash::of);
        match self.last {
            Some(own) if !lines.any(|line| Hash::of(line) == own) => own,
            _ => last.unwrap_or(Hash::NONE),
        }
    }

    fn write(&mut self, end: &End, text: &[u8]) -> io::Result<()> {
        let bytes = [if end.torn { b"\n" } else { &b""[..] }, text, b"\n"].concat();
        self.open.known = None;
        self.open.put(&bytes)?;
        let hash = Hash::of(text);
        self.last = Some(hash);
        if self.open.plain {
            self.open.known = Some((end.size + bytes.len() as u64, hash));
        }
        Ok(())
    }

    /// Moves the file to `.1`, and each earlier one a number up, and begins another; tells which numbers are more than is kept.
    fn rotate(&mut self, last: Hash) -> io::Result<RangeInclusive<u32>> {
        let mut moved = 0;
        while let Ok(found) = fs::metadata(numbered(&self.path, moved + 1)) {
            if !found.is_file() || moved == MOST_FILES {
                return Err(io::Error::other(format!("{} is in the way", numbered(&self.path, moved + 1).display())));
            }
            moved += 1;
        }
        for number in (1..=moved).rev() {
            fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1))?;
        }
        fs::rename(&self.path, numbered(&self.path, 1))?;
        self.open = OpenFile { known: Some((0, last)), ..OpenFile::at(&self.path)? };
        Ok(self.keep + 1..=moved + 1)
    }

    /// Removes files that were moved away, the oldest first, each once the trail tells of that.
    fn drop_files(&mut self, numbers: RangeInclusive<u32>, time: &str, instance: &str) -> io::Result<()> {
        for number in numbers.rev() {
            let path = numbered(&self.path, number);
            let file = File::open(&path)?;
            let bytes = file.metadata()?.len();
            let last = Hash::of(&last_line(&file, bytes)?.0).to_string();
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let event = Event { dropped: Some(&Dropped { file, bytes, last }), ..Event::new(Kind::Dropped, instance) };
            let end = self.end()?;
            self.write(&end, &line(time, &event, end.previous))?;
            fs::remove_file(&path)?;
        }
        Ok(())
    }
}

/// The name of a file that was moved away.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(format!(".{number}"));
    path.into()
}

/// The last line that is not empty, and whether it lacks its line break.
fn last_line(mut file: &File, size: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut read = PART;
    loop {
        let from = size.saturating_sub(read);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        file.take(size - from).read_to_end(&mut tail)?;
        let torn = tail.last().is_some_and(|last| *last != b'\n');
        let text = &tail[..tail.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1)];
        match text.iter().rposition(|byte| *byte == b'\n') {
            Some(before) => return Ok((text[before + 1..].to_vec(), torn)),
            None if from == 0 => return Ok((text.to_vec(), torn)),
            None => read *= 8,
        }
    }
}

impl OpenFile {
    fn at(path: &Path) -> io::Result<OpenFile> {
        // Not blocking: a pipe that nobody reads must not hold up a lock.
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)?;
        let found = file.metadata()?;
        Ok(OpenFile { id: (found.dev(), found.ino()), plain: found.is_file(), file, known: None, torn: false })
    }

    /// Opens anew what is at the path, if that is another file than before, which it tells.
    fn follow(&mut self, path: &Path) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == self.id => Ok(false),
            _ => {
                *self = OpenFile::at(path)?;
                Ok(true)
            }
        }
    }

    /// Appends by a single write(2).
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = loop {
            match self.file.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Some(last) = bytes[..written].last() {
            self.torn = *last != b'\n';
        }
        if written < bytes.len() {
            return Err(io::Error::other(format!("only {written} of {} bytes were taken; is the disk full?", bytes.len())));
        }
        Ok(())
    }
}

//! Looks whether a trail is whole: no line is missing, changed, moved or added.
//!
//! What it cannot see without a hash that was kept elsewhere: that the newest lines were cut off, or that all lines from one on were written
//! anew, with hashes of their own.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::Hash;
use super::event::Dropped;
use super::file::{MOST_FILES, numbered};
use crate::error::{Code, Error, Result};

/// What was found in a trail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many files it has.
    pub files: usize,
    /// How many lines.
    pub lines: u64,
    /// How many of them are from before lines had hashes.
    pub unchained: u64,
    /// Hash of the last line: kept elsewhere, it shows later whether newer lines were cut off.
    pub last: Option<Hash>,
    /// What is to be known, and no fault.
    pub notes: Vec<Finding>,
    /// What is wrong.
    pub faults: Vec<Finding>,
}

/// What was found at a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1 on; 0 for the file as a whole.
    pub line: u64,
    /// What it is.
    pub what: String,
}

/// Looks at the trail whose file is at `path`, and at the files that were moved away from there. A line with the hash `anchor` must be in it.
///
/// Errors: `InvalidConfig` if there is no such file, or it cannot be read.
pub fn verify(path: &Path, anchor: Option<Hash>) -> Result<Verified> {
    let cannot = |e: io::Error| Error::new(Code::InvalidConfig, format!("{} cannot be read: {e}", path.display()));
    let files = open(path).map_err(cannot)?;
    let mut look = Look { found: Verified { files: files.len(), ..Verified::default() }, ..Look::default() };
    for (path, file, size) in files {
        look.file(&path, &file, size).map_err(cannot)?;
    }
    Ok(look.end(path, anchor))
}

/// All files of a trail, the oldest first, as they are at one moment.
fn open(path: &Path) -> io::Result<Vec<(PathBuf, File, u64)>> {
    let newest = File::open(path)?;
    // As long as this is locked nobody moves them. A writer that is stopped does not keep anybody from looking.
    let _ = newest.try_lock_shared();
    let mut files = Vec::new();
    for number in (1..=MOST_FILES).rev() {
        match File::open(numbered(path, number)) {
            Ok(file) if file.metadata()?.is_file() => files.push((numbered(path, number), file, u64::MAX)),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    let size = newest.metadata()?.len();
    let _ = newest.unlock();
    files.push((path.to_owned(), newest, size));
    Ok(files)
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    previous: Option<String>,
    #[serde(default)]
    dropped: Option<Dropped>,
}

#[derive(Default)]
struct Look {
    found: Verified,
    /// Hash of the line before; none before the first.
    before: Option<Hash>,
    /// Whether a line with a hash was seen.
    is_chained: bool,
    seen: HashSet<Hash>,
    /// What the first line follows, if that is not here.
    first: Option<(Hash, Finding)>,
    /// Last hashes of files that were dropped.
    dropped: HashSet<Hash>,
    /// The line before is no entry: the next one may confirm it.
    torn: Option<Finding>,
}

impl Look {
    fn file(&mut self, path: &Path, file: &File, size: u64) -> io::Result<()> {
        let mut reader = BufReader::new(file.take(size));
        let (mut text, mut number) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut text)? > 0 {
            number += 1;
            let is_ended = text.pop_if(|last| *last == b'\n').is_some();
            if !text.is_empty() {
                self.line(&text, is_ended, Finding { file: path.to_owned(), line: number, what: String::new() });
            }
            text.clear();
        }
        Ok(())
    }

    fn line(&mut self, text: &[u8], is_ended: bool, at: Finding) {
        let found = |what: &str| Finding { what: what.to_owned(), ..at.clone() };
        let hash = Hash::of(text);
        let before = self.before.replace(hash);
        self.found.lines += 1;
        self.found.last = Some(hash);
        let torn = self.torn.take();
        match serde_json::from_slice::<Line>(text) {
            Err(_) if !is_ended => {
                let what = "is cut short, by a crash or a full disk, unless lines were cut off; the next line will close it";
                self.found.notes.push(found(what));
            }
            Err(_) => self.torn = Some(found("is no entry")),
            Ok(Line { previous: None, .. }) if !self.is_chained => self.found.unchained += 1,
            Ok(Line { previous: None, .. }) => {
                self.found.faults.push(found("has no hash: no atlock that writes hashes wrote it"))
            }
            Ok(Line { previous: Some(previous), dropped }) => {
                self.is_chained = true;
                self.dropped.extend(dropped.and_then(|dropped| Hash::parse(&dropped.last)));
                let previous = Hash::parse(&previous);
                match (before, previous) {
                    (Some(before), Some(previous)) if before == previous => {
                        let what = "was cut short when it was written, by a crash or a full disk".to_owned();
                        self.found.notes.extend(torn.map(|torn| Finding { what, ..torn }));
                    }
                    (None, Some(Hash::NONE)) => {}
                    (None, Some(previous)) => self.first = Some((previous, found(""))),
                    (_, Some(previous)) if self.seen.contains(&previous) => {
                        self.found.faults.push(found("stands in the wrong place, or lines before it were added"));
                    }
                    _ => self
                        .found
                        .faults
                        .push(found("does not follow the line before it: that one was changed, or lines in between are missing")),
                }
            }
        }
        self.seen.insert(hash);
    }

    fn end(mut self, path: &Path, anchor: Option<Hash>) -> Verified {
        self.found.faults.extend(self.torn);
        if let Some((previous, at)) = self.first {
            if self.dropped.contains(&previous) {
                self.found.notes.push(Finding { what: "older files were dropped, and an entry tells so".to_owned(), ..at });
            } else {
                let what = "lines before it are missing, and no entry tells that they were dropped".to_owned();
                self.found.faults.insert(0, Finding { what, ..at });
            }
        }
        if let Some(anchor) = anchor.filter(|anchor| !self.seen.contains(anchor)) {
            let at = Finding { file: path.to_owned(), line: 0, what: String::new() };
            if self.dropped.contains(&anchor) {
                self.found.notes.push(Finding { what: format!("the line {anchor} was in a file that was dropped"), ..at });
            } else {
                let what = format!(
                    "the line {anchor} is not there: the newest lines were cut off, lines were written anew, or it was dropped"
                );
                self.found.faults.push(Finding { what, ..at });
            }
        }
        self.found
    }
}

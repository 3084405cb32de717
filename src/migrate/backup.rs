//! A backup: what both stores of a migration had before it began.
//!
//! The format, version 1: lines of JSON, in UTF-8, each ended by a line break.
//! - The first: `{"format":"atlock-backup","version":1,"migration":…,"from":…,"to":…,"at":…}`; `at` is microseconds since 1970.
//! - One for each entry: `{"side":"from"|"to","kind":"lock"|"command"|"status"|"queue"|"freezes","key":…,"at_key":…,"token":…,"value":…}`.
//!   `at_key` is there only where the entry stands at another key (a lock of Atlantis before v0.40); `token` is the fencing token as a
//!   text, `"0"` for none; instead of `value`, `value_hex` has bytes that are no UTF-8.
//! - The last: `{"entries":N,"sha256":…}`: how many entries there are, and SHA-256 of all bytes before this line.
//!
//! Lock values hold clone URLs with tokens: the file is for its owner alone (mode 0600).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entry::{Entry, Survey, hex, key_of, kind};
use super::files::{read, write_whole};
use crate::domain::json::parse_json;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{EntryKey, Held};

const FORMAT: &str = "atlock-backup";
const VERSION: u32 = 1;

/// What both stores had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Backup {
    pub head: Head,
    pub from: BTreeMap<EntryKey, Entry>,
    pub to: BTreeMap<EntryKey, Entry>,
}

/// The first line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    format: String,
    version: u32,
    pub migration: String,
    pub from: String,
    pub to: String,
    pub at: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    side: String,
    kind: String,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_key: Option<String>,
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Tail {
    entries: usize,
    sha256: String,
}

impl Head {
    pub fn new(migration: &str, from: &str, to: &str, at: u64) -> Head {
        let (migration, from, to) = (migration.to_owned(), from.to_owned(), to.to_owned());
        Head { format: FORMAT.to_owned(), version: VERSION, migration, from, to, at }
    }
}

/// Writes a backup; its digest and number of entries.
pub(super) fn write(path: &Path, head: Head, from: &Survey, to: &Survey) -> Result<(String, usize)> {
    let (mut hash, mut entries) = (Sha256::new(), 0);
    let mut digest = String::new();
    write_whole(path, |out| {
        let mut line = |out: &mut dyn Write, line: Vec<u8>| -> io::Result<()> {
            hash.update(&line);
            hash.update(b"\n");
            out.write_all(&line)?;
            out.write_all(b"\n")
        };
        line(out, serde_json::to_vec(&head)?)?;
        for (side, survey) in [("from", from), ("to", to)] {
            for (key, entry) in &survey.entries {
                line(out, serde_json::to_vec(&Line::of(side, key, entry))?)?;
                entries += 1;
            }
        }
        digest = hex(&hash.clone().finalize());
        serde_json::to_writer(&mut *out, &Tail { entries, sha256: digest.clone() })?;
        out.write_all(b"\n")
    })?;
    Ok((digest, entries))
}

impl Line {
    fn of(side: &str, key: &EntryKey, entry: &Entry) -> Line {
        let (value, value_hex) = match String::from_utf8(entry.held.value.clone()) {
            Ok(text) => (Some(text), None),
            Err(e) => (None, Some(hex(e.as_bytes()))),
        };
        let at_key = (entry.at != *key).then(|| entry.at.name().to_owned());
        let (side, kind, key) = (side.to_owned(), kind(key).to_owned(), key.name().to_owned());
        Line { side, kind, key, at_key, token: entry.held.token.to_string(), value, value_hex }
    }

    fn entry(self) -> Option<(EntryKey, Entry)> {
        let key = key_of(&self.kind, &self.key)?;
        let at = match self.at_key {
            Some(name) => key_of(&self.kind, &name)?,
            None => key.clone(),
        };
        let value = match (self.value, self.value_hex) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(digits)) => bytes(&digits)?,
            _ => return None,
        };
        let token = FencingToken::new(self.token.parse().ok()?);
        Some((key, Entry { held: Held { value, token }, at }))
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Reads a backup, and its digest.
///
/// Errors: `InvalidArgument` if it cannot be read, is not whole, or was changed.
pub(super) fn load(path: &Path) -> Result<(Backup, String)> {
    let wrong =
        |what: &str| Error::new(Code::InvalidArgument, format!("{} is no backup that can be used: {what}", path.display()));
    let text = read(path)?;
    let body = text.strip_suffix(b"\n").ok_or_else(|| wrong("it is not whole"))?;
    let end = body.iter().rposition(|byte| *byte == b'\n').ok_or_else(|| wrong("it is not whole"))? + 1;
    let (body, tail) = body.split_at(end);
    let tail: Tail = parse_json(tail).map_err(|_| wrong("its last line is missing"))?;
    let digest = hex(&Sha256::digest(body));
    if digest != tail.sha256 {
        return Err(wrong("its checksum is not that of its last line: it was changed or damaged"));
    }
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let head: Head = parse_json(lines.next().unwrap_or_default()).map_err(|e| wrong(&format!("its first line: {e}")))?;
    if head.format != FORMAT || head.version != VERSION {
        return Err(wrong(&format!(
            "it has version {} of format {:?}; this version reads {VERSION} of {FORMAT:?}",
            head.version, head.format
        )));
    }
    let mut backup = Backup { head, ..Backup::default() };
    for (number, line) in lines.enumerate() {
        let wrong = || wrong(&format!("line {} is no entry", number + 2));
        let line: Line = parse_json(line).map_err(|_| wrong())?;
        let side = line.side.clone();
        let (key, entry) = line.entry().ok_or_else(wrong)?;
        match side.as_str() {
            "from" => backup.from.insert(key, entry),
            "to" => backup.to.insert(key, entry),
            _ => return Err(wrong()),
        };
    }
    if backup.from.len() + backup.to.len() != tail.entries {
        return Err(wrong("it has not as many entries as its last line says"));
    }
    Ok((backup, digest))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn survey(entries: &[(EntryKey, EntryKey, &[u8], u64)]) -> Survey {
        let entry = |(key, at, value, token): &(EntryKey, EntryKey, &[u8], u64)| {
            let held = Held { value: value.to_vec(), token: FencingToken::new(*token) };
            (key.clone(), Entry { held, at: at.clone() })
        };
        Survey { entries: entries.iter().map(entry).collect(), ..Survey::default() }
    }

    #[test]
    fn a_backup_comes_back_whole_and_a_changed_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backup.jsonl");
        let (old, lock) = (EntryKey::Project("a/b/p/d".to_owned()), EntryKey::Project("a/b/p/d/".to_owned()));
        let command = EntryKey::Command("odd \"\n\u{e9}".to_owned());
        let from = survey(&[
            (lock.clone(), old, b"{\"a\":\"\xc3\xa9\"}", u64::MAX),
            (command.clone(), command, b"\"\xff\"", 0),
            (EntryKey::Freezes, EntryKey::Freezes, b"{}", 0),
        ]);
        let to = survey(&[(lock.clone(), lock, b"{}", 7)]);
        let (digest, entries) = write(&path, Head::new("id", "a", "b", 9), &from, &to).expect("is written");
        assert_eq!(entries, 4);
        assert_eq!(std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        let (backup, read) = load(&path).expect("is read");
        assert_eq!((read, &backup.from, &backup.to), (digest, &from.entries, &to.entries));
        let whole = std::fs::read(&path).expect("is there");
        for at in [3, whole.len() / 2, whole.len() - 5] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, changed).expect("is written");
            assert_eq!(load(&path).expect_err("is refused").code(), Code::InvalidArgument, "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("is written");
        assert!(load(&path).is_err());
    }
}

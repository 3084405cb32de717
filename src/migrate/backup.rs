//! A backup: what both stores of a migration had before it began.
//!
//! The format, version 1: lines of JSON, in UTF-8, each ended by a line break.
//! - The first: `{"format":"atlock-backup","version":1,"migration":…,"from":…,"to":…,"at":…}`; `at` is microseconds since 1970.
//! - One for each entry: `{"side":"from"|"to","kind":"lock"|"command"|"status"|"queue"|"freezes","key":…,"at_key":…,"token":…,"value":…}`.
//!   `at_key` is there only where the entry stands at another key (a lock of Atlantis before v0.40); `token` is the fencing token as a
//!   text, `"0"` for none; instead of `value`, `value_hex` has bytes that are no UTF-8, and `value_sealed` sealed ones, in base64.
//! - Where a key is set (`locking.encryption`), the first line also has `data_keys`: the backup's own data key, wrapped, and each value is sealed
//!   under that (`crate::sealing`), with the migration, the side, the kind, the key and the token as associated data.
//! - The last: `{"entries":N,"sha256":…}`: how many entries there are, and SHA-256 of all bytes before this line.
//!
//! Lock values hold clone URLs with tokens: the file is for its owner alone (mode 0600), and sealed values have version 2.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entry::{Entry, Survey, hex, key_of, kind};
use super::files::{read, write_whole};
use crate::domain::json::parse_json;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::sealing::{MasterKeys, Ring, Sealing};
use crate::store::contract::local::{EntryKey, Held};

const FORMAT: &str = "atlock-backup";
const VERSION: u32 = 1;
/// The version of a backup with sealed values.
const SEALED_VERSION: u32 = 2;

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_keys: Option<Ring>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    value_sealed: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Tail {
    entries: usize,
    sha256: String,
}

impl Head {
    pub fn new(migration: &str, from: &str, to: &str, at: u64) -> Head {
        let (migration, from, to) = (migration.to_owned(), from.to_owned(), to.to_owned());
        Head { format: FORMAT.to_owned(), version: VERSION, migration, from, to, at, data_keys: None }
    }
}

/// Writes a backup, sealed if there are keys; its digest and number of entries.
pub(super) fn write(
    path: &Path,
    mut head: Head,
    from: &Survey,
    to: &Survey,
    masters: Option<&MasterKeys>,
) -> Result<(String, usize)> {
    let mut sealing = Sealing::PLAIN;
    if let Some(masters) = masters {
        let (own, ring) = Ring::fresh(masters)?;
        sealing = own;
        (head.version, head.data_keys) = (SEALED_VERSION, Some(ring));
    }
    let sealed = |side: &str, key: &EntryKey, entry: &Entry| {
        let sealed = sealing.seal(&associated(&head.migration, side, key, &entry.held), &entry.held.value);
        sealed.map(|sealed| Line::of(side, key, entry, sealed)).map_err(io::Error::other)
    };
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
                line(out, serde_json::to_vec(&sealed(side, key, entry)?)?)?;
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
    fn of(side: &str, key: &EntryKey, entry: &Entry, sealed: Option<Vec<u8>>) -> Line {
        let (value, value_hex) = match String::from_utf8(entry.held.value.clone()) {
            _ if sealed.is_some() => (None, None),
            Ok(text) => (Some(text), None),
            Err(e) => (None, Some(hex(e.as_bytes()))),
        };
        let value_sealed = sealed.map(|sealed| STANDARD.encode(sealed));
        let at_key = (entry.at != *key).then(|| entry.at.name().to_owned());
        let (side, kind, key) = (side.to_owned(), kind(key).to_owned(), key.name().to_owned());
        Line { side, kind, key, at_key, token: entry.held.token.to_string(), value, value_hex, value_sealed }
    }

    fn entry(self, migration: &str, sealing: &Sealing) -> Option<(EntryKey, Entry)> {
        let key = key_of(&self.kind, &self.key)?;
        let at = match self.at_key {
            Some(name) => key_of(&self.kind, &name)?,
            None => key.clone(),
        };
        let token = FencingToken::new(self.token.parse().ok()?);
        let value = match (self.value, self.value_hex, self.value_sealed) {
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(digits), None) => bytes(&digits)?,
            (None, None, Some(sealed)) => {
                let of = Held { value: Vec::new(), token };
                sealing.open(&associated(migration, &self.side, &key, &of), &STANDARD.decode(sealed).ok()?)?
            }
            _ => return None,
        };
        Some((key, Entry { held: Held { value, token }, at }))
    }
}

/// What says which entry a sealed value belongs to.
fn associated(migration: &str, side: &str, key: &EntryKey, held: &Held) -> Vec<u8> {
    let parts = ["atlock backup", migration, side, kind(key), key.name(), &held.token.to_string()];
    parts.join("\0").into_bytes()
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Reads a backup, and its digest.
///
/// Errors: `InvalidArgument` if it cannot be read, is not whole, or was changed; `EncryptionKey` if it is sealed, and no key that is given
/// opens it.
pub(super) fn load(path: &Path, masters: Option<&MasterKeys>) -> Result<(Backup, String)> {
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
    if head.format != FORMAT || ![VERSION, SEALED_VERSION].contains(&head.version) {
        return Err(wrong(&format!(
            "it has version {} of format {:?}; this version reads up to {SEALED_VERSION} of {FORMAT:?}",
            head.version, head.format
        )));
    }
    let place = format!("the backup {}", path.display());
    let masters = masters.filter(|_| head.data_keys.is_some());
    let sealing = Ring::open(head.data_keys.as_ref(), masters, &place)?.sealing;
    let mut backup = Backup { head, ..Backup::default() };
    for (number, line) in lines.enumerate() {
        let wrong = || wrong(&format!("line {} is no entry", number + 2));
        let line: Line = parse_json(line).map_err(|_| wrong())?;
        let side = line.side.clone();
        let (key, entry) = line.entry(&backup.head.migration, &sealing).ok_or_else(wrong)?;
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
        let (digest, entries) = write(&path, Head::new("id", "a", "b", 9), &from, &to, None).expect("is written");
        assert_eq!(entries, 4);
        assert_eq!(std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        let (backup, read) = load(&path, None).expect("is read");
        assert_eq!((read, &backup.from, &backup.to), (digest, &from.entries, &to.entries));
        let whole = std::fs::read(&path).expect("is there");
        for at in [3, whole.len() / 2, whole.len() - 5] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, changed).expect("is written");
            assert_eq!(load(&path, None).expect_err("is refused").code(), Code::InvalidArgument, "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("is written");
        assert!(load(&path, None).is_err());
    }

    #[test]
    fn a_sealed_backup_shows_no_value_and_opens_with_its_key_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backup.jsonl");
        let keys = |digit: &str| MasterKeys::parse(digit.repeat(64).as_bytes(), "test").expect("is a key");
        let names = ["a/b/p/d/", "a/b/q/d/"].map(|name| EntryKey::Project(name.to_owned()));
        let from = survey(&[
            (names[0].clone(), names[0].clone(), b"{\"secret\":1}", 5),
            (names[1].clone(), names[1].clone(), b"{\"secret\":2}", 5),
        ]);
        write(&path, Head::new("id", "a", "b", 9), &from, &Survey::default(), Some(&keys("a"))).expect("is written");
        let text = std::fs::read_to_string(&path).expect("is text");
        assert!(!text.contains("secret") && text.contains("a/b/p/d/"), "{text}");
        assert_eq!(load(&path, Some(&keys("a"))).expect("is read").0.from, from.entries);
        for masters in [None, Some(&keys("b"))] {
            assert_eq!(load(&path, masters).expect_err("is refused").code(), Code::EncryptionKey);
        }
        // One entry's value in the place of the other's, with a checksum that is right.
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let (first, second) = (lines[1].clone(), lines[2].clone());
        lines[1] = second.replace("a/b/q/d/", "a/b/p/d/");
        lines[2] = first.replace("a/b/p/d/", "a/b/q/d/");
        let body = lines[..3].join("\n") + "\n";
        let tail = serde_json::to_string(&Tail { entries: 2, sha256: hex(&Sha256::digest(&body)) }).expect("is written");
        std::fs::write(&path, format!("{body}{tail}\n")).expect("is written");
        let error = load(&path, Some(&keys("a"))).expect_err("is refused");
        assert!(error.message().contains("line 2 is no entry"), "{error}");
    }
}

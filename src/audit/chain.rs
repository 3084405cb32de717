//! How the lines hang together: each carries the hash of the line before, so that one that is missing, changed or moved is seen.
//!
//! The hash is SHA-256 over the bytes of a line without its line break. The first line of a trail carries [`Hash::NONE`]. Nothing in the
//! chain is secret: whoever may write all files can make another one, and whoever keeps a hash elsewhere sees that.

use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::event::Event;

/// The hash of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What stands before the first line.
    pub const NONE: Hash = Hash([0; 32]);

    /// The hash of a line, which has no line break.
    pub fn of(line: &[u8]) -> Hash {
        Hash(Sha256::digest(line).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Hash> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Hash(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    #[serde(flatten)]
    event: &'a Event<'a>,
    previous: Hash,
}

/// A line without its line break.
pub(super) fn line(time: &str, event: &Event<'_>, previous: Hash) -> Vec<u8> {
    // Texts and numbers serialise without an error.
    serde_json::to_vec(&Line { time, event, previous }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = Hash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        assert_eq!(Hash::parse("ba78"), None);
        assert_eq!(Hash::parse(&"+f".repeat(32)), None, "no sign is a digit");
    }
}

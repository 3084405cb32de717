//! How things are stored: the tree's keys, and the form of an entry.
//!
//! One sled tree holds everything, told apart by the first byte of the key:
//!
//! | key | value |
//! |---|---|
//! | `L` lock key | entry: a project's lock |
//! | `C` command name | entry: a command's lock |
//! | `S` pull-status key | entry: a pull status |
//! | `W` repository | entry: the queue of those who wait for the repository's locks |
//! | `Z` | entry: the freezes |
//! | `X` length of an entry's key, that key, number | the entry's value beyond its first [`CHUNK`] bytes |
//! | `P` length of repo, repo, pull number, token; a digest of the value, if another has all these | the key of a lock that this pull holds |
//! | `H` an entry's key | what hybrid mode remembers of the entry (`history.rs`) |
//! | `K` an entry's key | a conflict about the entry (`history.rs`) |
//! | `F` an entry's key | the host store does not have the entry's value yet (`history.rs`) |
//! | `B` | there is a host store, and which mark it should bear (`history.rs`) |
//! | `Q` length of repo, repo, pull number | a release by pull that Redis has to learn of (`history.rs`) |
//! | `R` | what hybrid mode remembers of its Redis (`history.rs`) |
//! | `E` | the wrapped data keys (`crate::sealing`): there are some as long as anything may be sealed |
//! | `M` | the meta record (`meta.rs`), and perhaps the last group's writes (`group.rs`) |
//!
//! Lengths and numbers are big-endian and of fixed size, so no key is ever a prefix match of something else: the locks of
//! `a/b` cannot be mistaken for those of `a/b2` or `a/b/c` (P3).
//!
//! An entry is a header of [`HEADER`] bytes and then the caller's bytes unchanged (P4), or, behind another first byte, the same bytes
//! sealed. What holds a caller's values is sealed where there is a key: entries and conflicts. The header stays in clear, and is associated
//! data, as is the tree's key. Long values are cut into chunks
//! because sled puts a tree node over a quarter of a segment into a file of its own, which it never syncs, and on recovery
//! skips that one record if the file is gone: a batch would come back in part. With at most 20 entries a leaf (it splits
//! over 16 and merges below 4), [`CHUNK`] and [`NAME_LIMIT`] keep every leaf, and 257 keys an index node, below that quarter.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};
use sled::IVec;

use crate::domain::lock::PullRef;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::sealing::{KeyId, Sealing, key_id, stand_in};
use crate::store::LockKey;
use crate::store::contract::local::EntryKey;

/// Size of a segment of sled's log, bytes.
pub(super) const SEGMENT: usize = 256 << 10;
/// Longest name (of a lock, a command, a pull status, a repository) that stands in a key itself, bytes. Of a longer one its
/// SHA-256 stands there, behind a byte that begins no text.
const NAME_LIMIT: usize = 200;
/// Of the digest of a lock's key, so much tells locks of one pull and one token apart, bytes.
const APART: usize = 16;
/// Longest key in the tree, that of a by-pull index entry: tag, length, name, pull number, token, digest; bytes.
const KEY_LIMIT: usize = 1 + 4 + NAME_LIMIT + 8 + 8 + APART;
/// Longest value, bytes.
pub(super) const VALUE_LIMIT: usize = crate::store::contract::local::MAX_VALUE_BYTES;
/// How much of a value one tree entry holds, bytes.
const CHUNK: usize = 2 << 10;
/// Length of an entry's header, bytes.
const HEADER: usize = 22;
const FORMAT: u8 = 1;
/// The first byte of an entry whose value is sealed.
const SEALED: u8 = 2;

// 20 entries a leaf, one of them the meta record; 257 keys an index node; 64 bytes of sled's own for each, 1 KiB for the node.
const _: () = assert!(20 * (HEADER + CHUNK + KEY_LIMIT + 64) + 1024 < SEGMENT / 4);
const _: () = assert!(257 * (KEY_LIMIT + 8) + 1024 < SEGMENT / 4);

/// The meta record's key.
pub(super) const META_KEY: &[u8] = b"M";
/// The key of the wrapped data keys.
pub(super) const RING_KEY: &[u8] = b"E";
/// The key of what is remembered of Redis.
pub(super) const REDIS_KEY: &[u8] = b"R";
/// What the keys of all histories begin with.
pub(super) const HISTORY_PREFIX: &[u8] = b"H";
/// What the keys of all conflicts begin with.
pub(super) const CONFLICT_PREFIX: &[u8] = b"K";
/// The key that says that there is a host store.
pub(super) const HOST_KEY: &[u8] = b"B";
/// What the keys of all marks begin with that the host store is behind.
pub(super) const HOST_LACKS_PREFIX: &[u8] = b"F";
/// What the keys of all releases by pull begin with.
pub(super) const PULL_RELEASE_PREFIX: &[u8] = b"Q";
/// What the keys of all entries begin with: locks, commands' locks, documents.
pub(super) const ENTRY_PREFIXES: [&[u8]; 5] = [PROJECT_PREFIX, b"C", b"S", QUEUE_PREFIX, b"Z"];
/// What the keys of all that is sealed begin with, where there is a key: what holds a caller's values.
pub(super) const SEALED_PREFIXES: [&[u8]; 6] = [PROJECT_PREFIX, b"C", b"S", QUEUE_PREFIX, b"Z", CONFLICT_PREFIX];
/// What the keys of the by-pull index begin with.
pub(super) const INDEX_PREFIX: &[u8] = b"P";
/// What the keys of all queues begin with.
pub(super) const QUEUE_PREFIX: &[u8] = b"W";
/// What the keys of all project locks begin with.
pub(super) const PROJECT_PREFIX: &[u8] = b"L";

/// The tree key of a lock.
pub(super) fn lock_key(key: LockKey<'_>) -> Vec<u8> {
    match key {
        LockKey::Project(name) => entry_key(b'L', name),
        LockKey::Command(name) => entry_key(b'C', name),
    }
}

/// The tree key of an entry.
pub(super) fn key_of(key: &EntryKey) -> Vec<u8> {
    match key {
        EntryKey::Project(name) => entry_key(b'L', name),
        EntryKey::Command(name) => entry_key(b'C', name),
        EntryKey::Status(name) => entry_key(b'S', name),
        EntryKey::Queue(repo) => entry_key(b'W', repo),
        EntryKey::Freezes => entry_key(b'Z', ""),
    }
}

/// The entry that a tree key names; `None` if its name is too long to stand in the key.
pub(super) fn name_of(tree_key: &[u8]) -> Option<EntryKey> {
    let (tag, name) = tree_key.split_first()?;
    let name = std::str::from_utf8(name).ok()?.to_owned();
    match tag {
        b'L' => Some(EntryKey::Project(name)),
        b'C' => Some(EntryKey::Command(name)),
        b'S' => Some(EntryKey::Status(name)),
        b'W' => Some(EntryKey::Queue(name)),
        b'Z' => Some(EntryKey::Freezes),
        _ => None,
    }
}

/// Whether an entry's name stands in its tree key.
pub(super) fn is_named(key: &EntryKey) -> bool {
    key.name().len() <= NAME_LIMIT
}

/// Another tree key that belongs to an entry's.
pub(super) fn beside(prefix: &[u8], entry_key: &[u8]) -> Vec<u8> {
    [prefix, entry_key].concat()
}

fn entry_key(tag: u8, name: &str) -> Vec<u8> {
    [&[tag], &*bounded(name)].concat()
}

/// A name as it stands in a key. Different names stay different: text never begins with 0xff.
fn bounded(name: &str) -> Cow<'_, [u8]> {
    if name.len() <= NAME_LIMIT {
        return Cow::Borrowed(name.as_bytes());
    }
    Cow::Owned([&[0xff], &*Sha256::digest(name)].concat())
}

/// An error of code `TooLarge` if `length` is over `limit`.
pub(super) fn check_length(what: &str, length: usize, limit: usize) -> Result<()> {
    if length <= limit {
        return Ok(());
    }
    Err(Error::new(Code::TooLarge, format!("{what} of {length} bytes: the embedded store takes at most {limit}")))
}

/// What the by-pull index keys of exactly this pull begin with.
pub(super) fn pull_prefix(pull: PullRef<'_>) -> Vec<u8> {
    let repo = bounded(pull.repo);
    [INDEX_PREFIX, &length_bytes(repo.len())[..], &repo, &pull.num.to_be_bytes()].concat()
}

/// The by-pull index key of the lock with this token, and the one that it has if another lock has the first: several locks of a pull have
/// one token if a stock server took them, which gives none, or Redis gave it to both in one microsecond.
pub(super) fn index_keys(pull_prefix: &[u8], token: FencingToken, entry_key: &[u8]) -> [Vec<u8>; 2] {
    let first = [pull_prefix, &token.get().to_be_bytes()].concat();
    let second = [&first, &Sha256::digest(entry_key)[..APART]].concat();
    [first, second]
}

fn chunk_key(entry_key: &[u8], number: usize) -> Vec<u8> {
    [b"X", &length_bytes(entry_key.len())[..], entry_key, &length_bytes(number)].concat()
}

/// The entry's key in a chunk's.
fn whose_chunk(tree_key: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(tree_key.strip_prefix(b"X")?);
    let length = u32::from_be_bytes(reader.take()?);
    reader.take_slice(length)
}

/// Whether an entry of this key holds a caller's values, and is sealed where there is a key.
pub(super) fn is_of_values(key: &[u8]) -> bool {
    SEALED_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Whether this is a further part of such an entry.
pub(super) fn is_chunk_of_value(tree_key: &[u8]) -> bool {
    whose_chunk(tree_key).is_some_and(is_of_values)
}

/// Whether this is the entry of this key, or a further part of that.
pub(super) fn is_part_of(tree_key: &[u8], key: &[u8]) -> bool {
    tree_key == key || whose_chunk(tree_key) == Some(key)
}

/// A length or number as it is stored. All are bounded, the largest by [`VALUE_LIMIT`].
pub(super) fn length_bytes(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// Whether a value was found to be a project lock's JSON (`crate::domain::lock`) when it was stored. The numbers are the format's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was not, or it is no project's entry.
    #[default]
    NoLock = 0,
    /// It was one for earlier versions, which looked at its names alone; it has a by-pull index entry. It may be none.
    LockOnce = 1,
    /// It is one; it has a by-pull index entry.
    Lock = 2,
}

impl Verdict {
    /// Of a value that is a project lock's JSON, or is none.
    pub(super) fn of(is_lock: bool) -> Verdict {
        if is_lock { Verdict::Lock } else { Verdict::NoLock }
    }
}

/// What is known of an entry beside its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the value was found to be a project lock's JSON when it was stored.
    pub verdict: Verdict,
    /// Fencing token of a lock; 0 for a pull status.
    pub token: FencingToken,
    /// When it was stored, microseconds since 1970 by this machine's clock. For people, not for decisions.
    pub stored_at: u64,
}

/// What says which record a sealed value belongs to.
fn associated(key: &[u8], header: Header) -> Vec<u8> {
    let (token, stored_at) = (header.token.get().to_be_bytes(), header.stored_at.to_be_bytes());
    [&b"atlock embedded record\0"[..], &[SEALED, header.verdict as u8], &token, &stored_at, key].concat()
}

/// The tree entries, key and value, that make up one entry.
pub(super) fn encode(key: &[u8], header: Header, value: &[u8], sealing: &Sealing) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    check_length("a value", value.len(), VALUE_LIMIT)?;
    let sealed = if is_of_values(key) { sealing.seal(&associated(key, header), value)? } else { None };
    let value = sealed.as_deref().unwrap_or(value);
    let (first, rest) = value.split_at(value.len().min(CHUNK));
    let mut bytes = Vec::with_capacity(HEADER + first.len());
    bytes.push(if sealed.is_some() { SEALED } else { FORMAT });
    bytes.push(header.verdict as u8);
    bytes.extend_from_slice(&header.token.get().to_be_bytes());
    bytes.extend_from_slice(&header.stored_at.to_be_bytes());
    bytes.extend_from_slice(&length_bytes(value.len()));
    bytes.extend_from_slice(first);
    let chunks = rest.chunks(CHUNK).enumerate().map(|(number, chunk)| (chunk_key(key, number), chunk.to_vec()));
    Ok(std::iter::once((key.to_vec(), bytes)).chain(chunks).collect())
}

/// The first tree entry of an entry, read back.
pub(super) struct Stored {
    pub header: Header,
    is_sealed: bool,
    length: usize,
    first: IVec,
}

impl Stored {
    /// Reads the first tree entry.
    pub(super) fn decode(key: &[u8], bytes: IVec) -> Result<Stored> {
        let mut reader = Reader(&bytes);
        let header = (|| {
            let is_sealed = match reader.take()? {
                [FORMAT] => false,
                [SEALED] => true,
                _ => return None,
            };
            let verdict = match reader.take()? {
                [0] => Verdict::NoLock,
                [1] => Verdict::LockOnce,
                [_] => Verdict::Lock,
            };
            let token = FencingToken::new(u64::from_be_bytes(reader.take()?));
            let stored_at = u64::from_be_bytes(reader.take()?);
            let length = usize::try_from(u32::from_be_bytes(reader.take()?)).ok()?;
            Some((Header { verdict, token, stored_at }, is_sealed, length))
        })();
        match header {
            Some((header, is_sealed, length)) if bytes.len() - HEADER == length.min(CHUNK) => {
                Ok(Stored { header, is_sealed, length, first: bytes })
            }
            _ => Err(unreadable(key)),
        }
    }

    /// The keys of the further tree entries.
    pub(super) fn chunk_keys<'a>(&self, key: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + use<'a> {
        (0..self.length.div_ceil(CHUNK).saturating_sub(1)).map(move |number| chunk_key(key, number))
    }

    /// The value, if it is all in the first tree entry, in clear: no copy.
    pub(super) fn short_value(&self) -> Option<&[u8]> {
        (self.length <= CHUNK && !self.is_sealed).then(|| &self.first[HEADER..])
    }

    /// Under which key the value is sealed; `None`: it is in clear. Of a sealed value that has no key's id, one that no key has.
    pub(super) fn sealed_under(&self) -> Option<KeyId> {
        self.is_sealed.then(|| key_id(&self.first[HEADER..]).unwrap_or_default())
    }

    /// The whole value, opened, and its header; `read` gets a tree entry.
    ///
    /// In the place of a sealed value that does not open comes what no reader takes for a lock, and so does the header: the entry stays, and is
    /// listed as unreadable.
    pub(super) fn open(
        mut self,
        key: &[u8],
        sealing: &Sealing,
        read: impl Fn(&[u8]) -> Result<Option<IVec>>,
    ) -> Result<(Header, Vec<u8>)> {
        let value = self.value(key, read)?;
        if !self.is_sealed {
            return Ok((self.header, value));
        }
        let opened = sealing.open(&associated(key, self.header), &value);
        let value = opened.unwrap_or_else(|| {
            if self.header.verdict == Verdict::Lock {
                self.header.verdict = Verdict::LockOnce;
            }
            stand_in(&value)
        });
        Ok((self.header, value))
    }

    /// The whole value as it is stored; `read` gets a tree entry.
    fn value(&self, key: &[u8], read: impl Fn(&[u8]) -> Result<Option<IVec>>) -> Result<Vec<u8>> {
        let mut value = Vec::with_capacity(self.length);
        value.extend_from_slice(&self.first[HEADER..]);
        for chunk in self.chunk_keys(key) {
            value.extend_from_slice(&read(&chunk)?.ok_or_else(|| unreadable(key))?);
        }
        if value.len() == self.length { Ok(value) } else { Err(unreadable(key)) }
    }
}

fn unreadable(key: &[u8]) -> Error {
    Error::new(Code::StoreDamaged, format!("the embedded store's entry {:?} is not in its format", String::from_utf8_lossy(key)))
}

/// Takes fixed-size fields off a byte string.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `length` bytes.
    pub(super) fn take_slice(&mut self, length: u32) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(field)
    }

    /// The next `N` bytes.
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pull_is_never_a_prefix_match_of_another() {
        let pull = |repo, num| pull_prefix(PullRef { repo, num });
        let names = ["a/b", "a/b2", "a/b/c", "a", "", "a/b\0", "a/b\0\0\0\0\0\0\0\u{1}"];
        let numbers = [0, 1, -1, 256, i64::MIN, i64::MAX, i64::from_be_bytes(*b"aaaaaaaa"), i64::from_be_bytes(*b"/caaaaaa")];
        let all: Vec<Vec<u8>> = names.iter().flat_map(|repo| numbers.iter().map(|num| pull(repo, *num))).collect();
        for (i, one) in all.iter().enumerate() {
            for other in &all[i + 1..] {
                assert!(!one.starts_with(other) && !other.starts_with(one));
            }
        }
        // Repository `a/b` with a number that reads as text, beside the repository that has this text in its name.
        let number_as_text = i64::from_be_bytes(*b"/cdefghi");
        let keys = index_keys(&pull("a/b/cdefghi", 1), FencingToken::new(1), b"L");
        assert!(keys.iter().all(|key| !key.starts_with(&pull("a/b", number_as_text)) && key.len() <= KEY_LIMIT));
    }

    #[test]
    fn long_names_have_short_keys_of_their_own() {
        let (short, long) = ("x".repeat(NAME_LIMIT), "x".repeat(NAME_LIMIT + 1));
        let names = [short.clone(), long.clone(), format!("{long}x"), format!("y{short}")];
        let keys: std::collections::BTreeSet<_> = names.iter().map(|name| lock_key(LockKey::Project(name))).collect();
        assert_eq!(keys.len(), names.len());
        assert!(keys.iter().all(|key| key.len() <= KEY_LIMIT));
        assert_ne!(lock_key(LockKey::Project(&long)), lock_key(LockKey::Command(&long)));
        assert!(!pull_prefix(PullRef { repo: &short, num: 1 }).starts_with(&pull_prefix(PullRef { repo: &long, num: 1 })));
    }

    #[test]
    fn an_over_long_value_is_refused() {
        assert_eq!(
            encode(b"L", Header::default(), &vec![0; VALUE_LIMIT + 1], &Sealing::PLAIN).expect_err("is refused").code(),
            Code::TooLarge
        );
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_byte_for_byte(length in 0_usize..4 * CHUNK, token: u64, stored_at: u64, is_lock: bool) {
            let value: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let header = Header { verdict: Verdict::of(is_lock), token: FencingToken::new(token), stored_at };
            let entries: BTreeMap<_, _> = encode(b"Lkey", header, &value, &Sealing::PLAIN).expect("encodes").into_iter().collect();
            let stored = Stored::decode(b"Lkey", entries[&b"Lkey"[..]].as_slice().into()).expect("decodes");
            prop_assert_eq!(stored.header, header);
            prop_assert_eq!(stored.chunk_keys(b"Lkey").count() + 1, entries.len());
            let read = |key: &[u8]| Ok(entries.get(key).map(|bytes| bytes.as_slice().into()));
            prop_assert_eq!(stored.value(b"Lkey", read).expect("is whole"), value);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if let Ok(stored) = Stored::decode(b"Lkey", bytes.into()) {
                let _ = stored.value(b"Lkey", |_| Ok(None));
            }
        }
    }
}

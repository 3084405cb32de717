//! Where bytes of strangers come in: for each reader a target that takes any bytes, and panics if the reader breaks a promise.
//!
//! `fuzz/` has a program of libFuzzer for each target (`make fuzz`). The tests below send every input of `fuzz/corpus` through its target,
//! and mutants of them that are the same in each run, so that `cargo test` fuzzes a little, too.
//!
//! What each target looks for, beside panics and endless loops:
//! - What is read and written again is the same: nobody's lock changes by being looked at.
//! - An error does not repeat what was read: it goes to logs and pull requests, and what was read may hold a token.
//! - No reply makes a lock granted but one that says so.
#![allow(clippy::expect_used)] // a panic is what they tell by

use crate::config::Config;
use crate::domain::key::{Fields, KeyFormat};
use crate::domain::lock::{ProjectLock, check_command_lock, check_pull_status};
use crate::domain::pattern::fits;
use crate::error::Code;
use crate::queue::freeze::Freezes;
use crate::queue::{Queue, merge};
use crate::sealing::credentials::{self, Closed};
use crate::sealing::{MasterKeys, Ring};
use crate::store::moved::Mark;
use crate::store::{host, redis, sled};

/// A target: its name, which its folder in `fuzz/corpus` has, too, and what it does.
type Target = (&'static str, fn(&[u8]));

/// Every target.
const TARGETS: &[Target] = &[
    ("config", config),
    ("lock", lock),
    ("key", key),
    ("queue", queue),
    ("sealing", sealing),
    ("mark", mark),
    ("journal", sled::fuzzing::journal),
    ("record", sled::fuzzing::record),
    ("host_answer", host::fuzzing::answer),
    ("redis_reply", redis::fuzzing::reply),
    ("socket_line", crate::socket::fuzzing::line),
];

/// Sends bytes through the target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    target(bytes);
}

/// A settings file.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(e) = Config::parse(text, "settings") {
        assert!(matches!(e.code(), Code::InvalidConfig | Code::Unsupported), "{e}");
    }
}

/// A lock, a command lock, a pull status.
fn lock(bytes: &[u8]) {
    for checked in [check_command_lock(bytes), check_pull_status(bytes)] {
        assert!(checked.is_ok() || checked.is_err_and(|e| e.code() == Code::InvalidJson));
    }
    match ProjectLock::parse(bytes) {
        Ok(lock) => {
            let fields = lock.fields();
            assert!(fields.key_in(KeyFormat::Current).starts_with(&fields.old_key()));
            // What other programs are to read of it: an object, however deep its members are.
            let object = serde_json::from_slice::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>(bytes);
            assert!(object.is_ok_and(|members| members.contains_key("Pull")), "a lock is no object with a pull");
        }
        Err(e) => assert!(e.code() == Code::InvalidJson && e.message().len() < 300, "{e}"),
    }
}

/// A lock's key, and a pattern of keys.
fn key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(fields) = Fields::guess(text) {
        assert_eq!(fields.key(), text, "what was guessed is another key");
    }
    let (pattern, name) = text.split_once('\n').unwrap_or((text, text));
    let fitted = fits(pattern, name);
    assert!(fitted || (pattern != "*" && pattern != name));
}

/// The queue's document and the freezes', and two queues that went on apart.
fn queue(bytes: &[u8]) {
    if let Ok(queue) = Queue::decode(Some(bytes)) {
        let written = queue.encode();
        let again = Queue::decode(written.as_deref()).expect("what was written is read");
        assert_eq!(again.encode(), written, "a queue changes by being read");
    }
    if let Ok(freezes) = Freezes::decode(Some(bytes)) {
        let written = freezes.encode();
        let again = Freezes::decode(Some(&written)).expect("what was written is read");
        assert_eq!(again.encode(), written, "freezes change by being read");
    }
    let (ours, theirs) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, bytes),
    };
    if let Some(merged) = merge(ours, theirs) {
        assert!(Queue::decode(Some(&merged)).is_ok(), "two queues make none");
    }
}

/// Data keys, master keys, what is sealed, and credentials in values.
fn sealing(bytes: &[u8]) {
    if let Ok(ring) = Ring::decode(bytes, "a store") {
        assert!(ring.encode().is_ok());
        // Nobody has the keys of whoever wrote that, unless there are none.
        let masters = MasterKeys::parse(&[b'7'; 64], "a file").expect("64 digits are a key");
        if let Ok(opened) = Ring::open(Some(&ring), Some(&masters), "a store") {
            assert!(opened.sealing.open(b"a record", bytes).is_none(), "what nobody sealed opens");
        }
    }
    let keys = MasterKeys::parse(&[b'7'; 64], "a file").expect("64 digits are a key").credential_keys();
    let sealed = credentials::sealed(bytes, &keys).expect("is sealed");
    assert_eq!(&*credentials::opened(&sealed, Some(&keys), &mut Closed::default()), bytes, "what was sealed comes back");
    assert!(!credentials::has_credentials(&sealed), "a credential stays in clear");
    match MasterKeys::parse(bytes, "a file") {
        Ok(keys) => assert!(!format!("{keys:?}").is_empty()),
        Err(e) => assert!(e.code() == Code::InvalidConfig && e.message().len() < 300, "{e}"),
    }
}

/// The mark of a migration.
fn mark(bytes: &[u8]) {
    if let Ok(mark) = Mark::decode(bytes, "a store") {
        let written = mark.encode().expect("what was read is written");
        let again = Mark::decode(&written, "a store").expect("what was written is read");
        assert_eq!(again.refuses(), mark.refuses());
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::{fs, panic};

    use super::*;

    /// Mutants of each input. `ATLOCK_FUZZ_MUTANTS` sets another number.
    const MUTANTS: u64 = 60;

    fn folder() -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "fuzz"].iter().collect()
    }

    fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut inputs: Vec<_> = fs::read_dir(folder().join("corpus").join(target))
            .expect("each target has a folder")
            .map(|entry| entry.expect("is read").path())
            .map(|path| (path.clone(), fs::read(path).expect("is read")))
            .collect();
        inputs.sort();
        inputs
    }

    /// Numbers that are the same in each run (xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators").
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
            usize::try_from(number).unwrap_or(usize::MAX) % bound.max(1)
        }
    }

    /// An input with some of what fuzzers do to it.
    fn mutant(input: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
        const PIECES: [&[u8]; 12] = [
            b"\0",
            b"\xff\xff\xff\xff",
            b"\n",
            b"\"",
            b"{",
            b"]",
            b"-1",
            b"18446744073709551616",
            b"\\ud800",
            b"null",
            b"/",
            b"\xc3",
        ];
        let mut bytes = input.to_vec();
        for _ in 0..=chance.below(4) {
            let at = chance.below(bytes.len() + 1);
            match chance.below(6) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
                2 => drop(bytes.splice(at..at, PIECES[chance.below(PIECES.len())].iter().copied())),
                3 => drop(bytes.drain(at..(at + chance.below(16)).min(bytes.len()))),
                4 => bytes.extend_from_within(at..(at + chance.below(64)).min(bytes.len())),
                _ => drop(bytes.splice(at.., other[chance.below(other.len())..].iter().copied())),
            }
        }
        bytes
    }

    /// Sends it through; a panic says which bytes it was.
    fn send(name: &str, target: fn(&[u8]), bytes: &[u8], from: &Path) {
        let sent = panic::catch_unwind(|| target(bytes));
        let shown = &bytes[..bytes.len().min(2000)];
        assert!(sent.is_ok(), "{name}: a mutant of {} breaks a promise: {}", from.display(), shown.escape_ascii());
    }

    #[test]
    fn no_input_breaks_a_promise() {
        let mutants = std::env::var("ATLOCK_FUZZ_MUTANTS").map_or(MUTANTS, |number| number.parse().expect("a number"));
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            assert!(corpus.len() >= 3, "{name} has hardly a corpus");
            let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
            for (path, input) in &corpus {
                send(name, *target, input, path);
                for _ in 0..mutants {
                    let other = &corpus[chance.below(corpus.len())].1;
                    send(name, *target, &mutant(input, other, &mut chance), path);
                }
            }
        }
    }

    /// Each target is a program of libFuzzer, and each of those is a target.
    #[test]
    fn each_target_can_be_fuzzed() {
        let mut programs: Vec<String> = fs::read_dir(folder().join("fuzz_targets"))
            .expect("there are programs")
            .map(|entry| entry.expect("is read").path().file_stem().expect("has a name").to_string_lossy().into_owned())
            .collect();
        programs.sort();
        // What takes a handle is no reader: `tests/hostile.rs` goes through its corpus.
        let mut names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).chain(["c_abi"]).collect();
        names.sort_unstable();
        assert_eq!(programs, names);
        let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("is read");
        for name in names {
            assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n")), "{name} is not built");
        }
    }
}

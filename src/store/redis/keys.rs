//! The names of keys in Redis.
//!
//! Stock's, which stay the truth: `pr/{lock key}` for a project's lock, `global/{command}/lock` for a command's, and a pull
//! status under its own key. Ours beside them: a side hash for each lock, `atlock:locks` for all project locks, on a single
//! server `atlock:pull:{repo}#{number}` for a pull's, `atlock:instances`, `atlock:queue:{repo}` for those who wait for a repository's
//! locks, `atlock:queues` for the names of those repositories, `atlock:freezes`, `atlock:old_keys` for servers whose locks have other keys,
//! and `atlock:moved` for the mark of a migration.
//!
//! Invariant: a side hash is in the same cluster slot as its lock, so that one script can change both. Redis hashes what is
//! between the first `{` and the next `}`, if that is not empty, and otherwise the whole key (the Redis Cluster
//! specification, "Hash tags").

use crate::store::{DocumentKey, LockKey};

/// What the keys of project locks begin with.
pub(super) const LOCK_PREFIX: &str = "pr/";
/// Matches the keys of all project locks.
pub(super) const ALL_LOCKS: &str = "pr/*";
/// Index of all project locks: a sorted set of lock keys, by the server's time in microseconds when each was last asked for.
pub(super) const LOCKS_INDEX: &str = "atlock:locks";
/// Which instances use this Redis: a hash of names and when each was last here.
pub(super) const INSTANCES: &str = "atlock:instances";
/// What the names of the pulls' indexes begin with: sets of lock keys.
pub(super) const PULL_INDEX_PREFIX: &str = "atlock:pull:";

/// What the keys of queues begin with.
pub(super) const QUEUE_PREFIX: &str = "atlock:queue:";
/// Which repositories may have a queue: a set of their names, which has at least those that do.
pub(super) const QUEUES_INDEX: &str = "atlock:queues";
/// Which servers make keys as Atlantis before v0.40 does: a hash of their names and versions (`legacy_keys.rs`).
pub(super) const OLD_KEYS: &str = "atlock:old_keys";
/// The mark of a migration (`moved.rs`).
pub(super) const MOVED: &str = "atlock:moved";
/// The key of the freezes.
const FREEZES: &str = "atlock:freezes";

const SLOTS: u16 = 16384;
/// Letters of a key that is too long to be told.
const SHOWN: usize = 80;

/// The key of a lock.
pub(super) fn lock_key(key: LockKey<'_>) -> String {
    match key {
        LockKey::Project(key) => format!("{LOCK_PREFIX}{key}"),
        LockKey::Command(name) => format!("global/{name}/lock"),
    }
}

/// The key of a document.
pub(super) fn document_key(key: DocumentKey<'_>) -> String {
    match key {
        DocumentKey::PullStatus(key) => key.to_owned(),
        DocumentKey::Queue(repo) => format!("{QUEUE_PREFIX}{repo}"),
        DocumentKey::Freezes => FREEZES.to_owned(),
    }
}

/// The index of a pull's locks.
pub(super) fn pull_index(repo: &str, num: i64) -> String {
    format!("{PULL_INDEX_PREFIX}{repo}#{num}")
}

/// The side hash of a lock, by the lock's key in Redis.
pub(super) fn side_key(lock_key: &str) -> String {
    if let Some(tag) = hash_tag(lock_key) {
        return format!("{{{tag}}}:atlock:{lock_key}");
    }
    if lock_key.contains('}') {
        // The key in braces would end at its own brace. Any tag of the same slot will do: the smallest number.
        return format!("{{{}}}:atlock:{lock_key}", number_in_slot(slot(lock_key)));
    }
    format!("{{{lock_key}}}:atlock")
}

/// A project lock's pattern for all locks of a repository, its name taken literally.
pub(super) fn repo_pattern(repo: &str) -> String {
    let mut pattern = String::from(LOCK_PREFIX);
    for letter in repo.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push_str("/*");
    pattern
}

fn hash_tag(key: &str) -> Option<&str> {
    let after = &key[key.find('{')? + 1..];
    let tag = &after[..after.find('}')?];
    (!tag.is_empty()).then_some(tag)
}

/// The cluster slot of a key.
pub(super) fn slot(key: &str) -> u16 {
    crc16(hash_tag(key).unwrap_or(key).as_bytes()) % SLOTS
}

fn number_in_slot(wanted: u16) -> u32 {
    // Every slot has a number well below the bound: the checksum spreads evenly.
    (0..10 * u32::from(SLOTS)).find(|number| crc16(number.to_string().as_bytes()) % SLOTS == wanted).unwrap_or(0)
}

/// CRC-16/XMODEM, as Redis Cluster uses it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

/// The keys that a script of one lock gets: the lock, its side hash, and the index of all locks if the lock is in that.
pub(super) fn script_keys<'a>(lock: &'a str, side: &'a str, indexed: bool) -> Vec<&'a str> {
    if indexed { vec![lock, side, LOCKS_INDEX] } else { vec![lock, side] }
}

/// The beginning of a key, in a form that fits into a line.
pub(super) fn shown(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    let mut letters = text.chars();
    let beginning: String = letters.by_ref().take(SHOWN).flat_map(char::escape_debug).collect();
    if letters.next().is_some() { beginning + "…" } else { beginning }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checksum_is_the_specifications() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(slot("foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot("foo{{bar}}zap"), crc16(b"{bar") % SLOTS);
        assert_eq!(slot("foo{bar}{zap}"), crc16(b"bar") % SLOTS);
    }

    #[test]
    fn every_slot_has_a_number() {
        let mut seen = vec![false; usize::from(SLOTS)];
        for number in 0..10 * u32::from(SLOTS) {
            seen[usize::from(crc16(number.to_string().as_bytes()) % SLOTS)] = true;
        }
        assert!(seen.into_iter().all(|found| found));
    }

    #[test]
    fn a_plain_lock_has_the_plain_side_hash() {
        assert_eq!(side_key("pr/acme/infra/./default/"), "{pr/acme/infra/./default/}:atlock");
    }

    #[test]
    fn a_pattern_takes_the_name_literally() {
        assert_eq!(repo_pattern(r"a*/b[c]\?"), r"pr/a\*/b\[c\]\\\?/*");
    }

    proptest! {
        #[test]
        fn side_hash_is_in_the_locks_slot(name in "[a-c/{}]{0,12}") {
            let lock = lock_key(LockKey::Project(&name));
            prop_assert_eq!(slot(&side_key(&lock)), slot(&lock));
        }

        #[test]
        fn side_hashes_of_different_locks_differ(one in "[a{}]{0,6}", other in "[a{}]{0,6}") {
            prop_assume!(one != other);
            prop_assert_ne!(side_key(&lock_key(LockKey::Project(&one))), side_key(&lock_key(LockKey::Project(&other))));
        }
    }
}

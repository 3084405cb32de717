//! What each change does, inside a group.
//!
//! Each first decides and then changes: an error means that it changed nothing, or that the whole group is abandoned
//! (`StoreFailed`, `StoreDamaged`).

use sled::IVec;

use super::key_state;
use super::owned::OwnedGrant;
use super::pull_index::{add_lock, remove_lock};
use super::record::{self, Header, PROJECT_PREFIX, Verdict};
use super::remembered::entry_name;
use super::transaction::Transaction;
use crate::domain::lock::ProjectLock;
use crate::error::Result;
use crate::store::contract::local::EntryKey;
use crate::store::{Expected, Granted, Listing, Release, Swap};

/// Takes the lock if it is free, and not kept for somebody else.
pub(super) fn grant(tx: &mut Transaction<'_>, grant: &OwnedGrant) -> Result<Granted> {
    let OwnedGrant { name, value, pull_prefix, .. } = grant;
    let key = &record::key_of(name);
    if let Some((_, value)) = tx.entry(key)? {
        return Ok(Granted::Held { value });
    }
    let Some(gated) = grant.is_let_in(tx)? else { return Ok(Granted::NotYet) };
    let header = tx.new_lock(Verdict::of(pull_prefix.is_some()));
    tx.put_entry(key, header, value)?;
    if let Some(prefix) = pull_prefix {
        add_lock(tx, prefix, header.token, key)?;
    }
    key_state::decided(tx, name, None)?;
    Ok(Granted::Yes { token: header.token, gated })
}

/// Releases the lock if it is the one meant.
pub(super) fn release(tx: &mut Transaction<'_>, release: &Release<'_>) -> Result<Option<Vec<u8>>> {
    let name = EntryKey::from(release.key);
    let key = &record::key_of(&name);
    let Some((header, value)) = tx.entry(key)? else { return Ok(None) };
    if !release.admits(&value)? {
        return Ok(None);
    }
    remove_lock(tx, key, header, &value)?;
    key_state::decided(tx, &name, Some((header, &value)))?;
    Ok(Some(value))
}

/// Removes whatever is at the key.
pub(super) fn discard(tx: &mut Transaction<'_>, name: &EntryKey) -> Result<Option<Vec<u8>>> {
    let key = &record::key_of(name);
    let Some((header, value)) = tx.entry(key)? else { return Ok(None) };
    remove_lock(tx, key, header, &value)?;
    key_state::decided(tx, name, Some((header, &value)))?;
    Ok(Some(value))
}

/// Releases every lock in the by-pull index under this prefix. What was a lock once, and is none, stays.
pub(super) fn release_by_pull(tx: &mut Transaction<'_>, pull_prefix: &[u8]) -> Result<Listing> {
    let mut keys: Vec<IVec> = tx.scan(pull_prefix)?.into_values().collect();
    keys.sort_unstable();
    let mut released = Listing::default();
    for key in keys {
        if let Some((header, value)) = tx.entry(&key)? {
            if let Some(reason) = fault(header, &value) {
                released.push_unreadable(String::from_utf8_lossy(&key[PROJECT_PREFIX.len()..]), reason);
                continue;
            }
            remove_lock(tx, &key, header, &value)?;
            if let Some(name) = entry_name(&key, &value) {
                key_state::decided(tx, &name, Some((header, &value)))?;
            }
            released.push(&value);
        }
    }
    Ok(released)
}

/// Replaces or removes a document if it is as expected.
pub(super) fn swap_document(
    tx: &mut Transaction<'_>,
    name: &EntryKey,
    expected: Expected<'_>,
    new: Option<&[u8]>,
) -> Result<Swap> {
    let key = &record::key_of(name);
    let (header, current) = tx.entry(key)?.unzip();
    if !expected.admits(current.as_deref()) {
        return Ok(Swap::Conflict(current));
    }
    if current.as_deref() == new {
        return Ok(Swap::Done);
    }
    match new {
        Some(new) => tx.put_entry(key, tx.new_status(), new)?,
        None => tx.remove_entry(key)?,
    }
    key_state::decided(tx, name, header.zip(current.as_deref()))?;
    Ok(Swap::Done)
}

/// Why a project's entry is not a lock; `None` if it is one.
pub(super) fn fault(header: Header, value: &[u8]) -> Option<String> {
    match header.verdict {
        Verdict::Lock => None,
        Verdict::LockOnce => ProjectLock::parse(value).err().map(|e| e.message().to_owned()),
        Verdict::NoLock => {
            let fault = ProjectLock::parse(value).err();
            Some(fault.map_or_else(|| "it has no by-pull index entry".to_owned(), |e| e.message().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::key::{Fields, Target};
    use crate::domain::lock::PullRef;
    use crate::store::Grant;
    use crate::store::sled::meta::Meta;

    type Tree = BTreeMap<Vec<u8>, IVec>;

    const KEY: &str = "acme/infra/./default/";
    const FIELDS: Fields<'_> = Fields { repo: "acme/infra", path: ".", workspace: "default", project: "" };

    fn lock(num: i64, time: &str) -> Vec<u8> {
        let text = r#"{"Project":{"ProjectName":"","RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":NUM},"Workspace":"default","Time":TIME}"#;
        text.replace("NUM", &num.to_string()).replace("TIME", time).into_bytes()
    }

    /// One group over the tree.
    fn group<T>(tree: &mut Tree, change: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> T {
        let mut tx = Transaction::new(tree, Meta::default(), 1);
        let answer = change(&mut tx).expect("works");
        for (key, value) in tx.into_group().map(|group| group.writes).unwrap_or_default() {
            match value {
                Some(value) => drop(tree.insert(key, value)),
                None => drop(tree.remove(&key)),
            }
        }
        answer
    }

    fn of_pull(name: &EntryKey, value: Vec<u8>) -> OwnedGrant {
        let key = name.lock().expect("is a lock");
        // The value may be none that the reader takes today.
        let text = String::from_utf8(value.clone()).expect("is text");
        let parsed = text.replace("\"yesterday\"", "null");
        let lock = ProjectLock::parse(parsed.as_bytes()).expect("is a lock");
        OwnedGrant::from(&Grant { key, lock: Some(&lock), value: &value, in_order: false })
    }

    /// A tree with a lock of pull 1 as earlier versions left it: with an index entry, and a time that is none.
    fn earlier(time: &str) -> (Tree, EntryKey) {
        let name = EntryKey::Project(KEY.to_owned());
        let mut tree = Tree::new();
        group(&mut tree, |tx| {
            grant(tx, &of_pull(&name, lock(1, time)))?;
            let (header, value) = tx.entry(&record::key_of(&name))?.expect("is held");
            tx.put_entry(&record::key_of(&name), Header { verdict: Verdict::LockOnce, ..header }, &value)
        });
        (tree, name)
    }

    fn by_pull(tree: &mut Tree, num: i64) -> Listing {
        group(tree, |tx| release_by_pull(tx, &record::pull_prefix(PullRef { repo: "acme/infra", num })))
    }

    #[test]
    fn what_was_a_lock_once_stays_and_is_named() {
        let (mut tree, _) = earlier("\"yesterday\"");
        let released = by_pull(&mut tree, 1);
        assert_eq!((released.len(), released.unreadable().len()), (0, 1));
        assert_eq!(released.unreadable()[0].key, KEY);
        let target = Target::exactly(FIELDS);
        let mut tx = Transaction::new(&tree, Meta::default(), 1);
        let refused = release(&mut tx, &Release::of(&target)).expect_err("stays");
        assert_eq!(refused.code(), crate::error::Code::EntryUnreadable);
    }

    #[test]
    fn a_lock_of_an_earlier_version_is_released() {
        let (mut tree, _) = earlier("\"2024-01-01T00:00:00Z\"");
        assert_eq!(by_pull(&mut tree, 1).len(), 1);
        assert!(tree.is_empty(), "{tree:?}");
    }

    #[test]
    fn an_index_entry_goes_with_what_was_a_lock_once() {
        let (mut tree, name) = earlier("\"yesterday\"");
        assert!(group(&mut tree, |tx| discard(tx, &name)).is_some());
        assert!(tree.is_empty(), "the key's next holder would be released with pull 1: {tree:?}");
        group(&mut tree, |tx| grant(tx, &of_pull(&name, lock(2, "null"))));
        assert_eq!(by_pull(&mut tree, 1), Listing::default());
    }
}

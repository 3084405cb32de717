//! The store's data keys (`crate::sealing`): opened with it, and kept in its tree, so that no backup, crash or copy parts them from what they
//! seal.
//!
//! Invariant: a data key is in the tree, durably, before anything is sealed under it, and as long as anything is. As long as there is one,
//! the format file keeps earlier versions out.

use super::database::Database;
use super::folder::Folder;
use super::read::{View, failed};
use super::record::{RING_KEY, SEALED_PREFIXES, Stored};
use crate::error::{Code, Error, Result};
use crate::sealing::{self, MasterKeys, Ring, Sealing};

/// Opens the data keys; which are to be kept from now on, if others than before.
///
/// Errors: `EncryptionKey`; nothing was changed then.
pub(super) fn open_keys(
    folder: &Folder,
    db: &dyn Database,
    masters: Option<&MasterKeys>,
    unseals: bool,
) -> Result<(Sealing, Option<Ring>)> {
    let (view, place) = (View { db, sealing: &sealing::PLAIN }, format!("the store in {}", folder.dir().display()));
    let ring = kept(view, &place)?;
    if ring.is_none() {
        refuse_without_keys(view, &place)?;
    }
    let opened = Ring::open(ring.as_ref(), masters, &place)?;
    let writes_plain = unseals || masters.is_none();
    folder.set_sealed(ring.is_some() || !writes_plain)?;
    Ok((opened.sealing.writing_plain(writes_plain), opened.new.filter(|_| !writes_plain)))
}

/// The wrapped data keys that the store keeps.
pub(super) fn kept(view: View<'_>, place: &str) -> Result<Option<Ring>> {
    view.value(RING_KEY)?.map(|bytes| Ring::decode(&bytes, place)).transpose()
}

/// Sealed values without data keys are a store that lost them.
fn refuse_without_keys(view: View<'_>, place: &str) -> Result<()> {
    for prefix in SEALED_PREFIXES {
        for entry in view.scan_prefix(prefix) {
            let (key, bytes) = entry.map_err(failed)?;
            if Stored::decode(&key, bytes)?.sealed_under().is_some() {
                let text =
                    format!("{place} has sealed values, and its data keys are gone: restore the whole folder from a backup");
                return Err(Error::new(Code::EncryptionKey, text));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::record::key_of;
    use super::super::store::SledStore;
    use super::*;
    use crate::call::{Call, RequestId};
    use crate::clock::{Clock as _, SystemClock};
    use crate::domain::key::Target;
    use crate::domain::lock::{ProjectLock, PullRef};
    use crate::domain::token::FencingToken;
    use crate::store::contract::local::Change;
    use crate::store::contract::local::{Conflict, EntryKey, Held, LocalStore as _};
    use crate::store::{Grant, Granted, LockKey, Release, Store as _};

    fn keys() -> MasterKeys {
        MasterKeys::parse("ab".repeat(32).as_bytes(), "test").unwrap()
    }

    fn opened(dir: &Path) -> SledStore {
        SledStore::open_sealed(dir, Arc::new(SystemClock), Some(&keys())).unwrap()
    }

    fn call() -> Call {
        Call::new(RequestId::from_text("sealed"), SystemClock.now() + Duration::from_secs(60))
    }

    fn lock(path: &str) -> String {
        format!(r#"{{"Project":{{"ProjectName":"","RepoFullName":"a/b","Path":"{path}"}},"Pull":{{"Num":1}},"Workspace":"d"}}"#)
    }

    fn grant(store: &SledStore, path: &str) -> Granted {
        let value = lock(path);
        let lock = ProjectLock::parse(value.as_bytes()).unwrap();
        let key = lock.fields().key();
        let grant = Grant { key: LockKey::Project(&key), lock: Some(&lock), value: value.as_bytes(), in_order: false };
        store.grant(&grant, &call()).unwrap()
    }

    fn tree_key(path: &str) -> Vec<u8> {
        key_of(&EntryKey::Project(format!("a/b/{path}/d/")))
    }

    /// Puts these bytes at a key, as somebody who knows the checksums.
    fn tamper(store: &SledStore, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = store.tree.read(|view| view.get(key)).unwrap().expect("is there").to_vec();
        change(&mut bytes);
        let key = key.to_vec();
        store.group(move |tx| tx.put(key, bytes)).unwrap();
    }

    /// Whoever changes a record makes that lock unreadable, and no other: it stays held, is named, and goes by `discard` alone.
    fn is_unreadable_alone(store: &SledStore, path: &str) {
        let listing = store.list(&call()).unwrap();
        assert_eq!((listing.len(), listing.unreadable().len()), (1, 1), "{listing:?}");
        let unreadable = &listing.unreadable()[0];
        assert_eq!(unreadable.key, format!("a/b/{path}/d/"));
        assert!(unreadable.reason.contains("it is sealed, and does not open"), "{}", unreadable.reason);
        assert!(matches!(grant(store, path), Granted::Held { .. }));
        let key = format!("a/b/{path}/d/");
        let target = Target::by_key(&key);
        let refused = store.release(&Release::of(&target), &call()).unwrap_err();
        assert_eq!(refused.code(), Code::EntryUnreadable);
        assert_eq!(store.release_by_pull(PullRef { repo: "a/b", num: 1 }, &call()).unwrap().len(), 1, "the other one");
        assert!(store.discard(LockKey::Project(&key), &call()).unwrap().is_some());
        assert!(store.tree.read(|view| Ok(view.scan_prefix(b"P").next().is_none())).unwrap(), "no index entry is left");
        assert!(matches!(grant(store, path), Granted::Yes { .. }));
    }

    #[test]
    fn a_changed_record_is_unreadable_alone() {
        // In the ciphertext, the tag, the nonce, the key's id; in the token, the time and the verdict beside it.
        for at in [60, usize::MAX, 40, 25, 5, 15, 1] {
            let folder = tempfile::tempdir().unwrap();
            let store = opened(folder.path());
            grant(&store, "x");
            grant(&store, "y");
            tamper(&store, &tree_key("x"), |bytes| {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= if at == 1 { 2 } else { 1 };
            });
            store.close().unwrap();
            let store = opened(folder.path());
            is_unreadable_alone(&store, "x");
        }
    }

    #[test]
    fn a_value_that_is_moved_to_another_key_does_not_open_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(folder.path());
        grant(&store, "x");
        grant(&store, "y");
        let other = store.tree.read(|view| view.get(&tree_key("y"))).unwrap().unwrap().to_vec();
        tamper(&store, &tree_key("x"), |bytes| *bytes = other);
        // Its index entry goes by its token, which came along.
        let listing = store.list(&call()).unwrap();
        assert_eq!((listing.len(), listing.unreadable().len()), (1, 1), "{listing:?}");
        assert!(matches!(grant(&store, "x"), Granted::Held { .. }));
    }

    #[test]
    fn a_store_whose_data_keys_are_gone_is_refused_and_not_taken_for_one_in_clear() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(folder.path());
        grant(&store, "x");
        store.keep(None).unwrap();
        store.close().unwrap();
        for masters in [None, Some(&keys())] {
            let error = SledStore::open_sealed(folder.path(), Arc::new(SystemClock), masters).unwrap_err();
            assert!(error.code() == Code::EncryptionKey && error.message().contains("its data keys are gone"), "{error}");
        }
    }

    #[test]
    fn reseal_leaves_what_does_not_open_and_compact_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(folder.path());
        grant(&store, "x");
        grant(&store, "y");
        tamper(&store, &tree_key("x"), |bytes| bytes[60] ^= 1);
        store.close().unwrap();
        let two = MasterKeys::parse(format!("{}\n{}", "cd".repeat(32), "ab".repeat(32)).as_bytes(), "test").unwrap();
        let store = SledStore::open_sealed(folder.path(), Arc::new(SystemClock), Some(&two)).unwrap();
        let done = store.reseal().unwrap();
        assert_eq!((done.written, done.unreadable.len()), (1, 1), "{done:?}");
        assert!(done.unreadable[0].contains("a/b/x/d/"));
        store.close().unwrap();
        SledStore::compact(folder.path(), &SystemClock, Some(&two)).unwrap();
        let plain = SledStore::open_to_unseal(folder.path(), Arc::new(SystemClock), &two).unwrap();
        let refused = plain.reseal().unwrap_err();
        assert!(refused.code() == Code::EncryptionKey && refused.message().contains("atlock discard"), "{refused}");
        plain.discard(LockKey::Project("a/b/x/d/"), &call()).unwrap();
        plain.reseal().unwrap();
        plain.close().unwrap();
        assert_eq!(SledStore::open(folder.path(), Arc::new(SystemClock)).unwrap().list(&call()).unwrap().len(), 1);
    }

    /// What holds values is sealed: an entry of each kind, and a conflict.
    #[test]
    fn each_record_with_values_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(folder.path());
        let held = |value: &str| Some(Held { value: value.as_bytes().to_vec(), token: FencingToken::new(7) });
        let entries = [
            EntryKey::Project("a/b/x/d/".to_owned()),
            EntryKey::Command("apply".to_owned()),
            EntryKey::Status("h::a/b::1".to_owned()),
            EntryKey::Queue("a/b".to_owned()),
            EntryKey::Freezes,
        ];
        let mut changes: Vec<Change> = entries.iter().map(|key| Change::Set(key.clone(), held(&lock("MARKER")))).collect();
        changes.push(Change::Conflict(entries[0].clone(), held(&lock("MARKER 2")).unwrap()));
        let deadline = SystemClock.now() + Duration::from_secs(60);
        store.submit(Vec::new(), changes, deadline).unwrap().wait(deadline).unwrap();
        let stored: Vec<(Vec<u8>, Vec<u8>)> = store
            .tree
            .read(|view| Ok(view.scan_prefix(b"").map(|entry| entry.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()))
            .unwrap();
        for (key, value) in &stored {
            assert!(!value.windows(6).any(|part| part == b"MARKER"), "{:?}", String::from_utf8_lossy(key));
        }
        assert_eq!(stored.iter().filter(|(key, _)| SEALED_PREFIXES.iter().any(|prefix| key.starts_with(prefix))).count(), 6);
        let conflicts: Vec<Conflict> = store.conflicts().unwrap();
        assert_eq!(conflicts[0].remote.value, lock("MARKER 2").as_bytes());
        assert!(store.everything().unwrap().iter().all(|(_, known)| known.value.is_some()));
    }
}

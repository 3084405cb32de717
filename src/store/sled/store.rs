//! The embedded store itself. What it does is in the files beside this one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::sync::Mutex;

use super::committer::{Committer, Writer};
use super::files::Files;
use super::folder::Folder;
use super::ground::Ground;
use super::moved::{self, refuse_marked};
use super::open::{self, Opened};
use super::owned::{OwnedGrant, OwnedRelease};
use super::read::failed;
use super::record::{self, Header, PROJECT_PREFIX, QUEUE_PREFIX, Stored};
use super::sealed;
use super::step::StepHook;
use super::system_files::SystemFiles;
use super::transaction::Transaction;
use super::tree::{Tree, closed};
use super::{changes, database, folder};
use crate::call::Call;
use crate::clock::Clock;
use crate::domain::lock::PullRef;
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::queue::Gate;
use crate::sealing::{MasterKeys, Ring};
use crate::store::contract::local::{EntryKey, Held};
use crate::store::{
    DocumentKey, Expected, Grant, Granted, Listing, Location, LockInfo, LockKey, OwnedExpected, Release, Store, Swap,
};

/// How long a group of the store's own may take.
const GROUP_TIME: Duration = Duration::from_secs(30);

/// The embedded store. Safe from any thread; see the module's documentation for what it survives.
///
/// Values have at most 16 MiB; a larger one is an error of code `TooLarge`.
pub struct SledStore {
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    pub(super) tree: Arc<Tree>,
    ground: Arc<Ground>,
    pub(super) committer: Committer,
    pub(super) clock: Arc<dyn Clock>,
    folder: Mutex<Option<Folder>>,
}

impl SledStore {
    /// Opens the store in the folder `dir`, or creates both, for this user alone.
    ///
    /// It starts a thread, and sled starts a few for the whole process. Opening needs free disk space for a second copy of
    /// the data for as long as it takes.
    ///
    /// Errors: `StoreBusy`, at once, if it is open already, here or in another process; `StoreNotWritable`;
    /// `StoreNewerFormat`; `StoreDamaged` if anything that was acknowledged is not there (nothing is changed then); `StoreMoved` if a
    /// migration has moved its locks away, or is about to.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<SledStore> {
        SledStore::open_sealed(dir, clock, None)
    }

    /// The same of a store whose values are sealed, or are to be from now on (`crate::sealing`).
    ///
    /// Errors: those of [`SledStore::open`], and `EncryptionKey` if it is sealed, and no key that is given opens it.
    pub fn open_sealed(dir: &Path, clock: Arc<dyn Clock>, masters: Option<&MasterKeys>) -> Result<SledStore> {
        let store = SledStore::open_to_migrate(dir, clock, masters)?;
        // Behind the folder's lock, which a migration has, too.
        match moved::read(&*store.files, &store.dir).and_then(|mark| refuse_marked(mark, dir)) {
            Ok(()) => Ok(store),
            Err(refused) => store.close().and(Err(refused)),
        }
    }

    /// Whether a store was created in this folder. Only what is not there means no: a folder that cannot be looked at may have locks.
    ///
    /// Errors: `StoreNotWritable` if the folder cannot be looked at.
    pub fn is_in(dir: &Path) -> Result<bool> {
        Ok(folder::is_there(dir, "format.json")? || folder::is_there(dir, "sled")?)
    }

    /// The same as [`SledStore::open`], with a hook for tests.
    pub fn open_with_hook(dir: &Path, clock: Arc<dyn Clock>, hook: StepHook) -> Result<SledStore> {
        SledStore::open_on(Arc::new(SystemFiles), dir, clock, hook, None)
    }

    /// The same on another file system than the machine's.
    pub(crate) fn open_on(
        files: Arc<dyn Files>,
        dir: &Path,
        clock: Arc<dyn Clock>,
        hook: StepHook,
        masters: Option<&MasterKeys>,
    ) -> Result<SledStore> {
        SledStore::open_keyed(files, dir, clock, hook, masters, false)
    }

    /// `unseals`: what is written is written in clear.
    pub(super) fn open_keyed(
        files: Arc<dyn Files>,
        dir: &Path,
        clock: Arc<dyn Clock>,
        hook: StepHook,
        masters: Option<&MasterKeys>,
        unseals: bool,
    ) -> Result<SledStore> {
        let Opened { folder, db, meta, log, journal, ground } = open::open(&files, dir, &*clock)?;
        let (sealing, ring) = match sealed::open_keys(&folder, &*db, masters, unseals) {
            Ok(opened) => opened,
            Err(e) => return database::close(db).and(Err(e)),
        };
        let (tree, ground) = (Arc::new(Tree::new(db, sealing)), Arc::new(ground));
        let writer_clock = Arc::clone(&clock);
        let writer =
            Writer { tree: Arc::clone(&tree), meta, log, journal, ground: Arc::clone(&ground), clock: writer_clock, hook };
        let committer = Committer::start(writer)?;
        let (dir, folder) = (folder.dir().to_owned(), Mutex::new(Some(folder)));
        let store = SledStore { files, dir, tree, ground, committer, clock, folder };
        match ring.map_or(Ok(()), |ring| store.keep(Some(&ring))).and_then(|()| store.settle_keys()) {
            Ok(()) => Ok(store),
            Err(e) => store.close().and(Err(e)),
        }
    }

    /// Whether what is written is sealed.
    pub fn is_sealed(&self) -> bool {
        self.tree.sealing().writes_under().is_some()
    }

    /// Keeps other data keys, or none; durable when it returns.
    pub(super) fn keep(&self, ring: Option<&Ring>) -> Result<()> {
        let bytes = ring.map(Ring::encode).transpose()?;
        self.group(move |tx| match bytes {
            Some(bytes) => tx.put_entry(record::RING_KEY, tx.new_status(), &bytes),
            None => tx.remove_entry(record::RING_KEY),
        })
    }

    /// Makes changes of the store's own, in one group.
    pub(super) fn group<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = self.clock.now() + GROUP_TIME;
        self.committer.submit_after(None::<(usize, fn(&mut Transaction<'_>) -> Result<()>)>, 0, deadline, change)?.wait(deadline)
    }

    /// Looks at the folder, which is this store's until it is closed.
    pub(super) fn with_folder<T>(&self, f: impl FnOnce(&Folder) -> Result<T>) -> Result<T> {
        f(self.folder.lock().as_ref().ok_or_else(closed)?)
    }

    /// Whether the store works, and is still at its paths.
    fn check_ground(&self) -> Result<()> {
        self.tree.read(|_| Ok(()))?;
        self.tree.health().watch(|| self.ground.check())
    }

    /// The fencing token of a lock's holder; `None` if nobody holds it.
    ///
    /// Errors: `Closed`, `StoreFailed`.
    pub fn token(&self, key: LockKey<'_>) -> Result<Option<FencingToken>> {
        let key = record::lock_key(key);
        let stored = self.tree.read(|view| view.stored(&key))?;
        Ok(stored.map(|stored| stored.header.token))
    }
}

impl Store for SledStore {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        let key = record::lock_key(grant.key);
        // Refusing needs no queue: a lock seen here was held at this moment. That its grant may not be durable yet, or its
        // release may be under way, makes the refusal cautious, not wrong.
        if let Some(value) = self.tree.read(|view| view.value(&key))? {
            return Ok(Granted::Held { value });
        }
        record::check_length("a value", grant.value.len(), record::VALUE_LIMIT)?;
        let grant = OwnedGrant::from(grant);
        self.committer.commit(grant.len(), call, move |tx| changes::grant(tx, &grant))
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let owned = OwnedRelease::from(release);
        self.committer.commit(owned.len(), call, move |tx| changes::release(tx, &owned.borrowed()))
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let name = EntryKey::from(key);
        self.committer.commit(name.name().len(), call, move |tx| changes::discard(tx, &name))
    }

    fn lock_info(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<LockInfo>> {
        Ok(self.token(key)?.map(|token| LockInfo::new(token, Location::Legacy)))
    }

    fn get(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        let key = record::lock_key(key);
        self.tree.read(|view| view.value(&key))
    }

    fn list(&self, _call: &Call) -> Result<Listing> {
        self.tree.read(|view| {
            let mut listing = Listing::default();
            for entry in view.scan_prefix(PROJECT_PREFIX) {
                let (key, bytes) = entry.map_err(failed)?;
                let stored = Stored::decode(&key, bytes)?;
                if let Some(value) = stored.short_value() {
                    push(&mut listing, &key, stored.header, value);
                } else {
                    let (header, value) = view.open(&key, stored)?;
                    push(&mut listing, &key, header, &value);
                }
            }
            Ok(listing)
        })
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let prefix = record::pull_prefix(pull);
        self.committer.commit(prefix.len(), call, move |tx| changes::release_by_pull(tx, &prefix))
    }

    fn document(&self, key: DocumentKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        let key = record::key_of(&EntryKey::from(key));
        self.tree.read(|view| view.value(&key))
    }

    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        let name = EntryKey::from(key);
        let new = new.map(<[u8]>::to_vec);
        record::check_length("a value", new.as_ref().map_or(0, Vec::len), record::VALUE_LIMIT)?;
        let expected = OwnedExpected::from(expected);
        let bytes = new.as_ref().map_or(0, Vec::len) + expected.held_bytes();
        self.committer.commit(bytes, call, move |tx| changes::swap_document(tx, &name, expected.borrowed(), new.as_deref()))
    }

    fn queues(&self, _call: &Call) -> Result<Vec<String>> {
        self.tree.read(|view| {
            let keys = view.scan_prefix(QUEUE_PREFIX).map(|entry| Ok(record::name_of(&entry.map_err(failed)?.0)));
            // A name that is too long for a key is not told: its queue works, and nobody looks at it between two calls.
            let names = keys.filter_map(|key: Result<_>| key.transpose()).map(|key| Ok(key?.name().to_owned()));
            names.collect()
        })
    }

    fn held(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Held>> {
        self.held_at(&EntryKey::from(key))
    }

    /// A grant finds the gate in the queue.
    fn set_gate(&self, key: &str, _revision: u64, _gate: &Gate, call: &Call) -> Result<bool> {
        Ok(self.get(LockKey::Project(key), call)?.is_some())
    }

    fn ping(&self, _call: &Call) -> Result<()> {
        self.check_ground()
    }

    fn warnings(&self) -> Vec<String> {
        // What it finds is kept.
        let _ = self.check_ground();
        let failure = self.tree.health().check().err().map(|failure| failure.message().to_owned());
        failure.into_iter().chain(folder::little_space(&*self.files, &self.dir)).collect()
    }

    fn check_keys(&self, masters: Option<&MasterKeys>) -> Result<()> {
        let place = format!("the store in {}", self.dir.display());
        let ring = self.tree.read(|view| sealed::kept(view, &place))?;
        Ring::open(ring.as_ref(), masters, &place).map(drop)
    }

    /// Writes what waits, stops the thread, closes sled, and then lets others open the folder. Idempotent.
    ///
    /// Errors: `StoreFailed` also if the files are not at their paths any more (`ground.rs`); the store is closed all the same.
    fn close(&self) -> Result<()> {
        self.committer.close()?;
        let closed = self.tree.close();
        // Held until now, so that nobody else is at the path before. Only the first closer looks.
        let Some(folder) = self.folder.lock().take() else { return closed };
        let ground = self.ground.check();
        drop(folder);
        closed.and(ground)
    }
}

/// Closes the store. It waits for the disk as [`Store::close`] does; call that to see its error.
impl Drop for SledStore {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The values were checked when they were stored, so only those that may be no lock are parsed.
fn push(listing: &mut Listing, key: &[u8], header: Header, value: &[u8]) {
    match changes::fault(header, value) {
        None => listing.push(value),
        Some(reason) => listing.push_unreadable(String::from_utf8_lossy(&key[PROJECT_PREFIX.len()..]), reason),
    }
}

//! Opening: nothing is answered before everything that was ever acknowledged is known to be there.
//!
//! sled repairs while it opens: it cuts the log at the first record that it cannot read, zeroes what is behind, and deletes
//! files. On a damaged store that would destroy what a backup tool could still read. So sled opens a copy of its files, and they are
//! put back if the check fails: when the copy in `sled.saving/` is whole and durable, `sled/` becomes `sled.saved/` and the copy
//! becomes `sled/`. A `sled.saved/` found on opening means that an opening was cut short before its check, so it is put back then. It
//! is gone, durably, before anything is acknowledged.
//!
//! That sled goes on in the copy has a second reason. Where a sync failed before, the kernel may show what is on no disk, and no later
//! sync of that file writes it. What is read and written anew is durable, and only that may stand in for the journal's records.
//!
//! The check: the tree matches its meta record (`meta.rs`), and with what the journal adds holds every acknowledged group (`journal.rs`).
//!
//! Creating is all or nothing: an empty store is made in `sled.creating/` and renamed, and the format file comes last.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::database::{self, Database};
use super::files::{Files, OpenFile};
use super::folder::{self, Folder, remove_dir};
use super::ground::Ground;
use super::group::{self, Unrecovered};
use super::health::panicked;
use super::journal::{Journal, Records};
use super::meta::Meta;
use super::record::META_KEY;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::sync::mark;

/// A store that this process has just closed may still be held by one of sled's worker threads.
const SLED_LOCK_WAIT: Duration = Duration::from_secs(2);

/// A store that is whole, durable, and ready to be written.
pub(super) struct Opened {
    pub folder: Folder,
    pub db: Box<dyn Database>,
    pub meta: Meta,
    pub log: Box<dyn OpenFile>,
    pub journal: Journal,
    pub ground: Ground,
}

/// What an opening may need, in bytes: sled's caches, buffers and the stacks of its threads, and this module's copy.
const MEMORY: usize = 64 << 20;

/// Opens or creates the store in this folder.
pub(super) fn open(files: &Arc<dyn Files>, dir: &Path, clock: &dyn Clock) -> Result<Opened> {
    refuse_without_memory(dir)?;
    let folder = Folder::lock(files, &absolute(dir)?, clock)?;
    let complete = folder.has_format()?;
    put_back(&folder).map_err(|e| folder.not_writable(&e))?;
    if !complete && !folder.has("sled").map_err(|e| folder.not_writable(&e))? {
        mark!("opening: created anew");
        refuse_if_emptied(&folder)?;
        create(&folder)?;
    }
    let (journal, records) = open_journal(&folder)?;
    match save(&folder).and_then(|()| open_checked(&folder, clock, complete, &records)) {
        Ok((db, meta)) => finish(folder, db, meta, journal, complete),
        Err(error) => {
            put_back(&folder).map_err(|e| folder.not_writable(&e))?;
            Err(error)
        }
    }
}

/// sled ends the process where an allocation or a thread is refused, which it cannot be stopped from: so what it may need is asked for first.
fn refuse_without_memory(dir: &Path) -> Result<()> {
    // Nothing is written to it: where memory is not limited, this takes none.
    Vec::<u8>::new().try_reserve_exact(MEMORY).map_err(|_| {
        let text = format!(
            "the store in {} needs {} MiB of memory to open, and this process cannot have that: raise its limit (ulimit -v); nothing was \
             changed",
            dir.display(),
            MEMORY >> 20
        );
        Error::new(Code::StoreFailed, text)
    })
}

/// The same folder, wherever the process's working directory is later: sled opens files by their paths again and again.
pub(super) fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).map_err(|e| folder::not_writable(dir, &e))
}

/// No format file and no data: a new folder, or one whose creation was cut short. A record in the journal says otherwise.
fn refuse_if_emptied(folder: &Folder) -> Result<()> {
    match Journal::open(folder.files(), &folder.path("journal")) {
        Ok((_, Some(records))) if !records.is_empty() => Err(folder.damaged("its data and its format file are missing")),
        _ => Ok(()),
    }
}

fn create(folder: &Folder) -> Result<()> {
    let (creating, done) = (folder.path("sled.creating"), folder.path("sled"));
    let (files, io) = (folder.files(), |e: io::Error| folder.not_writable(&e));
    remove_dir(files, &creating).map_err(io)?;
    files.create_dir(&creating).map_err(io)?;
    let created = guarded(|| {
        let db = files.open_database(&creating)?;
        db.insert(META_KEY, Meta::default().encode().into())?;
        db.flush()?;
        Ok(db)
    });
    // Closed before the rename.
    database::close(created.map_err(|e| sled_failed(folder, e))?)?;
    sync_store(files, &creating).map_err(io)?;
    Journal::create(files, &folder.path("journal")).map_err(io)?;
    files.rename(&creating, &done).map_err(io)?;
    folder.sync().map_err(io)
}

fn open_journal(folder: &Folder) -> Result<(Journal, Records)> {
    match Journal::open(folder.files(), &folder.path("journal")) {
        Ok((journal, Some(records))) => Ok((journal, records)),
        Ok((_, None)) => Err(folder.damaged("its journal cannot be read")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(folder.damaged("its journal is missing")),
        Err(e) => Err(folder.not_writable(&e)),
    }
}

/// Lays sled's files aside, and a copy of them, durable, in their place.
fn save(folder: &Folder) -> Result<()> {
    let files = folder.files();
    match files.look(&folder.path("sled/db")) {
        Ok(Some(found)) if !found.is_dir => {}
        Err(e) if e.kind() != io::ErrorKind::NotADirectory => return Err(folder.not_writable(&e)),
        _ => return Err(folder.damaged("its file sled/db is missing")),
    }
    let (store, saving) = (folder.path("sled"), folder.path("sled.saving"));
    // An opening that was cut short may have renamed it from `sled.saved` a moment ago: once it is half removed, that name must not come back.
    folder.sync().map_err(|e| folder.not_writable(&e))?;
    let save = || {
        remove_dir(files, &saving)?;
        copy_store(files, &store, &saving, &|from, to| files.copy(from, to))?;
        sync_store(files, &saving)?;
        files.rename(&store, &folder.path("sled.saved"))?;
        files.rename(&saving, &store)?;
        folder.sync()
    };
    save().map_err(|e| {
        // What was copied is of no use, and the disk may be full.
        let _ = remove_dir(files, &saving);
        folder.not_writable(&e)
    })
}

/// Puts sled's files back as they were laid aside, if they were.
fn put_back(folder: &Folder) -> io::Result<()> {
    let (saved, store) = (folder.path("sled.saved"), folder.path("sled"));
    if !folder.has("sled.saved")? {
        return Ok(());
    }
    mark!("opening: put back");
    remove_dir(folder.files(), &store)?;
    folder.files().rename(&saved, &store)?;
    folder.sync()
}

/// Forgets the files that were laid aside: the store was checked. Where they are now, to be removed: half of them must never be put back.
pub(super) fn forget_saved(folder: &Folder) -> io::Result<PathBuf> {
    let saving = folder.path("sled.saving");
    folder.files().rename(&folder.path("sled.saved"), &saving)?;
    folder.sync()?;
    Ok(saving)
}

/// Opens sled and checks that everything acknowledged is there.
fn open_checked(folder: &Folder, clock: &dyn Clock, complete: bool, journal: &Records) -> Result<(Box<dyn Database>, Meta)> {
    let store = folder.path("sled");
    remove_unfinished_snapshots(folder.files(), &store).map_err(|e| folder.not_writable(&e))?;
    let db = open_sled(folder.files(), &store, clock).map_err(|e| sled_failed(folder, e))?;
    match check(folder, &*db, complete, journal) {
        Ok(meta) => Ok((db, meta)),
        Err(e) => {
            let _ = database::close(db);
            Err(e)
        }
    }
}

fn check(folder: &Folder, db: &dyn Database, complete: bool, journal: &Records) -> Result<Meta> {
    let recovered = catch_unwind(AssertUnwindSafe(|| group::recover(db, journal)));
    let meta = recovered.unwrap_or_else(|panic| Err(panicked(&*panic).into())).map_err(|failure| match failure {
        Unrecovered::Damaged(e) => folder.damaged(e),
        Unrecovered::Sled(e) => sled_failed(folder, SledFailure::Error(e)),
    })?;
    // Without a format file and empty: its creation was cut short between the two.
    if meta.sequence > 0 && !complete {
        return Err(folder.damaged("its format.json is missing"));
    }
    Ok(meta)
}

/// What a killed process left in the page cache counts from now on, so it must be durable from now on.
fn finish(folder: Folder, db: Box<dyn Database>, meta: Meta, journal: Journal, complete: bool) -> Result<Opened> {
    let finish = || {
        let store = folder.path("sled");
        sync_store(folder.files(), &store)?;
        if !complete {
            folder.write_format()?;
        }
        remove_dir(folder.files(), &forget_saved(&folder)?)?;
        let log = folder.files().open(&store.join("db"))?;
        let ground = folder.ground(&*log, &journal)?;
        Ok((log, ground))
    };
    match finish() {
        Ok((log, ground)) => Ok(Opened { folder, db, meta, log, journal, ground }),
        Err(e) => {
            let _ = database::close(db);
            Err(folder.not_writable(&e))
        }
    }
}

fn open_sled(files: &dyn Files, store: &Path, clock: &dyn Clock) -> std::result::Result<Box<dyn Database>, SledFailure> {
    let give_up = clock.now() + SLED_LOCK_WAIT;
    loop {
        match guarded(|| files.open_database(store)) {
            Err(failure) if failure.is_lock() && clock.now() < give_up => clock.sleep(Duration::from_millis(5)),
            result => return result,
        }
    }
}

/// A database that was opened, or our error.
pub(super) fn opened(folder: &Folder, open: impl FnOnce() -> sled::Result<Box<dyn Database>>) -> Result<Box<dyn Database>> {
    guarded(open).map_err(|e| sled_failed(folder, e))
}

enum SledFailure {
    Error(sled::Error),
    Panic(Error),
}

impl SledFailure {
    fn is_lock(&self) -> bool {
        matches!(self, SledFailure::Error(sled::Error::Io(e)) if e.to_string().starts_with("could not acquire lock"))
    }
}

fn guarded<T>(f: impl FnOnce() -> sled::Result<T>) -> std::result::Result<T, SledFailure> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(SledFailure::Error),
        Err(panic) => Err(SledFailure::Panic(panicked(&*panic))),
    }
}

fn sled_failed(folder: &Folder, failure: SledFailure) -> Error {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match failure {
        SledFailure::Error(sled::Error::Io(e))
            if matches!(e.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied) =>
        {
            folder.not_writable(&e)
        }
        failure if failure.is_lock() => Error::new(
            Code::StoreBusy,
            format!(
                "the store in {} was closed by this process, but sled has not let go of it yet: try again",
                folder.dir().display()
            ),
        ),
        SledFailure::Error(e) => folder.damaged(format!("sled cannot open {}: {e}", folder.path("sled").display())),
        SledFailure::Panic(e) => folder.damaged(format!("sled cannot open {}: {e}", folder.path("sled").display())),
    }
}

/// Copies sled's files by `copy_file`, without unfinished snapshots.
pub(super) fn copy_store(
    files: &dyn Files,
    from: &Path,
    to: &Path,
    copy_file: &dyn Fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    files.create_dir(to)?;
    for entry in files.list(from)? {
        let (source, target) = (from.join(&entry.name), to.join(&entry.name));
        if entry.is_dir {
            copy_store(files, &source, &target, copy_file)?;
        } else if !is_unfinished_snapshot(&source) {
            copy_file(&source, &target)?;
        }
    }
    Ok(())
}

/// A kill while sled writes a snapshot leaves `snap.*.generating`, with which it refuses to open. Finished snapshots are
/// never touched: sled needs them to understand the log.
fn remove_unfinished_snapshots(files: &dyn Files, store: &Path) -> io::Result<()> {
    for entry in files.list(store)? {
        let path = store.join(&entry.name);
        if is_unfinished_snapshot(&path) {
            files.remove_file(&path)?;
        }
    }
    Ok(())
}

fn is_unfinished_snapshot(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "generating")
}

/// Makes sled's files and their names durable.
pub(super) fn sync_store(files: &dyn Files, store: &Path) -> io::Result<()> {
    for entry in files.list(store)? {
        let path = store.join(&entry.name);
        if entry.is_dir { sync_store(files, &path)? } else { files.sync_file(&path)? }
    }
    files.sync_dir(store)
}

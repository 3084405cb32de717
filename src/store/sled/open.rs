//! Opening: nothing is answered before everything that was ever acknowledged is known to be there.
//!
//! sled repairs while it opens: it cuts the log at the first record that it cannot read, zeroes what is behind, and deletes
//! files. On a damaged store that would destroy what a backup tool could still read. So sled's files are copied first, and
//! put back if the check fails: `sled.saving/` becomes `sled.saved/` when the copy is whole, and a `sled.saved/` found on
//! opening means that an opening was cut short before its check, so it is put back then. It is gone, durably, before
//! anything is acknowledged.
//!
//! The check: the tree matches its meta record (`meta.rs`), and with what the journal adds holds every acknowledged group (`journal.rs`).
//!
//! Creating is all or nothing: an empty store is made in `sled.creating/` and renamed, and the format file comes last.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::folder::{self, Folder, create_private_dir, remove_dir, sync_dir};
use super::ground::Ground;
use super::group;
use super::health::panicked;
use super::journal::{Journal, Records};
use super::meta::Meta;
use super::record::{META_KEY, SEGMENT};
use crate::error::{Code, Error, Result};

/// Bounds sled's page cache; bytes.
const CACHE_BYTES: u64 = 8 << 20;
/// A store that this process has just closed may still be held by one of sled's worker threads.
const SLED_LOCK_WAIT: Duration = Duration::from_secs(2);

/// A store that is whole, durable, and ready to be written.
pub(super) struct Opened {
    pub folder: Folder,
    pub db: sled::Db,
    pub meta: Meta,
    pub log: File,
    pub journal: Journal,
    pub ground: Ground,
}

/// Opens or creates the store in this folder.
pub(super) fn open(dir: &Path) -> Result<Opened> {
    let folder = Folder::lock(&absolute(dir)?)?;
    let complete = folder.has_format()?;
    put_back(&folder).map_err(|e| folder.not_writable(&e))?;
    if !complete && !folder.path("sled").exists() {
        refuse_if_emptied(&folder)?;
        create(&folder)?;
    }
    let (journal, records) = open_journal(&folder)?;
    save(&folder)?;
    match open_checked(&folder, complete, &records) {
        Ok((db, meta)) => finish(folder, db, meta, journal, complete),
        Err(error) => {
            put_back(&folder).map_err(|e| folder.not_writable(&e))?;
            Err(error)
        }
    }
}

/// The same folder, wherever the process's working directory is later: sled opens files by their paths again and again.
pub(super) fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).map_err(|e| folder::not_writable(dir, &e))
}

/// No format file and no data: a new folder, or one whose creation was cut short. A record in the journal says otherwise.
fn refuse_if_emptied(folder: &Folder) -> Result<()> {
    match Journal::open(&folder.path("journal")) {
        Ok((_, Some(records))) if !records.is_empty() => Err(folder.damaged("its data and its format file are missing")),
        _ => Ok(()),
    }
}

fn create(folder: &Folder) -> Result<()> {
    let (creating, done) = (folder.path("sled.creating"), folder.path("sled"));
    let io = |e: io::Error| folder.not_writable(&e);
    remove_dir(&creating).map_err(io)?;
    create_private_dir(&creating).map_err(io)?;
    let created = guarded(|| {
        let db = sled_config(&creating).open()?;
        db.insert(META_KEY, Meta::default().encode())?;
        db.flush()?;
        Ok(db)
    });
    // Dropped before the rename.
    created.map(drop).map_err(|e| sled_failed(folder, e))?;
    sync_store(&creating).map_err(io)?;
    Journal::create(&folder.path("journal")).map_err(io)?;
    fs::rename(&creating, &done).map_err(io)?;
    sync_dir(folder.dir()).map_err(io)
}

fn open_journal(folder: &Folder) -> Result<(Journal, Records)> {
    match Journal::open(&folder.path("journal")) {
        Ok((journal, Some(records))) => Ok((journal, records)),
        Ok((_, None)) => Err(folder.damaged("its journal cannot be read")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(folder.damaged("its journal is missing")),
        Err(e) => Err(folder.not_writable(&e)),
    }
}

/// Copies sled's files, durably.
fn save(folder: &Folder) -> Result<()> {
    if !folder.path("sled/db").is_file() {
        return Err(folder.damaged("its file sled/db is missing"));
    }
    let (saving, saved) = (folder.path("sled.saving"), folder.path("sled.saved"));
    let save = || {
        remove_dir(&saving)?;
        copy_store(&folder.path("sled"), &saving, &|from, to| fs::copy(from, to).map(drop))?;
        sync_store(&saving)?;
        fs::rename(&saving, saved)?;
        sync_dir(folder.dir())
    };
    save().map_err(|e| {
        // What was copied is of no use, and the disk may be full.
        let _ = remove_dir(&saving);
        folder.not_writable(&e)
    })
}

/// Puts sled's files back as they were saved, if they are saved.
fn put_back(folder: &Folder) -> io::Result<()> {
    let (saved, store) = (folder.path("sled.saved"), folder.path("sled"));
    if !saved.exists() {
        return Ok(());
    }
    remove_dir(&store)?;
    fs::rename(saved, store)?;
    sync_dir(folder.dir())
}

/// Forgets the saved files: the store was checked.
fn forget_saved(folder: &Folder) -> io::Result<()> {
    // Renamed first: half of a copy must never be put back.
    fs::rename(folder.path("sled.saved"), folder.path("sled.saving"))?;
    sync_dir(folder.dir())?;
    remove_dir(&folder.path("sled.saving"))
}

/// Opens sled and checks that everything acknowledged is there.
fn open_checked(folder: &Folder, complete: bool, journal: &Records) -> Result<(sled::Db, Meta)> {
    let store = folder.path("sled");
    remove_unfinished_snapshots(&store).map_err(|e| folder.not_writable(&e))?;
    let db = open_sled(&store).map_err(|e| sled_failed(folder, e))?;
    match check(folder, &db, complete, journal) {
        Ok(meta) => Ok((db, meta)),
        Err(e) => {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
            Err(e)
        }
    }
}

fn check(folder: &Folder, db: &sled::Db, complete: bool, journal: &Records) -> Result<Meta> {
    let recovered = catch_unwind(AssertUnwindSafe(|| group::recover(db, journal))).unwrap_or_else(|panic| Err(panicked(&*panic)));
    let meta = recovered.map_err(|e| folder.damaged(e))?;
    // Without a format file and empty: its creation was cut short between the two.
    if meta.sequence > 0 && !complete {
        return Err(folder.damaged("its format.json is missing"));
    }
    Ok(meta)
}

/// What a killed process left in the page cache counts from now on, so it must be durable from now on.
fn finish(folder: Folder, db: sled::Db, meta: Meta, journal: Journal, complete: bool) -> Result<Opened> {
    let finish = || {
        let store = folder.path("sled");
        sync_store(&store)?;
        if !complete {
            folder.write_format()?;
        }
        forget_saved(&folder)?;
        let log = File::open(store.join("db"))?;
        let ground = folder.ground(&log, &journal)?;
        Ok((log, ground))
    };
    let (log, ground) = finish().map_err(|e| folder.not_writable(&e))?;
    Ok(Opened { folder, db, meta, log, journal, ground })
}

fn open_sled(store: &Path) -> std::result::Result<sled::Db, SledFailure> {
    let give_up = Instant::now() + SLED_LOCK_WAIT;
    loop {
        match guarded(|| sled_config(store).open()) {
            Err(failure) if failure.is_lock() && Instant::now() < give_up => std::thread::sleep(Duration::from_millis(5)),
            result => return result,
        }
    }
}

fn sled_config(store: &Path) -> sled::Config {
    sled::Config::new()
        .path(store)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT)
        .mode(sled::Mode::LowSpace)
        // Every batch is flushed; a timer would only write in between.
        .flush_every_ms(None)
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
pub(super) fn copy_store(from: &Path, to: &Path, copy_file: &dyn Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    create_private_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_store(&source, &target, copy_file)?;
        } else if !is_unfinished_snapshot(&source) {
            copy_file(&source, &target)?;
        }
    }
    Ok(())
}

/// A kill while sled writes a snapshot leaves `snap.*.generating`, with which it refuses to open. Finished snapshots are
/// never touched: sled needs them to understand the log.
fn remove_unfinished_snapshots(store: &Path) -> io::Result<()> {
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        if is_unfinished_snapshot(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn is_unfinished_snapshot(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "generating")
}

/// Makes sled's files and their names durable.
fn sync_store(store: &Path) -> io::Result<()> {
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        if path.is_dir() { sync_store(&path)? } else { File::open(&path)?.sync_all()? }
    }
    sync_dir(store)
}

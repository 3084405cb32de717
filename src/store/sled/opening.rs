//! Opening: nothing is answered before everything that was ever acknowledged is known to be there.
//!
//! sled repairs while it opens: it cuts the log at the first record that it cannot read, zeroes what is behind, and deletes
//! files. On a damaged store that would destroy what a backup tool could still read. So a copy is opened first (the
//! rehearsal) and checked; only if it is whole is the store itself opened, and checked again.
//!
//! The check: the tree matches its meta record (`meta.rs`), and is not behind the watermark (`watermark.rs`).
//!
//! Creating is all or nothing: an empty store is made in `sled.creating/` and renamed, and the format file comes last.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::folder::{Folder, create_private_dir, remove_dir, sync_dir};
use super::health::panicked;
use super::meta::Meta;
use super::record::{META_KEY, SEGMENT};
use super::watermark::Watermark;
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
    pub watermark: Watermark,
}

/// Opens or creates the store in this folder.
pub(super) fn open(dir: &Path) -> Result<Opened> {
    let folder = Folder::lock(dir)?;
    let complete = folder.has_format()?;
    if !complete && !folder.path("sled").exists() {
        refuse_if_emptied(&folder)?;
        create(&folder)?;
    }
    let (watermark, acknowledged) = open_watermark(&folder)?;
    rehearse(&folder, acknowledged)?;
    let opened = open_for_good(folder, watermark, acknowledged)?;
    if !complete {
        finish_creation(&opened)?;
    }
    Ok(opened)
}

/// No format file and no data: a new folder, or one whose creation was cut short. A watermark above 0 says otherwise.
fn refuse_if_emptied(folder: &Folder) -> Result<()> {
    match Watermark::open(&folder.path("watermark")) {
        Ok((_, Some(acknowledged))) if acknowledged > 0 => Err(folder.damaged("its data and its format file are missing")),
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
    Watermark::create(&folder.path("watermark")).map_err(io)?;
    fs::rename(&creating, &done).map_err(io)?;
    sync_dir(folder.dir()).map_err(io)
}

/// Data without a format file: the creation was cut short between the two, or the file was deleted.
fn finish_creation(opened: &Opened) -> Result<()> {
    if opened.meta.sequence > 0 {
        return Err(opened.folder.damaged("its format.json is missing"));
    }
    opened.folder.write_format().map_err(|e| opened.folder.not_writable(&e))
}

fn open_watermark(folder: &Folder) -> Result<(Watermark, u64)> {
    match Watermark::open(&folder.path("watermark")) {
        Ok((watermark, Some(acknowledged))) => Ok((watermark, acknowledged)),
        Ok((_, None)) => Err(folder.damaged("its watermark file cannot be read")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(folder.damaged("its watermark file is missing")),
        Err(e) => Err(folder.not_writable(&e)),
    }
}

/// Opens a copy and checks it. The copy is gone afterwards, or at the latest when the store is opened again.
fn rehearse(folder: &Folder, acknowledged: u64) -> Result<()> {
    if !folder.path("sled/db").is_file() {
        return Err(folder.damaged("its file sled/db is missing"));
    }
    let copy = folder.path("rehearsal");
    remove_dir(&copy).and_then(|()| copy_store(&folder.path("sled"), &copy)).map_err(|e| folder.not_writable(&e))?;
    let checked = open_checked(folder, &copy, acknowledged).map(drop);
    // A copy that stays behind costs space, nothing else.
    let _ = remove_dir(&copy);
    checked
}

fn open_for_good(folder: Folder, watermark: Watermark, acknowledged: u64) -> Result<Opened> {
    let store = folder.path("sled");
    let io = |e: io::Error| folder.not_writable(&e);
    remove_unfinished_snapshots(&store).map_err(io)?;
    let (db, meta) = open_checked(&folder, &store, acknowledged)?;
    // What a killed process left in the page cache counts from now on, so it must be durable from now on.
    sync_store(&store).map_err(io)?;
    watermark.advance(meta.sequence).map_err(io)?;
    let log = File::open(store.join("db")).map_err(io)?;
    Ok(Opened { folder, db, meta, log, watermark })
}

fn open_checked(folder: &Folder, store: &Path, acknowledged: u64) -> Result<(sled::Db, Meta)> {
    let db = open_sled(store).map_err(|e| sled_failed(folder, e))?;
    let verified = catch_unwind(AssertUnwindSafe(|| Meta::verified(&db))).unwrap_or_else(|panic| Err(panicked(&*panic)));
    let checked = match verified {
        Ok(Some(meta)) if meta.sequence >= acknowledged => Ok(meta),
        Ok(found) => {
            let sequence = found.map_or(0, |meta| meta.sequence);
            Err(folder.damaged(format!("it ends with batch {sequence}, but batch {acknowledged} had been acknowledged")))
        }
        Err(e) => Err(folder.damaged(e)),
    };
    match checked {
        Ok(meta) => Ok((db, meta)),
        Err(e) => {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
            Err(e)
        }
    }
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

/// Copies sled's files, without unfinished snapshots.
fn copy_store(from: &Path, to: &Path) -> io::Result<()> {
    create_private_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_store(&source, &target)?;
        } else if !is_unfinished_snapshot(&source) {
            fs::copy(&source, &target)?;
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

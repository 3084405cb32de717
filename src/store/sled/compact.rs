//! `atlock compact`: what was released leaves the disk.
//!
//! sled's log and the journal are written on and on: copies of a released lock's value stay in them, in what sled has freed and in what
//! the journal has not overwritten yet. Compacting writes what is there into fresh files, puts them in the place of the old ones, and
//! overwrites the old ones before it removes them. In a sealed store the fresh files have a data key of their own, and the old data keys
//! are nowhere any more.
//!
//! Overwriting is the best that a program can do: a file system that copies on write (btrfs, ZFS), snapshots, and disks that move
//! blocks about keep the old ones for as long as they like. What is deleted for good there is what was sealed: set a new master key in
//! front, compact, and destroy the old one.
//!
//! Invariant: at every moment one of both stores is whole at the path, and has everything acknowledged. The way is that of an opening
//! (`open.rs`): the fresh store is durable in `sled.creating/`; then `sled/` becomes `sled.saved/` and the fresh one `sled/`. Whoever
//! opens the folder before `sled.saved/` is gone puts it back: nothing was acknowledged meanwhile. A fresh journal, which has the
//! last group's mark alone, takes the old one's name at once; it belongs to either store, for both are complete without it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::database::{self, Database};
use super::files::Files;
use super::folder::{Folder, remove_dir};
use super::journal::Journal;
use super::meta::Meta;
use super::moved::{self, refuse_marked};
use super::open::{self, Opened, forget_saved, sync_store};
use super::read::{View, failed};
use super::record::{self, META_KEY, RING_KEY, Stored, is_of_values};
use super::sealed;
use super::system_files::SystemFiles;
use crate::clock::Clock;
use crate::domain::lock::is_stand_in;
use crate::error::Result;
use crate::sealing::{MasterKeys, Ring, Sealing};

/// So much is overwritten at once, bytes.
const PIECE: usize = 64 << 10;
/// The journal that is not at its place yet.
const NEW_JOURNAL: &str = "journal.new";

/// How long the files were, and are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes before.
    pub before: u64,
    /// Bytes now.
    pub now: u64,
}

/// Writes the store in this folder into fresh files, under a fresh data key if `masters` are given.
///
/// It needs free disk space for two further copies of the data. Nobody else may have the store open.
///
/// Errors: those of an opening; nothing is lost then, and the next try begins anew.
pub(super) fn compact(files: &Arc<dyn Files>, dir: &Path, clock: &dyn Clock, masters: Option<&MasterKeys>) -> Result<Compacted> {
    let Opened { folder, db, meta, log, mut journal, ground } = open::open(files, dir, clock)?;
    drop((log, ground));
    let io = |e: io::Error| folder.not_writable(&e);
    let made = moved::read(&**files, folder.dir())
        .and_then(|mark| refuse_marked(mark, dir))
        .and_then(|()| sealed::open_keys(&folder, &*db, masters, false))
        .and_then(|(sealing, _)| make_fresh(&folder, View { db: &*db, sealing: &sealing }, meta, masters));
    database::close(db).and(made)?;
    let before = size(&**files, &folder.path("sled")).map_err(io)? + journal.length();
    put_in_place(&folder, meta.sequence).map_err(io)?;
    lay_to_rest(&folder, &mut journal).map_err(io)?;
    let now = size(&**files, &folder.path("sled")).map_err(io)? + super::journal::FILE_BYTES as u64;
    Ok(Compacted { before, now })
}

/// Writes a fresh store, durably, beside the old one.
fn make_fresh(folder: &Folder, old: View<'_>, meta: Meta, masters: Option<&MasterKeys>) -> Result<()> {
    let (files, io) = (folder.files(), |e: io::Error| folder.not_writable(&e));
    let fresh = masters.map(Ring::fresh).transpose()?;
    let sealing = fresh.as_ref().map_or(&crate::sealing::PLAIN, |(sealing, _)| sealing);
    let creating = folder.path("sled.creating");
    remove_dir(files, &creating).map_err(io)?;
    files.create_dir(&creating).map_err(io)?;
    let db = open::opened(folder, || files.open_database(&creating))?;
    let mut writing = Writing { db: &*db, meta: meta.emptied() };
    let written = copy(old, sealing, &mut writing)
        .and_then(|()| match &fresh {
            Some((_, ring)) => writing.put_all(record::encode(RING_KEY, record::Header::default(), &ring.encode()?, sealing)?),
            None => Ok(()),
        })
        .and_then(|()| {
            let Writing { db, meta } = writing;
            db.insert(META_KEY, meta.encode().into()).and_then(|()| db.flush()).map_err(failed)
        });
    database::close(db).and(written)?;
    sync_store(files, &creating).map_err(io)?;
    folder.sync().map_err(io)
}

/// A store that is being written.
struct Writing<'a> {
    db: &'a dyn Database,
    meta: Meta,
}

impl Writing<'_> {
    fn put_all(&mut self, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()> {
        entries.into_iter().try_for_each(|(key, value)| {
            self.meta.add(&key, &value);
            self.db.insert(&key, value.into()).map_err(failed)
        })
    }
}

/// Copies everything: values as they are sealed from now on, the rest as it is. A value that does not open stays as it is.
fn copy(old: View<'_>, sealing: &Sealing, to: &mut Writing<'_>) -> Result<()> {
    for entry in old.scan_prefix(&[]) {
        let (key, bytes) = entry.map_err(failed)?;
        if key == META_KEY || record::is_part_of(&key, RING_KEY) || record::is_chunk_of_value(&key) {
            continue;
        }
        if !is_of_values(&key) {
            to.put_all(vec![(key.to_vec(), bytes.to_vec())])?;
            continue;
        }
        let chunks: Vec<_> = Stored::decode(&key, bytes.clone())?.chunk_keys(&key).collect();
        let (header, value) = old.open(&key, Stored::decode(&key, bytes.clone())?)?;
        if is_stand_in(&value) {
            to.put_all(vec![(key.to_vec(), bytes.to_vec())])?;
            for chunk in chunks {
                let bytes = old.get(&chunk)?.unwrap_or_default();
                to.put_all(vec![(chunk, bytes.to_vec())])?;
            }
        } else {
            to.put_all(record::encode(&key, header, &value, sealing)?)?;
        }
    }
    Ok(())
}

/// Gives the fresh store and a fresh journal their names.
fn put_in_place(folder: &Folder, sequence: u64) -> io::Result<()> {
    let (files, new) = (folder.files(), folder.path(NEW_JOURNAL));
    Journal::create(files, &new)?;
    let (mut journal, _) = Journal::open(files, &new)?;
    if sequence > 0 {
        journal.restart_at(sequence)?;
    }
    drop(journal);
    files.rename(&folder.path("sled"), &folder.path("sled.saved"))?;
    files.rename(&folder.path("sled.creating"), &folder.path("sled"))?;
    folder.sync()?;
    files.rename(&new, &folder.path("journal"))?;
    folder.sync()
}

/// Overwrites and removes the old files. From here on the fresh ones are the store: what is overwritten must never be put back.
fn lay_to_rest(folder: &Folder, journal: &mut Journal) -> io::Result<()> {
    let saving = forget_saved(folder)?;
    journal.wipe()?;
    wipe(folder.files(), &saving)?;
    remove_dir(folder.files(), &saving)
}

/// Overwrites all files of a folder.
fn wipe(files: &dyn Files, dir: &Path) -> io::Result<()> {
    for entry in files.list(dir)? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            wipe(files, &path)?;
            continue;
        }
        let length = files.look(&path)?.map_or(0, |found| found.length);
        let (file, zeros) = (files.open_blocks(&path, false)?, vec![0; PIECE]);
        let mut at = 0;
        while at < length {
            let piece = (length - at).min(PIECE as u64);
            file.write_at(&zeros[..piece as usize], at)?;
            at += piece;
        }
    }
    Ok(())
}

fn size(files: &dyn Files, dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in files.list(dir)? {
        let path = dir.join(&entry.name);
        bytes += if entry.is_dir { size(files, &path)? } else { files.look(&path)?.map_or(0, |found| found.length) };
    }
    Ok(bytes)
}

impl super::store::SledStore {
    /// Writes the store in this folder into fresh files, so that released locks leave nothing on the disk but what `compact.rs` names. A
    /// sealed store gets a fresh data key.
    ///
    /// It needs free disk space for two further copies of the data, and nobody else may have the store open.
    ///
    /// Errors: those of [`SledStore::open_sealed`](super::SledStore::open_sealed); nothing is lost then.
    pub fn compact(dir: &Path, clock: &dyn Clock, masters: Option<&MasterKeys>) -> Result<Compacted> {
        let files: Arc<dyn Files> = Arc::new(SystemFiles);
        compact(&files, dir, clock, masters)
    }
}

//! What the file system says of the places that the settings name. Nothing is written: whether a file can be written is asked of the
//! system (`access`), for the user that runs the command.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, statfs, statvfs};

/// A place of a settings file.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// Why nothing can be said; `None` if it was looked at.
    pub error: Option<String>,
    /// Whether nothing is there.
    pub is_missing: bool,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its owner's number.
    pub owner: u32,
    /// The rights of its group and of others, as in `chmod`.
    pub mode: u32,
    /// Whether this user may write there.
    pub is_writable: bool,
    /// Files in the folder that belong to another user: names and numbers.
    pub of_others: Vec<(String, u32)>,
    /// The file system, or that of the nearest folder above that is there.
    pub disk: Option<Disk>,
}

/// A file system.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its kind, as `statfs` numbers it.
    pub kind: u64,
    /// Bytes that users have.
    pub free: u64,
    /// Files that can be made; `None` where the file system has no number of them.
    pub free_files: Option<u64>,
    /// Whether it is mounted read-only.
    pub is_read_only: bool,
}

/// The number of the user that runs this process.
pub(super) fn this_user() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|process| process.uid())
}

/// Looks at a file or folder.
pub(super) fn place(path: &Path) -> Place {
    let mut place = Place { path: path.to_owned(), ..Place::default() };
    let nearest = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let nearest = nearest.ancestors().find(|above| above.exists());
    place.disk = nearest.and_then(|above| disk(above).ok());
    match fs::metadata(path) {
        Ok(found) => {
            (place.is_folder, place.owner, place.mode) = (found.is_dir(), found.uid(), found.mode() & 0o777);
            place.is_writable = access(path, Access::WRITE_OK).is_ok();
            place.of_others = if found.is_dir() { of_others(path, found.uid()) } else { Vec::new() };
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            place.is_missing = true;
            place.is_writable = nearest.is_some_and(|above| access(above, Access::WRITE_OK).is_ok());
        }
        Err(e) => place.error = Some(e.to_string()),
    }
    place
}

/// The folder's files that are another user's than the folder itself.
fn of_others(folder: &Path, owner: u32) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(String, u32)> = entries
        .filter_map(|entry| Some((entry.file_name().to_string_lossy().into_owned(), entry.metadata().ok()?.uid())))
        .filter(|(_, user)| *user != owner)
        .collect();
    found.sort_unstable();
    found
}

fn disk(path: &Path) -> rustix::io::Result<Disk> {
    let (kind, space) = (statfs(path)?.f_type, statvfs(path)?);
    Ok(Disk {
        // Some systems have it with a sign, of 32 bits.
        kind: u64::from(kind as u32),
        free: space.f_bavail.saturating_mul(space.f_frsize),
        free_files: (space.f_files > 0).then_some(space.f_favail),
        is_read_only: space.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

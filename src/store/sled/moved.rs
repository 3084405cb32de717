//! The mark of an embedded store whose locks a migration has moved away, or is moving: the file `migration.json` in its folder.

use std::io;
use std::path::Path;

use super::files::Files;
use super::folder;
use crate::error::Result;
use crate::store::moved::Mark;

const MARK: &str = "migration.json";
/// The mark that is not whole yet.
const NEW_MARK: &str = "migration.json.new";

/// Refuses a store with a mark.
pub(super) fn refuse_marked(mark: Option<Mark>, dir: &Path) -> Result<()> {
    mark.filter(Mark::refuses).map_or(Ok(()), |mark| Err(mark.refusal(&format!("the store in {}", dir.display()))))
}

/// The mark in a folder.
pub(super) fn read(files: &dyn Files, dir: &Path) -> Result<Option<Mark>> {
    match files.read(&dir.join(MARK)) {
        Ok(bytes) => Mark::decode(&bytes, &format!("the store in {}", dir.display())).map(Some),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(folder::unreadable(dir, &e)),
    }
}

/// Writes the mark, or takes it away; durable when it returns.
pub(super) fn write(files: &dyn Files, dir: &Path, mark: Option<&Mark>) -> Result<()> {
    let (path, failed) = (dir.join(MARK), |e: io::Error| folder::not_writable(dir, &e));
    match mark {
        Some(mark) => {
            let new = dir.join(NEW_MARK);
            files.write(&new, &mark.encode()?).map_err(failed)?;
            files.rename(&new, &path).map_err(failed)?;
        }
        None => match files.remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        },
    }
    files.sync_dir(dir).map_err(failed)
}

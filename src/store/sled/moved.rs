//! The embedded store of which a migration has moved the locks away, or into which it moves them: its mark is the file `migration.json`
//! in the folder.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::files::Files;
use super::folder;
use super::meta::Meta;
use super::read::read_entry;
use super::record::META_KEY;
use super::store::SledStore;
use super::system_files::SystemFiles;
use crate::clock::Clock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::moved::Mark;

const MARK: &str = "migration.json";
/// The mark that is not whole yet.
const NEW_MARK: &str = "migration.json.new";

impl SledStore {
    /// As [`SledStore::open`], also of a store with a mark: for a migration.
    pub fn open_to_migrate(dir: &Path, clock: Arc<dyn Clock>) -> Result<SledStore> {
        SledStore::open_on(Arc::new(SystemFiles), dir, clock, Arc::new(|_| Ok(())))
    }

    /// The mark of the store in this folder.
    pub fn mark_in(dir: &Path) -> Result<Option<Mark>> {
        read(&SystemFiles, dir)
    }

    /// Its mark.
    pub fn mark(&self) -> Result<Option<Mark>> {
        read(&*self.files, &self.dir)
    }

    /// Gives it this mark, or takes it away; durable when it returns.
    pub fn set_mark(&self, mark: Option<&Mark>) -> Result<()> {
        let (path, failed) = (self.dir.join(MARK), |e: io::Error| folder::not_writable(&self.dir, &e));
        match mark {
            Some(mark) => {
                let new = self.dir.join(NEW_MARK);
                self.files.write(&new, &mark.encode()?).map_err(failed)?;
                self.files.rename(&new, &path).map_err(failed)?;
            }
            None => match self.files.remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            },
        }
        self.files.sync_dir(&self.dir).map_err(failed)
    }

    /// The largest fencing token that the store has given or been given; 0 for none.
    pub fn last_token(&self) -> Result<FencingToken> {
        let bytes = self.tree.read(|db| read_entry(db, META_KEY))?;
        let bytes = bytes.ok_or_else(|| Error::new(Code::StoreDamaged, "its meta record is missing"))?;
        Ok(FencingToken::new(Meta::decode(&bytes)?.0.last_token))
    }
}

/// Refuses a store with a mark.
pub(super) fn refuse_marked(mark: Option<Mark>, dir: &Path) -> Result<()> {
    mark.map_or(Ok(()), |mark| Err(mark.refusal(&format!("the store in {}", dir.display()))))
}

fn read(files: &dyn Files, dir: &Path) -> Result<Option<Mark>> {
    match files.read(&dir.join(MARK)) {
        Ok(bytes) => Mark::decode(&bytes, &format!("the store in {}", dir.display())).map(Some),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(folder::unreadable(dir, &e)),
    }
}

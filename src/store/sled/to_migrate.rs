//! What a migration asks of the embedded store beside the entries.

use std::path::Path;
use std::sync::Arc;

use super::meta::Meta;
use super::moved;
use super::record::META_KEY;
use super::store::SledStore;
use super::system_files::SystemFiles;
use crate::clock::Clock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::sealing::MasterKeys;
use crate::store::moved::Mark;

impl SledStore {
    /// As [`SledStore::open_sealed`], also of a store with a mark.
    pub fn open_to_migrate(dir: &Path, clock: Arc<dyn Clock>, masters: Option<&MasterKeys>) -> Result<SledStore> {
        SledStore::open_on(Arc::new(SystemFiles), dir, clock, Arc::new(|_| Ok(())), masters)
    }

    /// The mark of the store in this folder.
    pub fn mark_in(dir: &Path) -> Result<Option<Mark>> {
        moved::read(&SystemFiles, dir)
    }

    /// Its mark.
    pub fn mark(&self) -> Result<Option<Mark>> {
        moved::read(&*self.files, &self.dir)
    }

    /// Gives it this mark, or takes it away; durable when it returns.
    pub fn set_mark(&self, mark: Option<&Mark>) -> Result<()> {
        moved::write(&*self.files, &self.dir, mark)
    }

    /// The largest fencing token that the store has given or been given; 0 for none.
    pub fn last_token(&self) -> Result<FencingToken> {
        let bytes = self.tree.read(|view| view.get(META_KEY))?;
        let bytes = bytes.ok_or_else(|| Error::new(Code::StoreDamaged, "its meta record is missing"))?;
        Ok(FencingToken::new(Meta::decode(&bytes)?.0.last_token))
    }
}

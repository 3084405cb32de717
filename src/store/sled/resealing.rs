//! `atlock reseal`: writes anew what is not sealed as it would be sealed today, or, on the way back, what is sealed at all.
//!
//! Each group is a change like any other, so a kill leaves each record as it was or as it is to be; the next run goes on with what is left.
//! Old data keys go last, when nothing needs them any more.

use std::path::Path;
use std::sync::Arc;

use super::moved::refuse_marked;
use super::read::failed;
use super::record::{SEALED_PREFIXES, Stored, name_of};
use super::sealed::kept;
use super::store::SledStore;
use super::system_files::SystemFiles;
use crate::clock::Clock;
use crate::domain::lock::is_stand_in;
use crate::error::{Code, Error, Result};
use crate::sealing::MasterKeys;

/// Most records of one group.
const GROUP: usize = 64;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// How many records were written anew.
    pub written: usize,
    /// Sealed records that do not open: they stay as they are. Their names, as far as they can be told.
    pub unreadable: Vec<String>,
}

impl SledStore {
    /// Opens a store to write all of it in clear again.
    ///
    /// Errors: those of [`SledStore::open_sealed`].
    pub fn open_to_unseal(dir: &Path, clock: Arc<dyn Clock>, masters: &MasterKeys) -> Result<SledStore> {
        refuse_marked(SledStore::mark_in(dir)?, dir)?;
        SledStore::open_keyed(Arc::new(SystemFiles), dir, clock, Arc::new(|_| Ok(())), Some(masters), true)
    }

    /// Writes anew what is not as the store writes today: sealed under its newest data key, or in clear
    /// ([`SledStore::open_to_unseal`]). At the end it forgets the data keys under which nothing is sealed any more.
    ///
    /// Errors: those of a change; what was written until then stays so. `EncryptionKey` if all is to be in clear, and some records do not open:
    /// all others are in clear then.
    pub fn reseal(&self) -> Result<Resealed> {
        let mut done = Resealed::default();
        for prefix in SEALED_PREFIXES {
            for keys in self.not_as_today(prefix)?.chunks(GROUP) {
                let keys = keys.to_vec();
                let (written, unreadable) = self.group(move |tx| {
                    let (mut written, mut unreadable) = (0, Vec::new());
                    for key in keys {
                        match tx.entry(&key)? {
                            Some((_, value)) if is_stand_in(&value) => unreadable.push(key),
                            Some((header, value)) => {
                                tx.put_entry(&key, header, &value)?;
                                written += 1;
                            }
                            None => {}
                        }
                    }
                    Ok((written, unreadable))
                })?;
                done.written += written;
                done.unreadable.extend(unreadable.iter().map(|key| told(key)));
            }
        }
        if done.unreadable.is_empty() {
            self.forget_old_keys()?;
        } else if !self.is_sealed() {
            return Err(unreadable(&done));
        }
        Ok(done)
    }

    /// The tree keys of records that are sealed under another key than is written under, or not sealed though others are.
    fn not_as_today(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.tree.read(|view| {
            let mut keys = Vec::new();
            for entry in view.scan_prefix(prefix) {
                let (key, bytes) = entry.map_err(failed)?;
                if Stored::decode(&key, bytes)?.sealed_under() != view.sealing.writes_under() {
                    keys.push(key.to_vec());
                }
            }
            Ok(keys)
        })
    }

    fn forget_old_keys(&self) -> Result<()> {
        if !self.is_sealed() {
            self.keep(None)?;
            return self.with_folder(|folder| folder.set_sealed(false));
        }
        let ring = self.tree.read(|view| kept(view, "the store"))?;
        match ring.and_then(|ring| ring.newest()) {
            Some(newest) => self.keep(Some(&newest)),
            None => Ok(()),
        }
    }
}

fn told(tree_key: &[u8]) -> String {
    name_of(tree_key).map_or_else(|| String::from_utf8_lossy(tree_key).into_owned(), |key| key.to_string())
}

fn unreadable(done: &Resealed) -> Error {
    let text = format!(
        "{} records are in clear now. These are sealed and do not open, so the key is still needed: {}. Remove them by `atlock discard`, \
         then type this again",
        done.written,
        done.unreadable.join(", ")
    );
    Error::new(Code::EncryptionKey, text)
}

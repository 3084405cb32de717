//! Atlantis's BoltDB file in a migration, through the code of a program that has it ([`HostFiles`]).
//!
//! Invariants:
//! - While it is open to be changed, the file's own lock keeps every server out, a stock one too: what was seen is still there when it is
//!   changed.
//! - While its mark refuses, no server can open it, not even one that looks for no mark (`store::host::moved`).
//! - A file that hybrid mode keeps as a copy is no source: its data folder may have more. It is one again when something was written to it
//!   since; strict mode's start does so once the file has all.
//!
//! What it cannot have: fencing tokens, queues, freezes. A holder's token is not lost on the way back: the other store has it still.
//!
//! Not covered: a stock server that was started on the copy of a hybrid mode that had crashed; and a data folder elsewhere than beside the
//! file, of native mode, which leaves no word in the file.

use std::fmt::Debug;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::Survey;
use super::files::room_on_disk;
use super::merge::Step;
use super::place::{Place, Role};
use crate::clock::{Clock, SystemClock};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::sealing::MasterKeys;
use crate::store::Store as _;
use crate::store::contract::copy::{CopyStore as _, HostDump, HostWrite};
use crate::store::contract::local::{EntryKey, Held};
use crate::store::host::HostStore;
use crate::store::moved::Mark;
use crate::store::sled::SledStore;

/// Most entries of one transaction.
const GROUP: usize = 256;
/// Where a linked server has its data folder, unless its settings say otherwise.
const DATA_FOLDER: &str = "atlock";

/// What opens Atlantis's BoltDB file.
pub trait HostFiles: Debug {
    /// Opens the file, to look at it or to change it; for a change it is made if it is missing.
    ///
    /// Errors: `Unsupported` of a program without that code.
    fn open(&self, file: &Path, access: Access) -> Result<HostStore>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing of it is changed, and others may have it between two questions.
    Look,
    /// Nobody else has it meanwhile.
    Change,
}

/// The file.
pub(super) struct BoltdbPlace {
    host: HostStore,
    file: PathBuf,
    named: String,
    access: Access,
    /// The keys of the data folder beside it.
    masters: Option<MasterKeys>,
}

impl BoltdbPlace {
    /// Opens it.
    pub fn open(
        files: Option<&dyn HostFiles>,
        file: &Path,
        named: String,
        access: Access,
        masters: Option<&MasterKeys>,
    ) -> Result<BoltdbPlace> {
        let missing = || {
            let text = format!("{named}: it is read and written by Atlantis's own code alone, which this program does not have");
            Error::new(Code::Unsupported, text)
        };
        let host = files.ok_or_else(missing)?.open(file, access)?;
        Ok(BoltdbPlace { host, file: file.to_owned(), named, access, masters: masters.cloned() })
    }

    fn dump(&self) -> Result<HostDump> {
        self.host.dump().map_err(|e| e.context(&self.named))
    }

    /// Why the file may lack locks that a server has granted.
    fn lacks(&self) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        let place = &self.named;
        if self.dump()?.mark.is_some_and(|mark| !mark.written_since) {
            problems.push(format!(
                "{place} is a copy that hybrid mode keeps, and may lack its last locks: start the linked server once in strict mode \
                 (ATLANTIS_ENHANCED_LOCKING_ENABLED=false), and stop it in good order; or migrate from the Redis of hybrid mode"
            ));
        }
        let folder = self.file.with_file_name(DATA_FOLDER);
        if SledStore::is_in(&folder)? {
            let clock = Arc::new(SystemClock);
            let look = SledStore::read_to_migrate(&folder, clock, self.masters.as_ref())?;
            let record = look.0.redis_record()?;
            look.close()?;
            if let Some(why) = record.and_then(|record| record.lacks_at_start(None, false)) {
                problems.push(format!(
                    "{place} may lack locks, by the data folder {}: {why}. Start the linked server once in strict mode, with Redis in \
                     reach, and stop it in good order; or migrate from that Redis",
                    folder.display()
                ));
            }
        }
        Ok(problems)
    }
}

impl Place for BoltdbPlace {
    fn room(&self) -> Option<u64> {
        room_on_disk(&self.file)
    }

    fn survey(&self) -> Result<Survey> {
        // Whoever had a lock there may have been given a token of the moment.
        let mut survey = Survey { last_token: SystemClock.unix_micros(), ..Survey::default() };
        for found in self.dump()?.entries {
            match found.value {
                Some(value) => survey.add(found.key, Held { value, token: FencingToken::NONE }),
                None => {
                    survey.skip(&found.key.to_string(), "its key or its value is not UTF-8".to_owned());
                    survey.unreadable.insert(found.key, None);
                }
            }
        }
        Ok(survey)
    }

    fn make(&self, steps: &[Step]) -> Result<usize> {
        for group in steps.chunks(GROUP) {
            let value = |step: &'_ Step| step.new.as_ref().map(|held| held.value.clone());
            let values: Vec<_> = group.iter().map(value).collect();
            let writes = group.iter().zip(&values).map(|(step, value)| HostWrite { key: &step.key, value: value.as_deref() });
            // Without a mark: hybrid mode sees that somebody has decided here since.
            self.host.apply(&writes.collect::<Vec<_>>(), None).map_err(|e| e.context(&self.named))?;
        }
        Ok(steps.len())
    }

    fn cannot_have(&self, key: &EntryKey, value: &[u8]) -> Option<&'static str> {
        if !key.is_stocks() {
            return Some("a BoltDB file has no queues and no freezes");
        }
        std::str::from_utf8(value).is_err().then_some("it is not UTF-8, and a BoltDB file would not give it back")
    }

    fn has_tokens(&self) -> bool {
        false
    }

    fn mark(&self) -> Result<Option<Mark>> {
        self.host.migration_mark(&self.named)
    }

    fn set_mark(&self, _seen: Option<&Mark>, new: Option<&Mark>) -> Result<()> {
        self.host.set_migration_mark(new, &self.named)
    }

    fn clock(&self) -> Result<u64> {
        Ok(SystemClock.unix_micros())
    }

    fn identities(&self) -> Result<Vec<String>> {
        Ok(match std::fs::metadata(&self.file) {
            Ok(found) => vec![format!("file {}:{}", found.dev(), found.ino())],
            Err(_) => vec![format!("file {}", self.file.display())],
        })
    }

    fn problems(&self, side: Role) -> Result<Vec<String>> {
        // What a migration under way has found is so until its end.
        if self.access == Access::Change {
            return Ok(Vec::new());
        }
        let mut problems = if side == Role::Source { self.lacks()? } else { Vec::new() };
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        if side == Role::Source && !self.file.exists() && self.mark()?.is_none() {
            problems.push(format!("there is no file {}: is that the right folder?", self.file.display()));
        }
        let above = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        if rustix::fs::access(above, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_err() {
            problems.push(format!("this user may not write in {}", above.display()));
        }
        Ok(problems)
    }

    fn warnings(&self, _side: Role) -> Vec<String> {
        Vec::new()
    }

    fn disarm_companion(&self, _mark: Option<&Mark>) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.host.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::host::{HostCalls, OP_DUMP};

    /// A file with a lock whose value, and a status whose key, is no UTF-8.
    #[derive(Debug)]
    struct Odd;

    impl HostCalls for Odd {
        fn call(&self, op: u32, _input: &[u8]) -> Result<Vec<u8>> {
            assert_eq!(op, OP_DUMP);
            let dump = br#"[{"key":{"project":"a"},"unreadable":true},{"key":{"status":"s"},"unreadable":true},{"key":{"command":"c"},"value":"{}"}]"#;
            Ok(dump.to_vec())
        }
    }

    impl HostFiles for Odd {
        fn open(&self, _file: &Path, _access: Access) -> Result<HostStore> {
            Ok(HostStore::new(Box::new(Odd)))
        }
    }

    #[test]
    fn what_is_no_utf8_is_named_and_keeps_its_key() {
        let place =
            BoltdbPlace::open(Some(&Odd), Path::new("/x/atlantis.db"), "it".to_owned(), Access::Look, None).expect("opens");
        let survey = place.survey().expect("is read");
        assert_eq!((survey.entries.len(), survey.skipped.len(), survey.unreadable.len()), (1, 2, 2));
        assert!(survey.skipped[0].reason.contains("UTF-8"));
        let key = EntryKey::Status("s".to_owned());
        assert!(place.cannot_have(&key, b"\"\xff\"").is_some_and(|why| why.contains("UTF-8")));
        assert!(place.cannot_have(&EntryKey::Freezes, b"{}").is_some() && place.cannot_have(&key, b"{}").is_none());
    }
}

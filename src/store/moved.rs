//! What a migration (`crate::migrate`) leaves in a store, so that a server does not believe locks that were moved away, or that are not
//! all there yet; and what a shadow has, whose locks decide nothing.
//!
//! Invariant: a store with a mark that refuses ([`Mark::refuses`]) is opened by a migration or as a shadow alone. Whoever else opens it hears where the
//! locks are, and what to do.

use serde::{Deserialize, Serialize};

use crate::domain::json::parse_json;
use crate::error::{Code, Error, Result};

/// The mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The migration's id.
    pub migration: String,
    /// What it does with this store.
    pub state: MarkState,
    /// The store that it moves from, for a person.
    pub from: String,
    /// The store that it moves to.
    pub to: String,
    /// Where its manifest, or the backup that is restored, was when it began.
    pub manifest: String,
}

/// What a migration does with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkState {
    /// Its locks are being moved away.
    Leaving,
    /// Locks are being moved into it.
    Arriving,
    /// Its locks were moved away: what is still in it is old.
    Moved,
    /// A backup is being restored into it.
    Restoring,
    /// It is the shadow of another store (`crate::shadow`), which decides; `migration` is the process that fills it.
    Shadow,
    /// Its locks are all there, and servers may open it. A store that had this mark and has it no more has lost its data.
    Decides,
}

impl Mark {
    /// Reads a mark. Errors: `StoreMoved` if it cannot be read: some migration has left it.
    pub fn decode(bytes: &[u8], store: &str) -> Result<Mark> {
        parse_json(bytes).map_err(|e| {
            let text = format!(
                "{store} has the mark of a migration that cannot be read ({e}): another version may have moved its locks. Use that version's \
                 `atlock rollback`"
            );
            Error::new(Code::StoreMoved, text)
        })
    }

    /// Its stored form.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::new(Code::Internal, format!("a migration's mark: {e}")))
    }

    /// Whether nobody else may open the store.
    pub fn refuses(&self) -> bool {
        self.state != MarkState::Decides
    }

    /// What somebody is told who wants to open the store.
    pub fn refusal(&self, store: &str) -> Error {
        let Mark { migration, from, to, manifest, .. } = self;
        let program = program(from, to);
        let under_way = || {
            format!(
                "{store}: a migration from {from} to {to} is under way, or was interrupted, and until its end neither store is used. Go on \
                 with `{program} migrate --from {from} --to {to} --execute`, or undo it with `{program} rollback {manifest}` (migration {migration})"
            )
        };
        let text = match self.state {
            MarkState::Leaving | MarkState::Arriving | MarkState::Decides => under_way(),
            MarkState::Moved => format!(
                "{store}: its locks were moved to {to}, and what is left here is old. Let the settings name {to}, with {}; or move the locks \
                 back with `{program} rollback {manifest}` (migration {migration})",
                if from.starts_with("boltdb:") {
                    "locking.backend: sled, so that this file is not a store any more"
                } else {
                    "a new folder for locking.data_dir if this is it"
                }
            ),
            MarkState::Restoring => format!(
                "{store}: a backup is being restored into it, or that was interrupted: go on with `{program} restore {manifest} --to {to}`"
            ),
            MarkState::Shadow => format!(
                "{store} is the shadow of {from} (locking.shadow): what it has decides nothing, and may be old. Name another store; or, to use \
                 this one, stop that server's shadow and empty it first"
            ),
        };
        Error::new(Code::StoreMoved, text)
    }
}

/// The program that moves locks between these two stores: Atlantis's BoltDB file is read and written by the linked server's alone.
pub fn program(from: &str, to: &str) -> &'static str {
    if from.starts_with("boltdb:") || to.starts_with("boltdb:") { "atlantis locking" } else { "atlock" }
}

//! The embedded store in a migration.
//!
//! While it is open to be changed, its folder's lock keeps servers out, and other migrations.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Survey;
use super::files::room_on_disk;
use super::merge::Step;
use super::place::{Place, Role};
use crate::clock::{Clock, SystemClock};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::sealing::MasterKeys;
use crate::store::Store as _;
use crate::store::contract::local::{Change, EntryKey, Held, KeyState, LocalStore as _, RedisRecord, SyncState};
use crate::store::moved::Mark;
use crate::store::read_only::{ReadOnly, Reads as _};
use crate::store::sled::{SledReader, SledStore};

/// How long one write may take.
const WRITING: Duration = Duration::from_secs(120);
/// Most steps that are made durable together.
const GROUP: usize = 256;

/// The embedded store.
pub(super) struct SledPlace {
    folder: PathBuf,
    opened: Opened,
    /// Tokens up to this one were given by this store before the migration, for keys of which it remembers nothing.
    given_before: u64,
}

enum Opened {
    /// None was created there yet.
    Nothing,
    /// A copy, to look at it.
    Look(Box<ReadOnly<SledReader>>),
    /// The store.
    Store(Box<SledStore>),
}

impl SledPlace {
    /// Opens it to look at it: nothing there changes.
    pub fn look(folder: &Path, masters: Option<&MasterKeys>) -> Result<SledPlace> {
        let opened = if SledStore::is_in(folder)? {
            Opened::Look(Box::new(SledStore::read_to_migrate(folder, Arc::new(SystemClock), masters)?))
        } else {
            Opened::Nothing
        };
        Ok(SledPlace { folder: folder.to_owned(), opened, given_before: 0 })
    }

    /// Opens it to change it, and creates it if it is missing.
    pub fn open(folder: &Path, given_before: u64, masters: Option<&MasterKeys>) -> Result<SledPlace> {
        let store = SledStore::open_to_migrate(folder, Arc::new(SystemClock), masters)?;
        Ok(SledPlace { folder: folder.to_owned(), opened: Opened::Store(Box::new(store)), given_before })
    }

    fn everything(&self) -> Result<(Vec<(EntryKey, KeyState)>, u64)> {
        match &self.opened {
            Opened::Nothing => Ok((Vec::new(), 0)),
            Opened::Look(look) => Ok((look.0.everything()?, look.0.last_token()?.get())),
            Opened::Store(store) => Ok((store.everything()?, store.last_token()?.get())),
        }
    }

    fn record(&self) -> Result<Option<RedisRecord>> {
        match &self.opened {
            Opened::Nothing => Ok(None),
            Opened::Look(look) => look.0.redis_record(),
            Opened::Store(store) => store.redis_record(),
        }
    }

    fn store(&self) -> Result<&SledStore> {
        match &self.opened {
            Opened::Store(store) => Ok(store),
            Opened::Nothing | Opened::Look(_) => Err(Error::new(Code::ReadOnly, "the store was opened only to look at it")),
        }
    }

    /// A token that this store may give to the lock's holder: no smaller one than it gave before to whoever had the key.
    fn token(&self, held: &Held, next: &mut u64) -> FencingToken {
        if held.token.is_none() || held.token.get() > self.given_before {
            return held.token;
        }
        *next += 1;
        FencingToken::new(*next)
    }

    /// Says in the store that it may lack locks, so that it does not decide before it has been brought up to date.
    pub fn disarm(&self, why: &str) -> Result<()> {
        let Some(record) = self.record()? else { return Ok(()) };
        let deadline = Instant::now() + WRITING;
        let record = RedisRecord { lacks: why.to_owned(), ..record };
        self.store()?.submit(Vec::new(), vec![Change::Redis(record)], deadline)?.wait(deadline)
    }

    /// Keys that the store has decided, or has asked of its Redis, and that Redis does not know of yet.
    pub fn unsynced(&self) -> Result<usize> {
        let is_unsynced = |known: &KeyState| match known.state {
            SyncState::Synced => false,
            SyncState::Decided => true,
            SyncState::Pending => known.value.is_some(),
        };
        Ok(self.everything()?.0.iter().filter(|(_, known)| is_unsynced(known)).count())
    }
}

impl Place for SledPlace {
    fn survey(&self) -> Result<Survey> {
        let (everything, last_token) = self.everything()?;
        let mut survey = Survey { last_token, ..Survey::default() };
        for (key, KeyState { value, state, .. }) in everything {
            let Some(held) = value else { continue };
            if state == SyncState::Pending {
                survey.in_doubt.push(key.clone());
            }
            survey.last_token = survey.last_token.max(held.token.get());
            survey.add(key, held);
        }
        Ok(survey)
    }

    fn make(&self, steps: &[Step]) -> Result<usize> {
        let store = self.store()?;
        let follows_redis = self.record()?.is_some();
        let mut next = store.last_token()?.get().max(self.given_before);
        for group in steps.chunks(GROUP) {
            let change = |step: &Step| {
                let new = step.new.as_ref().map(|held| Held { value: held.value.clone(), token: self.token(held, &mut next) });
                // What a store that follows a Redis changes alone, it tells that Redis later.
                if follows_redis { Change::SetHere(step.key.clone(), new) } else { Change::Set(step.key.clone(), new) }
            };
            let deadline = Instant::now() + WRITING;
            store.submit(Vec::new(), group.iter().map(change).collect(), deadline)?.wait(deadline)?;
        }
        Ok(steps.len())
    }

    fn mark(&self) -> Result<Option<Mark>> {
        SledStore::mark_in(&self.folder)
    }

    fn set_mark(&self, _seen: Option<&Mark>, new: Option<&Mark>) -> Result<()> {
        self.store()?.set_mark(new)
    }

    fn clock(&self) -> Result<u64> {
        let last = match &self.opened {
            Opened::Nothing => 0,
            Opened::Look(look) => look.0.last_token()?.get(),
            Opened::Store(store) => store.last_token()?.get(),
        };
        Ok(SystemClock.unix_micros().max(last.saturating_add(1)))
    }

    fn identities(&self) -> Result<Vec<String>> {
        match std::fs::metadata(&self.folder) {
            Ok(found) => Ok(vec![format!("folder {}:{}", found.dev(), found.ino())]),
            Err(_) => Ok(vec![format!("folder {}", self.folder.display())]),
        }
    }

    fn room(&self) -> Option<u64> {
        room_on_disk(&self.folder)
    }

    fn problems(&self, side: Role) -> Result<Vec<String>> {
        let (place, mut problems) = (self.folder.display(), Vec::new());
        if side == Role::Source && matches!(self.opened, Opened::Nothing) {
            problems.push(format!("there is no store in {place}: is that the right folder?"));
        }
        if let Some(why) = self.record()?.and_then(|record| record.lacks_at_start(None, false)) {
            problems.push(format!(
                "the store in {place} may lack locks: {why}. Start its server once more in the mode in which it was, with Redis in reach, \
                 and stop it in good order; or migrate from that Redis"
            ));
        }
        if !matches!(self.opened, Opened::Nothing) {
            return Ok(problems);
        }
        // The nearest folder that is there must take it.
        let above = self.folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        if rustix::fs::access(above, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_err() {
            problems.push(format!("this user may not write in {}", above.display()));
        }
        Ok(problems)
    }

    fn warnings(&self, side: Role) -> Vec<String> {
        let mut warnings = Vec::new();
        let free = self.room().unwrap_or(u64::MAX);
        if free < 64 << 20 {
            warnings.push(format!("the disk of {} has {} MiB left: keep 64 MiB free", self.folder.display(), free >> 20));
        }
        if side == Role::Source
            && let Ok(Some(record)) = self.record()
            && !record.redis.is_empty()
        {
            warnings.push(format!(
                "the store in {} followed the Redis at {}, which has the same locks and stays as it is: no server may use it any more",
                self.folder.display(),
                record.redis
            ));
        }
        warnings
    }

    fn disarm_companion(&self, _mark: Option<&Mark>) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        match &self.opened {
            Opened::Nothing => Ok(()),
            Opened::Look(look) => look.0.close(),
            Opened::Store(store) => store.close(),
        }
    }
}

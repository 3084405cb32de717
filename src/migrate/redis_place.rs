//! Redis, or a Redis Cluster, in a migration; with the local store of the server that uses it in hybrid mode, if that was named.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Survey;
use super::merge::Step;
use super::place::{Place, Role};
use super::sled_place::SledPlace;
use crate::call::{Call, Calls};
use crate::clock::SystemClock;
use crate::config;
use crate::error::{Code, Error, Result};
use crate::sealing::MasterKeys;
use crate::store::Store as _;
use crate::store::contract::shared::{Put, SharedStore as _};
use crate::store::moved::Mark;
use crate::store::redis::{Others, RedisStore};
use crate::store::sled::SledStore;

/// How long a look at all of Redis may take; each step of it has an operation's time.
const LOOKING: Duration = Duration::from_secs(600);
/// How long one change may take, retries included.
const CHANGING: Duration = Duration::from_secs(10);
/// How many changes are on their way at once.
const WRITERS: usize = 8;
/// How long a server's announcement counts.
const LEASE: Duration = Duration::from_secs(600);

/// Redis.
pub(super) struct RedisPlace {
    store: RedisStore,
    name: String,
    db: i64,
    calls: Calls,
    since: Instant,
    /// Whether the operator says that nobody who is connected is a server.
    others_are_stopped: bool,
    others: OnceCell<Others>,
    companion: Option<SledPlace>,
    /// Whether a data folder was named, be there a store in it or not.
    is_named: bool,
    changes: bool,
}

impl RedisPlace {
    /// Connects, and tries by a key of no lock whether this user may write. `changes`: whether it is to be changed.
    pub fn open(
        settings: &config::Redis,
        companion: Option<(&Path, Option<&MasterKeys>)>,
        role: Role,
        changes: bool,
        others_are_stopped: bool,
    ) -> Result<RedisPlace> {
        let since = Instant::now();
        let calls = Calls::new(Arc::new(SystemClock))?;
        let instance = calls.instance();
        let is_named = companion.is_some();
        let companion = match companion {
            Some((folder, masters)) if SledStore::is_in(folder)? => {
                Some(if changes { SledPlace::open(folder, 0, masters)? } else { SledPlace::look(folder, masters)? })
            }
            _ => None,
        };
        let store = RedisStore::open_to_migrate(settings, &instance, changes && role == Role::Target)?;
        let others = OnceCell::new();
        let (name, db) = (settings.name(), settings.db);
        Ok(RedisPlace { store, name, db, calls, since, others_are_stopped, others, companion, is_named, changes })
    }

    fn changing(&self) -> Call {
        self.calls.within(CHANGING)
    }

    fn looking(&self) -> Call {
        self.calls.within(LOOKING)
    }

    fn others(&self) -> Result<&Others> {
        if self.others.get().is_none() {
            let others = self.store.others(LEASE, self.since, self.db, &self.looking())?;
            // Nobody else is here to set it.
            let _ = self.others.set(others);
        }
        self.others.get().ok_or_else(|| Error::new(Code::Internal, "who else is there is not known"))
    }
}

impl Place for RedisPlace {
    fn survey(&self) -> Result<Survey> {
        let call = self.looking();
        let inventory = self.store.inventory(&call)?;
        let (_, now) = self.store.clocks(&call)?;
        let mut survey = Survey { last_token: now, ..Survey::default() };
        for (key, of, reason) in inventory.unreadable {
            survey.skip(&key, reason);
            survey.unreadable.extend(of.map(|key| (key, None)));
        }
        for (key, held) in inventory.entries {
            survey.last_token = survey.last_token.max(held.token.get());
            survey.add(key, held);
        }
        Ok(survey)
    }

    fn make(&self, steps: &[Step]) -> Result<usize> {
        let (store, calls) = (&self.store, &self.calls);
        let make = move |steps: &[Step]| {
            let mut made = 0;
            for step in steps {
                let seen = step.seen.as_ref().map(|held| held.value.as_slice());
                let put = store.put(&step.key, seen, step.new.as_ref(), &calls.within(CHANGING))?;
                made += usize::from(matches!(put, Put::Done { .. }));
            }
            Ok(made)
        };
        // Each key is in one part: their order does not matter, and a round trip is waited for by all.
        std::thread::scope(|scope| {
            let parts = steps.chunks(steps.len().div_ceil(WRITERS).max(1));
            let writers: Vec<_> = parts.map(|part| scope.spawn(move || make(part))).collect();
            let stopped = || Error::new(Code::Internal, "a thread that wrote to Redis has stopped");
            writers.into_iter().map(|writer| writer.join().unwrap_or_else(|_| Err(stopped()))).sum()
        })
    }

    fn mark(&self) -> Result<Option<Mark>> {
        self.store.mark(&self.changing())
    }

    fn set_mark(&self, seen: Option<&Mark>, new: Option<&Mark>) -> Result<()> {
        // An answer that was lost: the second try finds the new one there.
        if self.store.set_mark(seen, new, &self.changing())? || self.mark()?.as_ref() == new {
            return Ok(());
        }
        Err(self.store.mark_changed())
    }

    fn clock(&self) -> Result<u64> {
        Ok(self.store.clocks(&self.looking())?.0)
    }

    fn identities(&self) -> Result<Vec<String>> {
        self.store.identities(self.db, &self.looking())
    }

    fn room(&self) -> Option<u64> {
        self.store.room(&self.looking())
    }

    fn problems(&self, _side: Role) -> Result<Vec<String>> {
        let (name, mut problems) = (&self.name, Vec::new());
        let others = self.others()?;
        if !self.others_are_stopped {
            if !others.announced.is_empty() {
                problems.push(format!(
                    "servers use the Redis at {name}, or were there less than ten minutes ago: {}. Stop them in good order; if they have \
                     crashed and are stopped, say so by --others-are-stopped",
                    others.announced.join(", ")
                ));
            }
            if !others.connections.is_empty() {
                problems.push(format!(
                    "other programs are connected to the Redis at {name}: {}. Stop those that are Atlantis servers; if none is one, say so \
                     by --others-are-stopped",
                    others.connections.join(", ")
                ));
            }
            let is_hybrids = !others.known.is_empty() || !others.announced.is_empty();
            if is_hybrids && !self.is_named {
                problems.push(format!(
                    "servers have used the Redis at {name} in hybrid mode, and their data folders (locking.data_dir) may stand in for it: \
                     name it as config:FILE, by such a server's settings file, so that its folder hears of the migration; or, if none will \
                     be started again, say so by --others-are-stopped"
                ));
            }
        }
        if let Some(companion) = &self.companion {
            // What a migration under way has left there is its own.
            if let Some(mark) = companion.mark()?.filter(|_| !self.changes) {
                problems.push(mark.refusal("the data folder beside that Redis").message().to_owned());
            }
            let unsynced = companion.unsynced()?;
            if unsynced > 0 {
                problems.push(format!(
                    "the data folder beside the Redis at {name} has {unsynced} changes that this Redis does not know yet: start its server \
                     once more, with Redis in reach, and stop it in good order"
                ));
            }
        }
        Ok(problems)
    }

    fn warnings(&self, _side: Role) -> Vec<String> {
        let unknown = self.others().ok().and_then(|others| others.unknown.clone());
        let unknown = unknown.map(|why| {
            format!("who else is connected to the Redis at {} cannot be told ({why}): make sure that no server is", self.name)
        });
        self.store.warnings().into_iter().chain(unknown).collect()
    }

    fn disarm_companion(&self, mark: Option<&Mark>) -> Result<()> {
        let Some(companion) = &self.companion else { return Ok(()) };
        companion.disarm("a migration has changed its Redis since")?;
        companion.set_mark(None, mark)
    }

    fn close(&self) -> Result<()> {
        let closed = self.companion.as_ref().map_or(Ok(()), Place::close);
        self.store.close().and(closed)
    }
}

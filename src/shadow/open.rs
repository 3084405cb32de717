//! Opening the shadow's store.
//!
//! Invariant: a store that may be the one that decides, or has what others hold, is left as it is. A shadow begins empty: what it
//! had before a restart is removed, and that it was a shadow's is known by its mark (`crate::store::moved`), which keeps every
//! server from taking it for its own.
//!
//! Faults survived: a restart or a crash at any moment; settings that name a store that is in use; two servers with one shadow,
//! of which the later one has it, and the other ends its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::compare::Follower;
use crate::call::Calls;
use crate::clock::SystemClock;
use crate::config::{Encryption, Redis, Shadow, ShadowStore};
use crate::error::{Code, Error, Result};
use crate::sealing::{self, MasterKeys};
use crate::store::Store;
use crate::store::contract::local::{EntryKey, LocalStore as _};
use crate::store::moved::{Mark, MarkState};
use crate::store::redis::RedisStore;
use crate::store::sled::SledStore;

/// How long a server's announcement counts.
const LEASE: Duration = Duration::from_secs(600);
/// How long a look at all of a store may take.
const LOOKING: Duration = Duration::from_secs(60);

/// Where the locks are that are decided on.
#[derive(Clone, Debug, Default)]
pub struct Decides {
    /// What it is, for a person.
    pub name: String,
    /// The embedded store's folder.
    pub folder: Option<PathBuf>,
    /// The Redis.
    pub redis: Option<Redis>,
}

/// A shadow's store, empty.
pub(super) struct Opened {
    pub store: Arc<dyn Store>,
    /// How long an operation of it may take.
    pub timeout: Duration,
    /// Whether it still is this process's: an error of code `StoreMoved` if another has taken it over, `InvalidConfig` if it was
    /// emptied.
    pub is_ours: Box<dyn Fn() -> Result<()>>,
}

/// What is opened, for a person.
pub(super) fn name(settings: &Shadow) -> String {
    match settings.store {
        ShadowStore::Off => "off".to_owned(),
        ShadowStore::Sled => format!("sled in {}", settings.data_dir.as_deref().unwrap_or(Path::new("?")).display()),
        ShadowStore::Redis => format!("Redis at {}", settings.redis.name()),
    }
}

/// Opens it. `timeout`: of an embedded store.
pub(super) fn open(
    (settings, encryption): (&Shadow, &Encryption),
    decides: &Decides,
    timeout: Duration,
    calls: &Arc<Calls>,
) -> Result<Opened> {
    let mark = Mark {
        migration: calls.instance(),
        state: MarkState::Shadow,
        from: decides.name.clone(),
        to: name(settings),
        manifest: String::new(),
    };
    match (settings.store, &settings.data_dir) {
        (ShadowStore::Sled, Some(folder)) => {
            let masters = sealing::read(encryption)?;
            open_sled((folder, masters.as_ref()), decides, timeout, &mark, calls)
        }
        (ShadowStore::Redis, _) => open_redis(&settings.redis, decides, mark, calls),
        _ => Err(Error::new(Code::InvalidConfig, "locking.shadow names no store")),
    }
}

fn open_sled(
    (folder, masters): (&Path, Option<&MasterKeys>),
    decides: &Decides,
    timeout: Duration,
    mark: &Mark,
    calls: &Arc<Calls>,
) -> Result<Opened> {
    let real = |folder: &Path| std::fs::canonicalize(folder).ok();
    if decides
        .folder
        .as_deref()
        .is_some_and(|other| other == folder || real(other).is_some_and(|other| real(folder) == Some(other)))
    {
        return Err(Error::new(Code::InvalidConfig, "locking.shadow.data_dir is the folder of the store that decides"));
    }
    let store = SledStore::open_to_migrate(folder, Arc::new(SystemClock), masters)?;
    let prepare = || {
        let everything = store.everything()?;
        let had = everything.into_iter().filter(|(_, state)| state.value.is_some()).map(|(key, _)| key).collect::<Vec<_>>();
        let what = format!("the store in {} (locking.shadow.data_dir)", folder.display());
        let is_shadows = refuse_others(store.mark()?.as_ref(), had.len(), &what)?;
        store.set_mark(Some(mark))?;
        if is_shadows { empty(&store, calls, timeout, &had) } else { Ok(()) }
    };
    match prepare() {
        Ok(()) => Ok(Opened { store: Arc::new(store), timeout, is_ours: Box::new(|| Ok(())) }),
        Err(error) => store.close().and(Err(error)),
    }
}

fn open_redis(settings: &Redis, decides: &Decides, mark: Mark, calls: &Arc<Calls>) -> Result<Opened> {
    let (since, timeout) = (std::time::Instant::now(), settings.timeouts.operation);
    let store = RedisStore::open_to_migrate(settings, &calls.instance(), false)?;
    let prepare = || {
        let looking = || calls.within(LOOKING);
        refuse_that_decides(&store, settings, decides, calls)?;
        let inventory = store.inventory(&looking())?;
        let had: Vec<EntryKey> = inventory.entries.into_iter().map(|(key, _)| key).collect();
        let what = format!("the Redis at {} (locking.shadow.redis)", settings.name());
        let seen = store.mark(&looking())?;
        let is_shadows = refuse_others(seen.as_ref(), had.len() + inventory.unreadable.len(), &what)?;
        let others = store.others(LEASE, since, settings.db, &looking())?;
        if let Some(server) = others.announced.iter().chain(&others.known).next() {
            return Err(refused(&format!("{what} is used by a server in hybrid mode ({server})")));
        }
        if !store.set_mark(seen.as_ref(), Some(&mark), &looking())? {
            return Err(store.mark_changed());
        }
        if is_shadows { empty(&store, calls, timeout, &had) } else { Ok(()) }
    };
    if let Err(error) = prepare() {
        return store.close().and(Err(error));
    }
    let store = Arc::new(store);
    let (ours, calls, name) = (Arc::clone(&store), Arc::clone(calls), settings.name());
    let is_ours = Box::new(move || match ours.mark(&calls.within(timeout))? {
        Some(now) if now == mark => Ok(()),
        Some(_) => {
            let text = format!(
                "another server has taken the Redis at {name} (locking.shadow.redis) for its shadow: each needs one of its own"
            );
            Err(Error::new(Code::StoreMoved, text))
        }
        None => Err(Error::new(Code::InvalidConfig, format!("the Redis at {name} (locking.shadow.redis) was emptied"))),
    });
    Ok(Opened { store, timeout, is_ours })
}

/// The Redis that decides, by another name: its process tells. If it cannot be asked, the shadow waits.
fn refuse_that_decides(store: &RedisStore, settings: &Redis, decides: &Decides, calls: &Arc<Calls>) -> Result<()> {
    let Some(redis) = &decides.redis else { return Ok(()) };
    let is_one = || {
        let other = RedisStore::open_to_migrate(redis, &calls.instance(), false)?;
        let others = other.identities(redis.db, &calls.within(LOOKING));
        other.close()?;
        let (others, ours) = (others?, store.identities(settings.db, &calls.within(LOOKING))?);
        Ok(ours.iter().any(|identity| others.contains(identity)))
    };
    match is_one() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::new(Code::InvalidConfig, "locking.shadow.redis is the Redis that decides, by another name")),
        Err(error) => {
            let error: Error = error;
            Err(error.context("whether locking.shadow.redis is the Redis that decides cannot be told yet"))
        }
    }
}

/// Whether it was a shadow before; an error if it is another's.
fn refuse_others(mark: Option<&Mark>, entries: usize, what: &str) -> Result<bool> {
    match mark {
        Some(mark) if mark.state == MarkState::Shadow => Ok(true),
        Some(mark) if mark.refuses() => Err(mark.refusal(what)),
        _ if entries > 0 => Err(refused(&format!("{what} has {entries} locks or other entries that are not a shadow's"))),
        _ => Ok(false),
    }
}

fn refused(why: &str) -> Error {
    let text = format!("{why}: a shadow writes into its store, so give it one of its own, or a database of its own");
    Error::new(Code::InvalidConfig, text)
}

fn empty(store: &dyn Store, calls: &Calls, timeout: Duration, had: &[EntryKey]) -> Result<()> {
    Follower::new(store, calls, timeout).give_all(&had.iter().map(|key| (key, None)).collect::<Vec<_>>())
}

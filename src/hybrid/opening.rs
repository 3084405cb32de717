//! Opening what a mode needs, also after another mode was in use: what is held goes along.

use std::sync::Arc;

use super::Process;
use super::core::{Connect, Core};
use super::follow::{self, Follower};
use super::operations::HybridStore;
use super::watch::LONG;
use crate::config::{Backend, Config, Durability, Enhanced, Mode};
use crate::error::{Code, Error, Result};
use crate::store::Store;
use crate::store::host::HostStore;
use crate::store::mirror::{Change, Link, Mirror};
use crate::store::redis::RedisStore;
use crate::store::shared::Shared;
use crate::store::sled::SledStore;

/// Opens the local store, with the host store behind it if there is one, and Redis if it can be used.
pub(super) fn both(config: &Config, host: Option<Arc<HostStore>>, process: &Process<'_>) -> Result<Arc<Core>> {
    let Some(folder) = &config.locking.data_dir else {
        return Err(Error::new(Code::InvalidConfig, "locking.data_dir is missing"));
    };
    let follower = match (config.locking.backend, host) {
        (Backend::Boltdb, Some(host)) => Some(Follower::new(host, config.mode() != Mode::Hybrid)),
        (Backend::Boltdb, None) => return Err(no_host()),
        (Backend::Sled, _) => None,
    };
    let local: Arc<dyn Mirror> = Arc::new(SledStore::open(folder, Arc::clone(&process.clock))?);
    let settings = config.locking.enhanced.redis.clone();
    let connect = move |name: &str| RedisStore::open(&settings, name).map(|redis| Arc::new(redis) as Arc<dyn Shared>);
    start(config.locking.enhanced.clone(), local, follower, Box::new(connect), process)
}

/// Brings the stores together, or begins without Redis.
pub(super) fn start(
    settings: Enhanced,
    local: Arc<dyn Mirror>,
    follower: Option<Follower>,
    connect: Connect,
    process: &Process<'_>,
) -> Result<Arc<Core>> {
    let fallback = settings.legacy_fallback;
    let known = local.link()?;
    let is_first = known.is_none();
    let mut link = match known {
        Some(link) => link,
        // A new folder, or one of strict mode, lacks nothing.
        None => Link { instance: process.instance.to_owned(), armed: true, ..Link::default() },
    };
    let missing = if link.handed_over {
        Some("native mode was in use since, and Redis alone knows its locks")
    } else if link.trailing {
        Some("the server was not closed, and with durability async the local store may lack its last locks")
    } else {
        None
    };
    if let (Some(missing), true) = (missing, link.armed) {
        link.arm(format!("{missing}; it is brought up to date when Redis can be asked"));
    }
    link.trailing = settings.durability == Durability::Async;
    let was_closed = !std::mem::replace(&mut link.open, true);
    let conflicts = local.conflicts()?;
    let core = Arc::new(Core::new(settings, process, local, follower, connect, link.clone(), conflicts));
    // The first time, everything that is there is written down.
    let deadline = core.clock.now() + LONG;
    core.write(vec![Change::Link(link)], deadline)?;
    if let Some(follower) = &core.follower {
        follower.start(&core, is_first).inspect_err(|_| stop(&core))?;
    }
    let everything = core.local.everything()?;
    match core.begin(everything, was_closed) {
        Ok(()) => Ok(core),
        Err(error) if fallback => {
            core.open(error);
            Ok(core)
        }
        Err(error) => {
            stop(&core);
            Err(error)
        }
    }
}

/// Opening has failed: nothing stays open.
fn stop(core: &Core) {
    // Why it has failed is what counts.
    let _ = core.follower.as_ref().map_or(Ok(()), Follower::finish);
    let _ = core.local.close();
}

/// Native mode begins: what the local store has goes to Redis, which alone knows the locks from then on.
fn hand_over(config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<()> {
    let mut config = config.clone();
    config.locking.enhanced.legacy_fallback = false;
    if host.is_none() {
        config.locking.backend = Backend::Sled;
    }
    let core = both(&config, host.map(Arc::new), process)?;
    let written = core.write_link(|link| link.handed_over = true, core.clock.now() + LONG);
    written.and(HybridStore::new(core).close())
}

/// Strict mode begins where hybrid or native mode was in use before: the legacy store is given what it lacks.
///
/// After hybrid mode that needs no Redis. After native mode Redis alone knows the locks: without it, this is an error.
fn take_back(config: &Config, host: Option<Arc<HostStore>>, process: &Process<'_>) -> Result<()> {
    let mut config = config.clone();
    config.locking.enhanced.legacy_fallback = false;
    let core = both(&config, host, process).map_err(|e| {
        e.context(
            "native mode was in use last, so that Redis has the locks, and strict mode needs it once to fetch them \
             (locking.enhanced.redis); if its locks may be lost, move locking.data_dir away",
        )
    })?;
    HybridStore::new(core).close()
}

/// Opens native mode's store, and brings it what another mode left in the legacy store.
pub(super) fn native(config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<RedisStore> {
    if config.locking.data_dir.as_deref().is_some_and(|folder| host.is_some() || SledStore::is_in(folder)) {
        hand_over(config, host, process)?;
    }
    RedisStore::open(&config.locking.enhanced.redis, process.instance)
}

/// Opens strict mode's store, after hybrid or native mode with everything in it that was held there.
pub(super) fn legacy(config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<Box<dyn Store>> {
    let folder = config.locking.data_dir.as_deref();
    match (config.locking.backend, host, folder) {
        (Backend::Boltdb, Some(host), Some(folder)) if SledStore::is_in(folder) => {
            let local = SledStore::open(folder, Arc::clone(&process.clock))?;
            let host = Arc::new(host);
            if local.link()?.is_some_and(|link| link.handed_over) {
                local.close()?;
                take_back(config, Some(Arc::clone(&host)), process)?;
            } else {
                follow::catch_up(&host, &local, &*process.clock)?;
                local.close()?;
            }
            let host = Arc::into_inner(host).ok_or_else(|| Error::new(Code::Internal, "the host store is still in use"))?;
            Ok(Box::new(host))
        }
        (Backend::Boltdb, Some(host), _) => Ok(Box::new(host)),
        (Backend::Boltdb, None, _) => Err(no_host()),
        (Backend::Sled, _, Some(folder)) => {
            let local = SledStore::open(folder, Arc::clone(&process.clock))?;
            if !local.link()?.is_some_and(|link| link.handed_over) {
                return Ok(Box::new(local));
            }
            local.close()?;
            take_back(config, None, process)?;
            Ok(Box::new(SledStore::open(folder, Arc::clone(&process.clock))?))
        }
        (Backend::Sled, _, None) => Err(Error::new(Code::InvalidConfig, "locking.data_dir is missing")),
    }
}

fn no_host() -> Error {
    Error::new(
        Code::InvalidConfig,
        "locking.backend: boltdb is Atlantis's own code, and none was passed in: pass a host store to atlock_open \
         (in Go: WithLegacy or WithBoltDB), or set locking.backend: sled and locking.data_dir for the embedded store",
    )
}

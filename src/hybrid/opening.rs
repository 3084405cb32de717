//! Opening what a mode needs, also after another mode was in use: what is held goes along.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Process;
use super::core::{Before, Connect, Core};
use super::follow::{self, Follower};
use super::operations::HybridStore;
use super::watch::LONG;
use crate::config::{Backend, Config, Durability, Enhanced, Mode};
use crate::error::{Code, Error, Result};
use crate::store::Store;
use crate::store::contract::local::{Change, LocalStore, RedisRecord};
use crate::store::contract::shared::SharedStore;
use crate::store::host::HostStore;
use crate::store::redis::RedisStore;
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
    let local: Arc<dyn LocalStore> = Arc::new(SledStore::open(folder, Arc::clone(&process.clock))?);
    let settings = config.locking.enhanced.redis.clone();
    let connect = move |name: &str| RedisStore::open(&settings, name).map(|redis| Arc::new(redis) as Arc<dyn SharedStore>);
    start(config.locking.enhanced.clone(), config.locking.timeout, local, follower, Box::new(connect), process)
}

/// Brings the stores together, or begins without Redis. `reserve` is the local store's part of each call's time.
///
/// Invariant: unknown is not empty. A local store that may lack locks of this Redis is not armed until it was brought up to date:
/// one that has never seen this Redis, or was not closed, or fell behind, or after native mode.
pub(super) fn start(
    settings: Enhanced,
    reserve: Duration,
    local: Arc<dyn LocalStore>,
    follower: Option<Follower>,
    connect: Connect,
    process: &Process<'_>,
) -> Result<Arc<Core>> {
    let fallback = settings.legacy_fallback;
    let known = local.link()?;
    let is_first = known.is_none();
    let new = || RedisRecord { instance: process.instance.to_owned(), ..RedisRecord::default() };
    let mut link = known.unwrap_or_else(new);
    link.lacks = link.may_lack().unwrap_or_default();
    link.trailing = settings.durability == Durability::Async;
    let was_closed = !std::mem::replace(&mut link.open, true);
    let before = Before { link: link.clone(), conflicts: local.conflicts()? };
    let core = Arc::new(Core::new(settings, reserve, process, local, follower, connect, before));
    // The first time, everything that is there is written down.
    let deadline = core.clock.now() + LONG;
    core.write(vec![Change::Redis(link)], deadline)?;
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

/// Why strict mode may lack locks, after hybrid or native mode.
fn lacking(link: &RedisRecord, settings: &Enhanced) -> Option<String> {
    let never_seen = link.redis.is_empty() && !settings.allow_unseen_redis;
    let never = || never_seen.then(|| "hybrid mode was in use and never reached its Redis, which may hold locks".to_owned());
    let others = || link.not_alone.then(|| "another server used the same Redis, and its last locks may be lacking".to_owned());
    link.may_lack().or_else(never).or_else(others)
}

/// Strict mode begins: if hybrid or native mode left a local store that may lack locks, these are fetched from Redis. Without it, this
/// is an error; or, where that is allowed, the answer is a warning.
///
/// Invariant: strict mode begins with every lock that was acknowledged in another mode, or says which it may lack.
fn take_back(
    config: &Config,
    host: Option<Arc<HostStore>>,
    link: Option<RedisRecord>,
    process: &Process<'_>,
) -> Result<Option<String>> {
    let Some(missing) = link.as_ref().and_then(|link| lacking(link, &config.locking.enhanced)) else { return Ok(None) };
    let mut hybrid = config.clone();
    hybrid.locking.enhanced.legacy_fallback = false;
    match both(&hybrid, host, process).and_then(|core| HybridStore::new(core).close()) {
        Ok(()) => Ok(None),
        Err(error) if config.locking.enhanced.allow_incomplete_rollback => Ok(Some(format!(
            "strict mode began without locks that may be held: {missing}, and Redis could not be asked for them ({error}); \
             locking.enhanced.allow_incomplete_rollback is true"
        ))),
        Err(error) => Err(error.context(format!(
            "strict mode would not know all locks: {missing}; it needs Redis once to fetch them (locking.enhanced.redis). To \
             begin without them all the same, set locking.enhanced.allow_incomplete_rollback: true; a lock among them can then \
             be granted again"
        ))),
    }
}

/// Opens native mode's store, and brings it what another mode left in the legacy store.
pub(super) fn native(config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<RedisStore> {
    if config.locking.data_dir.as_deref().is_some_and(|folder| host.is_some() || SledStore::is_in(folder)) {
        hand_over(config, host, process)?;
    }
    RedisStore::open(&config.locking.enhanced.redis, process.instance)
}

/// Opens strict mode's store, after hybrid or native mode with everything in it that was held there; and what it may lack, if that
/// is allowed.
pub(super) fn legacy(
    config: &Config,
    host: Option<HostStore>,
    process: &Process<'_>,
) -> Result<(Box<dyn Store>, Option<String>)> {
    let open = |folder: &Path| SledStore::open(folder, Arc::clone(&process.clock));
    match (config.locking.backend, host, config.locking.data_dir.as_deref()) {
        (Backend::Boltdb, Some(host), Some(folder)) if SledStore::is_in(folder) => {
            let host = Arc::new(host);
            let local = open(folder)?;
            let link = local.link()?;
            local.close()?;
            let warning = take_back(config, Some(Arc::clone(&host)), link, process)?;
            let local = open(folder)?;
            note_blindness(&local, warning.is_some(), process)?;
            follow::catch_up(&host, &local, &*process.clock)?;
            local.close()?;
            let host = Arc::into_inner(host).ok_or_else(|| Error::new(Code::Internal, "the host store is still in use"))?;
            Ok((Box::new(host), warning))
        }
        (Backend::Boltdb, Some(host), _) => Ok((Box::new(host), None)),
        (Backend::Boltdb, None, _) => Err(no_host()),
        (Backend::Sled, _, Some(folder)) => {
            let local = open(folder)?;
            let link = local.link()?;
            if link.as_ref().and_then(|link| lacking(link, &config.locking.enhanced)).is_none() {
                return Ok((Box::new(local), None));
            }
            local.close()?;
            let warning = take_back(config, None, link, process)?;
            let local = open(folder)?;
            note_blindness(&local, warning.is_some(), process)?;
            Ok((Box::new(local), warning))
        }
        (Backend::Sled, _, None) => Err(Error::new(Code::InvalidConfig, "locking.data_dir is missing")),
    }
}

/// Strict mode begins though locks may be lacking: what it grants may be held, and the next start of hybrid mode is to know that.
fn note_blindness(local: &SledStore, is_blind: bool, process: &Process<'_>) -> Result<()> {
    let Some(link) = local.link()?.filter(|link| is_blind && !link.granted_blindly) else { return Ok(()) };
    let deadline = process.clock.now() + LONG;
    let link = RedisRecord { granted_blindly: true, ..link };
    local.submit(Vec::new(), vec![Change::Redis(link)], deadline)?.wait(deadline)
}

fn no_host() -> Error {
    Error::new(
        Code::InvalidConfig,
        "locking.backend: boltdb is Atlantis's own code, and none was passed in: pass a host store to atlock_open \
         (in Go: WithLegacy or WithBoltDB), or set locking.backend: sled and locking.data_dir for the embedded store",
    )
}

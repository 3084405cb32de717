//! Other modes than hybrid in between, by the modes' own code (`crate::mode`): while a server is down, somebody changes its configuration.
//!
//! Models: strict mode on the embedded store; strict mode on Atlantis's own store, after it was given what it lacked; a stock Atlantis on
//! that store, where the last close said that the file has all; native mode; and back, in any order, each start in the middle of whatever
//! went on. A start that is refused is tried again, in any mode. No lock that was acknowledged in one mode is granted again or lost in
//! another (docs/04-migration.md); `allow_incomplete_rollback` is off.
//!
//! Cannot express: a change of `backend` or `data_dir`; strict mode on Atlantis's own Redis code (that is `stock`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::{Disks, FOLDER};
use super::link::ServersLink;
use super::world::{Instance, World};
use super::{PATIENCE, show::text};
use crate::clock::Clock;
use crate::config::{Backend, Config, Mode, Redis};
use crate::error::Result;
use crate::mode::{OpenRedis, Router, Stores};
use crate::process::Process;
use crate::sealing::CredentialKeys;
use crate::store::Store;
use crate::store::redis::{Link, RedisStore};
use crate::store::sled::SledStore;
use crate::sync::tasks::{self, Group};

/// What serves the callers of a server.
#[derive(Clone)]
pub(crate) enum Running {
    Hybrid(Arc<Instance>),
    Other(Arc<dyn Serves>),
}

/// Anything but hybrid mode's own parts.
pub(crate) trait Serves: Send + Sync {
    fn store(&self) -> &dyn Store;
    fn close(&self) -> Result<()>;
    /// The process is dead; what is left of it closes nothing.
    fn is_killed(&self) {}
}

impl Serves for Router {
    fn store(&self) -> &dyn Store {
        Router::store(self)
    }

    fn close(&self) -> Result<()> {
        Router::close(self)
    }
}

impl Running {
    pub(crate) fn store(&self) -> &dyn Store {
        match self {
            Running::Hybrid(instance) => &instance.store,
            Running::Other(server) => server.store(),
        }
    }
}

/// What modes may come.
#[derive(Default)]
pub(crate) struct Modes {
    /// Only hybrid mode begins from now on.
    pub(crate) is_over: AtomicBool,
    /// Strict mode or stock used Atlantis's own store last. Hybrid mode that cannot read the file then grants what was taken there
    /// (docs/reliability.md, "A copy that refuses, fails, or hangs"), so the file can be read.
    pub(crate) file_decides: AtomicBool,
    /// Atlantis's own store has all locks, as far as anybody was told.
    pub(crate) file_has_all: AtomicBool,
}

/// The stores of a server's process.
pub(crate) struct ServersStores {
    pub(crate) world: Arc<World>,
    pub(crate) me: usize,
}

impl Stores for ServersStores {
    fn has_local(&self, _folder: &Path) -> Result<bool> {
        Ok(self.world.disks.has_store(self.me))
    }

    fn local(&self, _folder: &Path, _clock: &Arc<dyn Clock>) -> Result<SledStore> {
        Disks::open(&self.world, self.me)
    }

    fn redis(&self, settings: &Redis) -> OpenRedis {
        let link: Arc<dyn Link> = Arc::new(ServersLink { world: Arc::downgrade(&self.world), me: self.me });
        let (clock, settings) = (self.world.machine(self.me), settings.clone());
        Box::new(move |name| RedisStore::over(Arc::clone(&link), Arc::clone(&clock) as Arc<dyn Clock>, &settings, name))
    }

    fn credential_keys(&self) -> Option<CredentialKeys> {
        // The values have no credentials.
        None
    }
}

impl World {
    /// The configuration of another mode than hybrid, if such a one begins next. Without a folder it is a stock Atlantis.
    pub(crate) fn another_mode(&self) -> Option<Config> {
        if !self.plan.modes || self.modes.is_over.load(Ordering::SeqCst) {
            return None;
        }
        let (mode, is_stock) = match self.random.below(10) {
            0..=5 => return None,
            6..=7 => (Mode::Strict, self.plan.host && self.modes.file_has_all.load(Ordering::SeqCst) && self.random.percent(50)),
            _ => (Mode::Native, false),
        };
        let mut config = Config::default();
        config.locking.backend = if self.plan.host { Backend::Boltdb } else { Backend::Sled };
        config.locking.data_dir = (!is_stock).then(|| FOLDER.into());
        config.locking.timeout = PATIENCE;
        config.locking.enhanced = self.settings();
        config.locking.enhanced.enabled = mode == Mode::Native;
        config.locking.enhanced.compatibility_mode = mode;
        Some(config)
    }

    /// A process begins in this mode; there is none if it does not start.
    pub(crate) fn start_other(self: &Arc<Self>, me: usize, process: Group, config: &Config) {
        let (mode, is_stock) = (config.mode(), config.locking.data_dir.is_none());
        self.say(|| format!("{me} is to begin in mode {mode:?}{}", if is_stock { ", stock" } else { "" }));
        self.modes.file_has_all.store(false, Ordering::SeqCst);
        let host = self.open_host(me);
        let name = format!("i{me}p{process}");
        let context = Process { instance: &name, clock: self.machine(me), audit: None };
        let stores = ServersStores { world: Arc::clone(self), me };
        let opened = Router::open_on(&stores, config, host, &context);
        if tasks::is_dying() {
            return;
        }
        self.modes
            .file_has_all
            .store(mode == Mode::Strict && opened.as_ref().is_ok_and(|router| router.warnings().is_empty()), Ordering::SeqCst);
        match opened {
            Ok(router) => self.begins_with(me, Arc::new(router)),
            Err(error) => self.does_not_begin(me, &error),
        }
        self.say(|| {
            format!("{me}: Redis has {}", self.entries().values().map(|value| text(value)).collect::<Vec<_>>().join(" "))
        });
    }

    /// Whether what the server shows is all that there is: after native mode a local store that could not ask Redis yet lacks locks, and
    /// grants nothing.
    pub(crate) fn knows_all(&self, who: usize) -> bool {
        !self.plan.modes || self.instance(who).is_none_or(|instance| instance.knows_all())
    }

    /// The server's process ends in good order, in whatever mode.
    pub(crate) fn close(&self, who: usize) {
        match self.running(who) {
            Some(Running::Hybrid(instance)) => self.close_hybrid(who, &instance),
            Some(Running::Other(server)) => {
                let answer = server.close();
                self.say(|| format!("{who} is closed: {answer:?}"));
                self.die(who);
            }
            None => {}
        }
    }

    /// Whoever is in another mode ends, and begins in hybrid mode.
    pub(crate) fn modes_are_over(self: &Arc<Self>) {
        self.modes.is_over.store(true, Ordering::SeqCst);
        for who in 0..self.servers() {
            if matches!(self.running(who), Some(Running::Other(_))) {
                self.crash(who);
            }
        }
    }
}

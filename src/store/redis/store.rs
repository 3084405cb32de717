//! The shared store itself: its connection, and what it remembers. What it does is in the files beside this one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::sync::Mutex;

use super::open::{Opened, open};
use super::retry::Retrying;
use super::warnings::Warnings;
use crate::config;
use crate::error::Result;
use crate::store::contract::local::EntryKey;

/// Most bytes of keys and values that one list has: some hundred thousand locks, and less than a host process has for them twice.
const MOST_LISTED: usize = 256 << 20;

/// The shared store. Safe from any thread.
pub struct RedisStore {
    pub(super) redis: Arc<Retrying>,
    pub(super) instance: String,
    pub(super) shared_with_stock: bool,
    pub(super) wait_replicas: u32,
    /// Longest time that one question takes, also of many that belong together.
    pub(super) patience: Duration,
    pub(super) warnings: Warnings,
    /// Another program may have stored values that nobody reads: sizes are asked for first. It costs Redis a second to put a reply of some
    /// hundred megabytes together, in which it answers nobody.
    pub(super) has_long_values: AtomicBool,
    /// Most bytes that a list has.
    pub(super) most_listed: usize,
    /// What the last snapshot left out.
    pub(super) set_aside: Mutex<Vec<SetAside>>,
}

impl RedisStore {
    /// Connects, checks that the server can be used, and takes over locks under the keys of Atlantis before v0.40.
    ///
    /// `instance` is what stands beside the locks that are taken: the process in native mode, the server's name in hybrid mode. A single
    /// server keeps no thread, a cluster two; a new connection has one look its name up and one read its files, and each of these ends
    /// when the system lets it.
    ///
    /// Taking over looks at the names of all keys (`legacy_keys.rs`), at every opening. It may take up to two minutes more.
    ///
    /// Errors, each within the connect timeout: `Unreachable`, `Authentication`, `Permission`, `Tls`, `ReadOnly`, `RedisTooOld`, `NoSuchCommand`,
    /// and what else Redis says of itself; `InvalidConfig`; `StoreMoved` if a migration has moved its locks away, or is about to. Nothing stays open then.
    pub fn open(settings: &config::Redis, instance: &str) -> Result<RedisStore> {
        let store = RedisStore::of(open(settings)?, settings, instance);
        match store.refuse_marked(settings).and_then(|()| store.take_over()) {
            Ok(()) => Ok(store),
            Err(refused) => {
                store.redis.transport.close();
                Err(refused)
            }
        }
    }

    /// The same over a link that is there, with time from this clock.
    #[cfg(test)]
    pub(crate) fn over(
        link: Arc<dyn super::transport::Link>,
        clock: Arc<dyn crate::clock::Clock>,
        settings: &config::Redis,
        instance: &str,
    ) -> Result<RedisStore> {
        let store = RedisStore::of(super::open::open_over(link, clock, settings)?, settings, instance);
        store.take_over()?;
        Ok(store)
    }

    /// On a server that was checked.
    pub(super) fn of(opened: Opened, settings: &config::Redis, instance: &str) -> RedisStore {
        RedisStore {
            warnings: Warnings::new(opened.warnings, &opened.redis, settings),
            redis: opened.redis,
            instance: instance.to_owned(),
            shared_with_stock: settings.shared_with_stock,
            wait_replicas: settings.wait_replicas,
            patience: settings.timeouts.operation,
            has_long_values: AtomicBool::new(false),
            most_listed: MOST_LISTED,
            set_aside: Mutex::default(),
        }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("server", &self.redis.server).finish_non_exhaustive()
    }
}

/// An entry that a snapshot left out: no local store can keep it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SetAside {
    pub key: EntryKey,
    pub bytes: usize,
}

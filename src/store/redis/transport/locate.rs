//! Where the server is, for a connection that is about to be made: its address, its socket, or whom the Sentinels call the master.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::attempt::Attempt;
use super::names::{Name, Names};
use super::sentinel::Sentinels;
use super::target::{Target, Way, host_and_port};
use crate::config::{self, Place};
use crate::error::Result;

/// Knows where the server is. Safe from any thread.
pub(super) enum Locator {
    Address(Arc<Name>),
    Socket(PathBuf),
    Sentinel(Sentinels),
}

impl Locator {
    /// Of these settings, which are no cluster's.
    pub(super) fn new(settings: &Arc<config::Redis>, names: &Arc<Names>) -> Result<Locator> {
        match settings.place() {
            Place::Socket(path) => Ok(Locator::Socket(path.to_owned())),
            Place::Sentinel(_) => Ok(Locator::Sentinel(Sentinels::new(settings, names)?)),
            Place::Server(_) | Place::Cluster(_) => {
                let (host, port) = host_and_port(&settings.address)?;
                Ok(Locator::Address(names.name(&host, port)))
            }
        }
    }

    /// Where the server is now.
    pub(super) fn find(&self, deadline: Instant) -> Attempt<Target> {
        match self {
            Locator::Address(name) => Target::of(name, deadline),
            Locator::Socket(path) => {
                let address = path.display().to_string();
                Ok(Target { way: Way::Socket(path.clone()), host: "localhost".to_owned(), address })
            }
            Locator::Sentinel(sentinels) => {
                let master = sentinels.master(deadline)?;
                Target::of(&master, deadline)
            }
        }
    }

    /// Whether a connection to this address leads to the server, as far as is known. It asks nobody, and waits for nobody.
    pub(super) fn is_at(&self, address: &str) -> bool {
        match self {
            Locator::Address(_) | Locator::Socket(_) => true,
            Locator::Sentinel(sentinels) => sentinels.is_master(address),
        }
    }

    /// The Sentinels, if it asks them.
    pub(super) fn sentinels(&self) -> Option<&Sentinels> {
        match self {
            Locator::Sentinel(sentinels) => Some(sentinels),
            Locator::Address(_) | Locator::Socket(_) => None,
        }
    }
}

//! The way to Redis: one attempt of one command, on a single server or a cluster.
//!
//! A single server is found in one of the ways that `locate.rs` knows: by its address, its socket, or Sentinels (`sentinel.rs`).

use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, Value};

pub(super) use self::attempt::{Attempt, wait_command};
use self::cluster::Cluster;
pub(super) use self::errand::Errand;
use self::names::Names;
pub(super) use self::sentinel::Opinion;
use self::server_clock::ServerClock;
#[cfg(any(test, fuzzing))]
pub(crate) use self::simulated::{Link, Undelivered};
pub(super) use self::single::CertificateEnds;
use self::single::Single;
use super::errors::Failure;
use crate::config;
use crate::error::Result;

mod attempt;
mod cluster;
mod combiner;
mod command;
mod credentials;
mod errand;
mod expiry;
mod locate;
mod names;
mod round_trip;
mod sentinel;
mod server_clock;
#[cfg(any(test, fuzzing))]
mod simulated;
#[cfg(test)]
mod simulated_failures;
mod single;
mod survey;
mod target;
mod trust;
mod wire;

/// A single server, or a cluster.
#[derive(Debug)]
pub(super) enum Transport {
    /// A pool of connections to one server.
    Single(Box<Single>),
    /// A client of a cluster.
    Cluster(Cluster),
    /// A single server of the simulation.
    #[cfg(any(test, fuzzing))]
    Simulated(simulated::Simulated),
}

impl Transport {
    /// Connects to what the settings name: one connection is open, or the cluster's nodes are known.
    pub(super) fn connect(settings: &config::Redis, deadline: Instant) -> Attempt<Transport> {
        let settings = Arc::new(settings.clone());
        if settings.cluster_mode {
            return Cluster::connect(settings, Names::of_the_system(), deadline).map(Transport::Cluster);
        }
        let single = Single::new(settings, &Names::of_the_system()).map_err(Failure::Settings)?;
        // The first connection, which stays in the pool.
        single.run(deadline, |connection| connection.query(&redis::cmd("PING")))?;
        Ok(Transport::Single(Box::new(single)))
    }

    /// Connects over a link; a connection ends its log-in within `patience`.
    #[cfg(any(test, fuzzing))]
    pub(super) fn over(
        link: Arc<dyn Link>,
        clock: Arc<dyn crate::clock::Clock>,
        patience: std::time::Duration,
        deadline: Instant,
    ) -> Attempt<Transport> {
        let simulated = simulated::Simulated::new(link, clock, patience);
        simulated.query(&redis::cmd("PING"), deadline)?;
        Ok(Transport::Simulated(simulated))
    }

    /// Sends one command whose reply is short and quick, and waits for it until the deadline.
    pub(super) fn query(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        match self {
            Transport::Single(single) => single.query(command, deadline),
            Transport::Cluster(cluster) => cluster.query(command, deadline),
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(simulated) => simulated.query(command, deadline),
        }
    }

    /// Sends one command whose reply is long, so that others should not wait for it.
    pub(super) fn query_long(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        match self {
            Transport::Single(single) => single.run(deadline, |connection| connection.query(command)),
            Transport::Cluster(cluster) => cluster.query_long(command, deadline),
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(simulated) => simulated.query(command, deadline),
        }
    }

    /// Sends several commands: to a single server in one round trip, to a cluster one after the other.
    pub(super) fn query_all(&self, commands: &[Cmd], deadline: Instant) -> Vec<Attempt<Value>> {
        match self {
            Transport::Single(single) => single.query_all(commands, deadline),
            Transport::Cluster(cluster) => commands.iter().map(|command| cluster.query(command, deadline)).collect(),
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(simulated) => simulated.query_all(commands, deadline),
        }
    }

    /// The servers that hold locks: `None` is the single one.
    pub(super) fn masters(&self, deadline: Instant) -> Attempt<Vec<Option<(String, u16)>>> {
        match self {
            Transport::Single(_) => Ok(vec![None]),
            Transport::Cluster(cluster) => Ok(cluster.masters(deadline)?.into_iter().map(Some).collect()),
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(_) => Ok(vec![None]),
        }
    }

    /// Sends one command to one of the [`Transport::masters`].
    pub(super) fn query_at(&self, master: Option<&(String, u16)>, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        match (self, master) {
            (Transport::Cluster(cluster), Some((host, port))) => cluster.query_at(host, *port, command, deadline),
            _ => self.query_long(command, deadline),
        }
    }

    /// Takes a lock and then, if it was free, waits for replicas to confirm it, on the connection that the grant was sent on.
    pub(super) fn query_then_wait(
        &self,
        command: &Cmd,
        key: &str,
        replicas: u32,
        deadline: Instant,
    ) -> Attempt<(Value, Attempt<u32>)> {
        match self {
            Transport::Single(single) => single.query_then_wait(command, replicas, deadline),
            Transport::Cluster(cluster) => cluster.query_then_wait(command, key, replicas, deadline),
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(simulated) => simulated.query_then_wait(command, replicas, deadline),
        }
    }

    /// The server's clock.
    pub(super) fn clock(&self) -> &ServerClock {
        match self {
            Transport::Single(single) => single.clock(),
            Transport::Cluster(cluster) => cluster.clock(),
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(simulated) => simulated.clock(),
        }
    }

    /// Whether it is a single server, on which a script may touch several keys.
    pub(super) fn is_single(&self) -> bool {
        !matches!(self, Transport::Cluster(_))
    }

    /// Whether a reply that is too long ends as [`Failure::TooLong`]. A cluster's client reads whatever comes.
    pub(super) fn bounds_replies(&self) -> bool {
        self.is_single()
    }

    /// Whether it is no simulated one, whose time and threads a test decides.
    pub(super) fn is_real(&self) -> bool {
        #[cfg(any(test, fuzzing))]
        if matches!(self, Transport::Simulated(_)) {
            return false;
        }
        true
    }

    /// Whether another server may take a master's place.
    pub(super) fn changes_masters(&self) -> bool {
        match self {
            Transport::Single(single) => single.sentinels().is_some(),
            Transport::Cluster(_) => true,
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(_) => false,
        }
    }

    /// What each Sentinel says of the master; `None` without Sentinels.
    pub(super) fn opinions(&self, deadline: Instant) -> Option<Vec<(String, Result<Opinion>)>> {
        match self {
            Transport::Single(single) => single.sentinels().map(|sentinels| sentinels.opinions(deadline)),
            _ => None,
        }
    }

    /// When the certificates end that were seen.
    pub(super) fn certificate_ends(&self) -> CertificateEnds {
        match self {
            Transport::Single(single) => single.certificate_ends(),
            Transport::Cluster(cluster) => cluster.certificate_ends(),
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(_) => CertificateEnds::default(),
        }
    }

    /// Sees them once more, by a new connection.
    pub(super) fn see_certificates(&self, deadline: Instant) -> Attempt<()> {
        match self {
            Transport::Single(single) => single.see_certificates(deadline),
            Transport::Cluster(cluster) => cluster.see_certificates(deadline),
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(_) => Ok(()),
        }
    }

    /// Ends connections and threads.
    pub(super) fn close(&self) {
        match self {
            Transport::Single(single) => single.close(),
            Transport::Cluster(cluster) => cluster.close(),
            #[cfg(any(test, fuzzing))]
            Transport::Simulated(simulated) => simulated.close(),
        }
    }
}

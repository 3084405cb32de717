//! The way to Redis: one attempt of one command, on a single server or a cluster.

use std::time::Instant;

use redis::{Cmd, Value};

use super::clock::ServerClock;
use super::cluster::Cluster;
use super::errors::Failure;
use super::single::Single;

/// One attempt's result.
pub(super) type Attempt<T> = Result<T, Failure>;

/// A single server, or a cluster.
#[derive(Debug)]
pub(super) enum Link {
    /// A pool of connections to one server.
    Single(Box<Single>),
    /// A client of a cluster.
    Cluster(Cluster),
}

impl Link {
    /// Sends one command whose reply is short and quick, and waits for it until the deadline.
    pub(super) fn query(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        match self {
            Link::Single(single) => single.query(command, deadline),
            Link::Cluster(cluster) => cluster.query(command, deadline),
        }
    }

    /// Sends one command whose reply is long, so that others should not wait for it.
    pub(super) fn query_long(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        match self {
            Link::Single(single) => single.run(deadline, |connection| connection.query(command)),
            Link::Cluster(cluster) => cluster.query_long(command, deadline),
        }
    }

    /// Sends several commands: to a single server in one round trip, to a cluster one after the other.
    pub(super) fn query_all(&self, commands: &[Cmd], deadline: Instant) -> Vec<Attempt<Value>> {
        match self {
            Link::Single(single) => single.query_all(commands, deadline),
            Link::Cluster(cluster) => commands.iter().map(|command| cluster.query(command, deadline)).collect(),
        }
    }

    /// The servers that hold locks: `None` is the single one.
    pub(super) fn masters(&self, deadline: Instant) -> Attempt<Vec<Option<(String, u16)>>> {
        match self {
            Link::Single(_) => Ok(vec![None]),
            Link::Cluster(cluster) => Ok(cluster.masters(deadline)?.into_iter().map(Some).collect()),
        }
    }

    /// Sends one command to one of the [`Link::masters`].
    pub(super) fn query_at(&self, master: Option<&(String, u16)>, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        match (self, master) {
            (Link::Cluster(cluster), Some((host, port))) => cluster.query_at(host, *port, command, deadline),
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
            Link::Single(single) => single.query_then_wait(command, replicas, deadline),
            Link::Cluster(cluster) => cluster.query_then_wait(command, key, replicas, deadline),
        }
    }

    /// The server's clock.
    pub(super) fn clock(&self) -> &ServerClock {
        match self {
            Link::Single(single) => single.clock(),
            Link::Cluster(cluster) => cluster.clock(),
        }
    }

    /// Whether it is a single server, on which a script may touch several keys.
    pub(super) fn is_single(&self) -> bool {
        matches!(self, Link::Single(_))
    }

    /// Ends connections and threads.
    pub(super) fn close(&self) {
        match self {
            Link::Single(single) => single.close(),
            Link::Cluster(cluster) => cluster.close(),
        }
    }
}

/// `WAIT`, for as long as there is time.
pub(super) fn wait_command(replicas: u32, deadline: Instant) -> Cmd {
    let millis = deadline.saturating_duration_since(Instant::now()).as_millis().saturating_sub(WAIT_MARGIN_MILLIS).max(1);
    let mut command = redis::cmd("WAIT");
    command.arg(replicas).arg(u64::try_from(millis).unwrap_or(u64::MAX));
    command
}

/// What is left of the deadline for taking an unconfirmed grant back.
const WAIT_MARGIN_MILLIS: u128 = 50;

//! A Redis Cluster: the asynchronous client on a small runtime. The blocking one does not recover from a fail-over.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use redis::aio::ConnectionLike as _;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, FromRedisValue as _, RedisError, RedisResult, Value};
use tokio::runtime::Runtime;

use super::clock::ServerClock;
use super::errors::Failure;
use super::keys::slot;
use super::link::{Attempt, wait_command};
use super::reply::is_done;

const THREADS: usize = 2;
/// How long a thread of the runtime may finish what it does when the store closes.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The client. Safe from any thread.
pub(super) struct Cluster {
    open: RwLock<Option<(Runtime, ClusterConnection)>>,
    clock: ServerClock,
}

impl Cluster {
    /// Connects to the cluster.
    pub(super) fn connect(client: &ClusterClient, deadline: Instant) -> Attempt<Cluster> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("atlock-redis")
            .enable_all()
            .build()
            .map_err(|e| Failure::NotSent(RedisError::from(e)))?;
        let connected = match within(&runtime, deadline, client.get_async_connection()) {
            Ok(connected) => connected,
            Err(e) => {
                // Dropped, it would wait for a name that is being looked up.
                runtime.shutdown_background();
                return Err(Failure::NotSent(e));
            }
        };
        let cluster = Cluster { open: RwLock::new(Some((runtime, connected))), clock: ServerClock::new() };
        cluster.learn_time(deadline)?;
        Ok(cluster)
    }

    pub(super) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    pub(super) fn query(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        self.run(deadline, |mut connection| async move { connection.req_packed_command(command).await })
    }

    /// The same for a command that may have keys of several slots.
    ///
    /// Of such a command the client leaves out what belongs to a master that it has lost, and fails for lack of results. Nor does it
    /// look for the new master: commands of one key, which make it look, reach that one as the old one's replica.
    pub(super) fn query_long(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        let reply = self.query(command, deadline);
        if !matches!(reply, Err(Failure::NotSent(_))) {
            return reply;
        }
        // A node that nobody knows: this makes it look. The failure is expected.
        let _ = self.query_at("unknown", 0, &redis::cmd("PING"), deadline);
        self.query(command, deadline)
    }

    pub(super) fn query_at(&self, host: &str, port: u16, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        let routing = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port };
        self.route(command, routing, deadline)
    }

    pub(super) fn query_then_wait(
        &self,
        command: &Cmd,
        key: &str,
        replicas: u32,
        deadline: Instant,
    ) -> Attempt<(Value, Attempt<u32>)> {
        let reply = self.query(command, deadline)?;
        if !is_done(&reply) {
            return Ok((reply, Ok(0)));
        }
        let route = SingleNodeRoutingInfo::SpecificNode(Route::new(slot(key), SlotAddr::Master));
        let confirmed = self
            .route(&wait_command(replicas, deadline), route, deadline)
            .and_then(|value| u32::from_redis_value(value).map_err(|e| Failure::Refused(e.into())));
        Ok((reply, confirmed))
    }

    /// The addresses of the masters, as the cluster tells them.
    pub(super) fn masters(&self, deadline: Instant) -> Attempt<Vec<(String, u16)>> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let reply = self.route(&command, SingleNodeRoutingInfo::Random, deadline)?;
        let ranges = Vec::<Vec<Value>>::from_redis_value(reply).map_err(|e| Failure::Refused(e.into()))?;
        let mut masters = Vec::new();
        for range in ranges {
            let Some(Value::Array(node)) = range.into_iter().nth(2) else { continue };
            let mut node = node.into_iter();
            if let (Some(host), Some(port)) = (node.next(), node.next()) {
                let host = String::from_redis_value(host).map_err(|e| Failure::Refused(e.into()))?;
                let port = u16::from_redis_value(port).map_err(|e| Failure::Refused(e.into()))?;
                if !masters.contains(&(host.clone(), port)) {
                    masters.push((host, port));
                }
            }
        }
        Ok(masters)
    }

    pub(super) fn close(&self) {
        if let Some((runtime, connection)) = self.open.write().take() {
            drop(connection);
            runtime.shutdown_timeout(CLOSE_WAIT);
        }
    }

    fn learn_time(&self, deadline: Instant) -> Attempt<()> {
        let reply = self.route(&redis::cmd("TIME"), SingleNodeRoutingInfo::RandomPrimary, deadline)?;
        let (seconds, micros) = <(i64, i64)>::from_redis_value(reply).map_err(|e| Failure::Refused(e.into()))?;
        self.clock.learn(seconds * 1_000_000 + micros, Instant::now());
        Ok(())
    }

    fn route(&self, command: &Cmd, routing: SingleNodeRoutingInfo, deadline: Instant) -> Attempt<Value> {
        let command = command.clone();
        self.run(
            deadline,
            |mut connection| async move { connection.route_command(command, RoutingInfo::SingleNode(routing)).await },
        )
    }

    fn run<F>(&self, deadline: Instant, f: impl FnOnce(ClusterConnection) -> F) -> Attempt<Value>
    where
        F: Future<Output = RedisResult<Value>>,
    {
        let open = self.open.read();
        let Some((runtime, connection)) = open.as_ref() else {
            return Err(Failure::closed());
        };
        // This client hands a server's refusal out as a value.
        let reply = within(runtime, deadline, f(connection.clone())).and_then(Value::extract_error);
        reply.map_err(Failure::after_sending)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

fn within<T>(runtime: &Runtime, deadline: Instant, future: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let left = deadline.saturating_duration_since(Instant::now());
    runtime
        .block_on(async { tokio::time::timeout(left, future).await })
        .unwrap_or_else(|_| Err(RedisError::from(std::io::Error::new(std::io::ErrorKind::TimedOut, "the deadline passed"))))
}

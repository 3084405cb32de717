//! A Redis Cluster: the asynchronous client on a small runtime. The blocking one does not recover from a fail-over.
//!
//! Invariants:
//! - Every call ends at its deadline, and closing waits for none: whatever the client does meanwhile, and whatever name it looks up.
//! - Before the client is made, one node is asked over a connection of ours (`survey.rs`): it tells what is wrong as a single server does.
//! - The client connects to nodes by itself, with the password and the certificates that it was made with. After a call that failed,
//!   the next one looks at the files again; if they changed, a new client takes the old one's place.
//!
//! Faults survived: a fail-over, a node that hangs or drips, a name server that hangs, a password or certificates that were changed.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::ConnectionLike as _;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue as _, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisError, RedisResult, Value,
};
use tokio::runtime::Runtime;

use super::super::errors::{Failure, timed_out};
use super::super::keys::slot;
use super::super::reply::is_done;
use super::attempt::{Attempt, wait_command};
use super::credentials::{Credentials, Reader};
use super::names::{ForCluster, Names};
use super::server_clock::ServerClock;
use super::single::CertificateEnds;
use super::survey::{Survey, masters_of, survey};
use super::target::host_and_port;
use crate::config;

const THREADS: usize = 2;
/// Threads that wait for names.
const NAME_THREADS: usize = 16;
/// How long a thread of the runtime may finish what it does when the store closes.
const CLOSE_WAIT: Duration = Duration::from_millis(100);

/// The client. Safe from any thread.
pub(in crate::store::redis) struct Cluster {
    open: Mutex<Option<Arc<Open>>>,
    clock: ServerClock,
}

/// What closing ends, once the calls under way are over.
struct Open {
    settings: Arc<config::Redis>,
    names: Arc<Names>,
    files: Reader,
    /// Only while it is dropped there is none.
    runtime: Option<Runtime>,
    client: Mutex<Client>,
    /// Whether a call failed, so that the client may have to be replaced.
    in_doubt: AtomicBool,
    /// Held while it is.
    renewing: Mutex<()>,
    surveyed: Mutex<Survey>,
}

#[derive(Clone)]
struct Client {
    credentials: Arc<Credentials>,
    connection: ClusterConnection,
}

impl Cluster {
    /// Connects to the cluster.
    pub(super) fn connect(settings: Arc<config::Redis>, names: Arc<Names>, deadline: Instant) -> Attempt<Cluster> {
        let files = Reader::new(&settings);
        let mut credentials = files.read(deadline)?;
        let mut surveyed = survey(&settings, &credentials, &names, deadline);
        if surveyed.as_ref().is_err_and(Failure::is_refused_password) && files.refused(&credentials) {
            credentials = files.read(deadline)?;
            surveyed = survey(&settings, &credentials, &names, deadline);
        }
        let surveyed = surveyed?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(NAME_THREADS)
            .thread_name("atlock-redis")
            .enable_all()
            .build()
            .map_err(|e| Failure::NotSent(RedisError::from(e)))?;
        let client = match Client::connect(&settings, credentials, &names, &runtime, deadline) {
            Ok(client) => Mutex::new(client),
            Err(failure) => {
                end(runtime);
                return Err(explained(&surveyed, failure));
            }
        };
        let (in_doubt, renewing) = (AtomicBool::new(false), Mutex::new(()));
        let surveyed = Mutex::new(surveyed);
        let open = Open { settings, names, files, runtime: Some(runtime), client, in_doubt, renewing, surveyed };
        let cluster = Cluster { open: Mutex::new(Some(Arc::new(open))), clock: ServerClock::new(Instant::now()) };
        cluster.learn_time(deadline)?;
        Ok(cluster)
    }

    pub(super) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    pub(super) fn certificate_ends(&self) -> CertificateEnds {
        self.open.lock().as_ref().map(|open| open.surveyed.lock().ends).unwrap_or_default()
    }

    pub(super) fn see_certificates(&self, deadline: Instant) -> Attempt<()> {
        let open = self.open.lock().clone().ok_or(Failure::Closed)?;
        let credentials = open.files.read(deadline)?;
        let surveyed = survey(&open.settings, &credentials, &open.names, deadline)?;
        *open.surveyed.lock() = surveyed;
        Ok(())
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
            .route(&wait_command(replicas, deadline.saturating_duration_since(Instant::now())), route, deadline)
            .and_then(|value| u32::from_redis_value(value).map_err(|e| Failure::Refused(e.into())));
        Ok((reply, confirmed))
    }

    /// The addresses of the masters, as the cluster tells them.
    pub(super) fn masters(&self, deadline: Instant) -> Attempt<Vec<(String, u16)>> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let reply = self.route(&command, SingleNodeRoutingInfo::Random, deadline)?;
        let mut masters: Vec<(String, u16)> = Vec::new();
        for (host, port) in masters_of(reply)? {
            let host = match host {
                Some(host) => host,
                None => self.host_of(port, deadline)?,
            };
            if !masters.contains(&(host.clone(), port)) {
                masters.push((host, port));
            }
        }
        Ok(masters)
    }

    /// The host of a node that announces none: the one by which the cluster was reached, so that the client knows the node by that.
    fn host_of(&self, port: u16, deadline: Instant) -> Attempt<String> {
        let settings = self.open.lock().as_ref().map(|open| Arc::clone(&open.settings)).ok_or(Failure::Closed)?;
        let mut failed = Failure::not_in_time("the cluster announces no host");
        for address in &settings.addresses {
            let (host, _) = host_and_port(address).map_err(Failure::Settings)?;
            match self.query_at(&host, port, &redis::cmd("PING"), deadline) {
                Ok(_) => return Ok(host),
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }

    pub(super) fn close(&self) {
        let open = self.open.lock().take();
        drop(open);
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
        let open = self.open.lock().clone().ok_or(Failure::Closed)?;
        let Some(runtime) = &open.runtime else { return Err(Failure::Closed) };
        let renewed = if open.in_doubt.load(Ordering::Relaxed) { open.renew(runtime, deadline) } else { Ok(()) };
        let connection = open.client.lock().connection.clone();
        // This client hands a server's refusal out as a value.
        let reply = within(runtime, deadline, f(connection)).and_then(Value::extract_error).map_err(Failure::after_sending);
        let refused = matches!(&reply, Err(Failure::Refused(_)));
        open.in_doubt.store(reply.is_err() && !refused, Ordering::Relaxed);
        match (reply, renewed) {
            // Why there is no better client says more than that this one has no connection.
            (Err(Failure::NotSent(_)), Err(failure)) => Err(failure),
            (reply, _) => reply.map_err(|failure| explained(&open.surveyed.lock(), failure)),
        }
    }
}

impl Open {
    /// If the files changed, a client that knows them takes this one's place. Of many callers one does that.
    fn renew(&self, runtime: &Runtime, deadline: Instant) -> Attempt<()> {
        let Some(_renewing) = self.renewing.try_lock() else { return Ok(()) };
        // What is left is for the command.
        let deadline = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
        let mut credentials = self.files.read(deadline)?;
        if *self.client.lock().credentials == *credentials && self.files.refused(&credentials) {
            // A command may have another password by now.
            credentials = self.files.read(deadline)?;
        }
        if *self.client.lock().credentials != *credentials {
            *self.surveyed.lock() = survey(&self.settings, &credentials, &self.names, deadline)?;
            let client = Client::connect(&self.settings, credentials, &self.names, runtime, deadline)?;
            *self.client.lock() = client;
        } else if !self.surveyed.lock().unreachable.is_empty() {
            // Perhaps they are there by now.
            let again = survey(&self.settings, &credentials, &self.names, deadline)?;
            *self.surveyed.lock() = again;
        }
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            end(runtime);
        }
    }
}

/// Dropped, a runtime would wait for as long as a thread of it is busy.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(CLOSE_WAIT);
}

impl Client {
    fn connect(
        settings: &config::Redis,
        credentials: Arc<Credentials>,
        names: &Arc<Names>,
        runtime: &Runtime,
        deadline: Instant,
    ) -> Attempt<Client> {
        let nodes: Attempt<Vec<_>> = settings.addresses.iter().map(|address| node(settings, &credentials, address)).collect();
        let mut builder = ClusterClient::builder(nodes?)
            // Retries are ours (`retry.rs`): this client would repeat a change without saying that it does.
            .retries(0)
            .connection_timeout(settings.timeouts.connect)
            .response_timeout(settings.timeouts.operation)
            .async_dns_resolver(ForCluster { names: Arc::clone(names), patience: settings.timeouts.connect });
        if let Some(tls) = &credentials.tls {
            builder = builder.certs(tls.for_cluster());
        }
        let client = builder.build().map_err(Failure::NotSent)?;
        let connected = within(runtime, deadline, client.get_async_connection());
        let connection = connected.map_err(|error| Failure::Handshake { error, tls: settings.tls.enabled })?;
        Ok(Client { credentials, connection })
    }
}

/// A failure for lack of a node, with the nodes that lack.
fn explained(surveyed: &Survey, failure: Failure) -> Failure {
    match failure.kind() {
        _ if surveyed.unreachable.is_empty() => failure,
        Some(ErrorKind::ClusterConnectionNotFound | ErrorKind::Io) if failure.is_unsent() => {
            announced(&surveyed.unreachable, &failure)
        }
        _ => failure,
    }
}

/// What went wrong, and which nodes took no connection when they were last looked at.
fn announced(unreachable: &[String], failure: &Failure) -> Failure {
    let detail = format!(
        "{}: do they run, and are these their addresses for this machine? See cluster-announce-ip, cluster-announce-hostname and \
         cluster-preferred-endpoint-type; {failure}",
        unreachable.join(", ")
    );
    let text = "its cluster announces nodes that cannot be reached from here";
    Failure::NotSent(RedisError::from((ErrorKind::ClusterConnectionNotFound, text, detail)))
}

fn node(settings: &config::Redis, credentials: &Credentials, address: &str) -> Attempt<ConnectionInfo> {
    let (host, port) = host_and_port(address).map_err(Failure::Settings)?;
    let address = if settings.tls.enabled {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    // Each command of the log-in waits for its own timeout on a server that hangs: no more than are needed.
    let mut login = RedisConnectionInfo::default().set_db(settings.db).set_skip_set_lib_name();
    if !credentials.username.is_empty() {
        login = login.set_username(&credentials.username);
    }
    if !credentials.password.is_empty() {
        login = login.set_password(&credentials.password);
    }
    Ok(address.into_connection_info().map_err(Failure::NotSent)?.set_redis_settings(login))
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

fn within<T>(runtime: &Runtime, deadline: Instant, future: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let left = deadline.saturating_duration_since(Instant::now());
    runtime.block_on(async { tokio::time::timeout(left, future).await }).unwrap_or_else(|_| Err(timed_out("the deadline passed")))
}

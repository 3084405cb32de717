//! Connecting, and checking that the server can be used, before anything is answered.

use std::fs;
use std::path::Path;
use std::time::Instant;

use redis::cluster::ClusterClient;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, FromRedisValue as _, IntoConnectionInfo as _, RedisConnectionInfo,
    TlsCertificates,
};

use super::cluster::Cluster;
use super::errors::{Failure, explain, explain_connect};
use super::link::{Link, wait_command};
use super::retry::Retrying;
use super::single::Single;
use super::{RedisStore, scripts};
use crate::config;
use crate::error::{Code, Error, Result};

/// Keys that the probe writes and deletes: one of each pattern that an ACL must allow.
const PROBE_KEYS: [&str; 5] = [
    "pr/{atlock:probe}",
    "global/{atlock:probe}/lock",
    "{atlock:probe}:atlock",
    "{atlock:probe}::probe::0",
    "atlock:{atlock:probe}",
];

/// A server that can be used.
pub(super) struct Opened {
    pub redis: Retrying,
    pub warnings: Vec<String>,
}

/// Connects and checks. Everything ends within the connect timeout.
pub(super) fn open(settings: &config::Redis) -> Result<Opened> {
    let deadline = Instant::now() + settings.timeouts.connect;
    let server = if settings.cluster_mode { settings.addresses.join(", ") } else { settings.address.clone() };
    let link = connect(settings, deadline).map_err(|e| match e {
        Unusable::Settings(e) => e,
        Unusable::Redis(failure) => explain_connect(failure.error(), &server, settings.tls.enabled),
    })?;
    let redis = Retrying { link, server };
    let checked = check(&redis, settings, deadline);
    match checked {
        Ok(warnings) => Ok(Opened { redis, warnings }),
        Err(e) => {
            redis.link.close();
            Err(e)
        }
    }
}

enum Unusable {
    Settings(Error),
    Redis(Failure),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Unusable {
        Unusable::Settings(error)
    }
}

impl From<redis::RedisError> for Unusable {
    fn from(error: redis::RedisError) -> Unusable {
        Unusable::Redis(Failure::NotSent(error))
    }
}

fn connect(settings: &config::Redis, deadline: Instant) -> std::result::Result<Link, Unusable> {
    let certificates = certificates(&settings.tls)?;
    let password = password(settings)?;
    if settings.cluster_mode {
        let nodes = settings.addresses.iter().map(|address| connection_info(settings, address, &password));
        let nodes = nodes.collect::<std::result::Result<Vec<_>, Unusable>>()?;
        let mut builder = ClusterClient::builder(nodes)
            // Retries are ours (`retry.rs`): this client would repeat a change without saying that it does.
            .retries(0)
            .connection_timeout(settings.timeouts.connect)
            .response_timeout(settings.timeouts.operation);
        if settings.tls.enabled {
            builder = builder.certs(certificates);
        }
        return Cluster::connect(&builder.build()?, deadline).map(Link::Cluster).map_err(Unusable::Redis);
    }
    let info = connection_info(settings, &settings.address, &password)?;
    let client = if settings.tls.enabled { Client::build_with_tls(info, certificates)? } else { Client::open(info)? };
    let single = Single::new(client, settings.timeouts.connect);
    // The first connection, which stays in the pool.
    single.run(deadline, |connection| redis::cmd("PING").query::<()>(connection)).map_err(Unusable::Redis)?;
    Ok(Link::Single(Box::new(single)))
}

fn connection_info(settings: &config::Redis, address: &str, password: &str) -> std::result::Result<ConnectionInfo, Unusable> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "6379"));
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().map_err(|_| Error::new(Code::InvalidConfig, format!("{address:?} is not host:port")))?;
    let address = if settings.tls.enabled {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    // Each command of the log-in waits for its own timeout on a server that hangs: no more than are needed.
    let mut login = RedisConnectionInfo::default().set_db(settings.db).set_skip_set_lib_name();
    if !settings.username.is_empty() {
        login = login.set_username(&settings.username);
    }
    if !password.is_empty() {
        login = login.set_password(password);
    }
    Ok(address.into_connection_info()?.set_redis_settings(login))
}

fn password(settings: &config::Redis) -> Result<String> {
    let Some(path) = &settings.password_file else { return Ok(settings.password.clone()) };
    let text = String::from_utf8(read(path, "password_file")?)
        .map_err(|_| Error::new(Code::InvalidConfig, format!("redis.password_file {}: not UTF-8", path.display())))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Error::new(Code::InvalidConfig, format!("redis.password_file {}: its first line is empty", path.display()))),
    }
}

fn certificates(tls: &config::Tls) -> Result<TlsCertificates> {
    let client_tls = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read_pem(cert, "tls.cert_file", "CERTIFICATE")?,
            client_key: read_pem(key, "tls.key_file", "PRIVATE KEY")?,
        }),
        _ => None,
    };
    let root_cert = tls.ca_file.as_deref().map(|path| read_pem(path, "tls.ca_file", "CERTIFICATE")).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}

/// A PEM file that holds what is wanted: a file with something else would trust nobody, and say so only at the handshake.
fn read_pem(path: &Path, setting: &str, wanted: &str) -> Result<Vec<u8>> {
    let bytes = read(path, setting)?;
    let text = String::from_utf8_lossy(&bytes);
    if !text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{wanted}-----"))) {
        return Err(Error::new(Code::InvalidConfig, format!("redis.{setting} {}: it holds no {wanted} in PEM", path.display())));
    }
    Ok(bytes)
}

fn read(path: &Path, setting: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::new(Code::InvalidConfig, format!("redis.{setting} {}: {e}", path.display())))
}

fn check(redis: &Retrying, settings: &config::Redis, deadline: Instant) -> Result<Vec<String>> {
    let explained = |failure: Failure| explain(failure.error(), &redis.server);
    if !settings.cluster_mode {
        check_role(redis, deadline)?;
    }
    redis.eval(&scripts::PROBE, &PROBE_KEYS, &[], deadline).map_err(explained)?;
    if settings.wait_replicas > 0 {
        redis.link.query(&wait_command(0, deadline), deadline).map_err(explained)?;
    }
    for script in [&*scripts::GRANT, &scripts::RELEASE] {
        // So that the first callers find them; not needed, and a cluster's nodes learn them as they go.
        redis.link.query(&script.load(), deadline).map_err(explained)?;
    }
    Ok(warnings(redis, deadline))
}

impl RedisStore {
    /// Whether the server answers and takes writes.
    pub(super) fn check_writable(&self, deadline: Instant) -> Result<()> {
        self.redis.read(deadline, |_| self.redis.eval(&scripts::PROBE, &PROBE_KEYS[2..3], &[], deadline)).map(drop)
    }
}

fn check_role(redis: &Retrying, deadline: Instant) -> Result<()> {
    let cluster = info(redis, "cluster", deadline).is_some_and(|info| info.contains("cluster_enabled:1"));
    if cluster {
        let text = format!("Redis at {}: it belongs to a Redis Cluster: set cluster_mode: true and addresses", redis.server);
        return Err(Error::new(Code::InvalidConfig, text));
    }
    let replica = info(redis, "replication", deadline).is_some_and(|info| info.contains("role:slave"));
    if replica {
        let text = format!("Redis at {}: it is a read-only replica: give the address of the master", redis.server);
        return Err(Error::new(Code::ReadOnly, text));
    }
    Ok(())
}

/// What endangers the locks, as far as the server tells.
fn warnings(redis: &Retrying, deadline: Instant) -> Vec<String> {
    let mut warnings = Vec::new();
    let value = |section: &str, name: &str| {
        let info = info(redis, section, deadline)?;
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
    };
    if let Some(policy) = value("memory", "maxmemory_policy")
        && policy != "noeviction"
    {
        warnings.push(format!(
            "Redis at {}: maxmemory-policy is {policy}: it may evict locks, which are then granted again; set noeviction",
            redis.server
        ));
    }
    let saves = config_value(redis, "save", deadline);
    let appends = value("persistence", "aof_enabled");
    if saves.as_deref() == Some("") && appends.as_deref() == Some("0") {
        warnings
            .push(format!("Redis at {}: it saves nothing to disk: a restart loses every lock; set appendonly yes", redis.server));
    }
    warnings
}

/// A section of INFO; `None` if the user may not ask.
fn info(redis: &Retrying, section: &str, deadline: Instant) -> Option<String> {
    let mut command = redis::cmd("INFO");
    command.arg(section);
    String::from_redis_value(
        redis
            .link
            .masters(deadline)
            .ok()?
            .first()
            .map(|master| redis.link.query_at(master.as_ref(), &command, deadline))?
            .ok()?,
    )
    .ok()
}

/// A setting of the server; `None` if the user may not ask.
fn config_value(redis: &Retrying, name: &str, deadline: Instant) -> Option<String> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(name);
    let reply = redis
        .link
        .masters(deadline)
        .ok()?
        .first()
        .map(|master| redis.link.query_at(master.as_ref(), &command, deadline))?
        .ok()?;
    Vec::<String>::from_redis_value(reply).ok()?.into_iter().nth(1)
}

//! Connecting, and checking that the server can be used, before anything is answered.

use std::sync::Arc;
use std::time::Instant;

use redis::FromRedisValue as _;

use super::errors::{Failure, explain};
use super::retry::Retrying;
use super::scripts;
use super::transport::{Transport, wait_command};
use crate::clock::{Clock, SystemClock};
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
    connect_and(settings, check)
}

/// The same over a link that is there.
#[cfg(test)]
pub(super) fn open_over(
    link: Arc<dyn super::transport::Link>,
    clock: Arc<dyn Clock>,
    settings: &config::Redis,
) -> Result<Opened> {
    let deadline = clock.now() + settings.timeouts.connect;
    let server = server_name(settings);
    let connected = Transport::over(link, Arc::clone(&clock), settings.timeouts.connect, deadline);
    let transport = connected.map_err(|failure| explain(&failure, &server))?;
    checked(Retrying { transport, server, clock }, settings, deadline, check)
}

/// Connects to look only: whether this user may write is not tried.
pub(super) fn connect(settings: &config::Redis) -> Result<Opened> {
    connect_and(settings, check_kind)
}

fn connect_and(
    settings: &config::Redis,
    check: impl FnOnce(&Retrying, &config::Redis, Instant) -> Result<Vec<String>>,
) -> Result<Opened> {
    let clock = Arc::new(SystemClock);
    let deadline = clock.now() + settings.timeouts.connect;
    let server = server_name(settings);
    let transport = Transport::connect(settings, deadline).map_err(|failure| explain(&failure, &server))?;
    checked(Retrying { transport, server, clock }, settings, deadline, check)
}

fn server_name(settings: &config::Redis) -> String {
    if settings.cluster_mode { settings.addresses.join(", ") } else { settings.address.clone() }
}

fn checked(
    redis: Retrying,
    settings: &config::Redis,
    deadline: Instant,
    check: impl FnOnce(&Retrying, &config::Redis, Instant) -> Result<Vec<String>>,
) -> Result<Opened> {
    match check(&redis, settings, deadline) {
        Ok(warnings) => Ok(Opened { redis, warnings }),
        Err(e) => {
            redis.transport.close();
            Err(e)
        }
    }
}

/// Whether it is what the settings mean, and what endangers its locks: without a write.
fn check_kind(redis: &Retrying, settings: &config::Redis, deadline: Instant) -> Result<Vec<String>> {
    if !settings.cluster_mode {
        check_role(redis, deadline)?;
    }
    Ok(warnings(redis, deadline))
}

fn check(redis: &Retrying, settings: &config::Redis, deadline: Instant) -> Result<Vec<String>> {
    let explained = |failure: Failure| explain(&failure, &redis.server);
    if !settings.cluster_mode {
        check_role(redis, deadline)?;
    }
    redis.eval(&scripts::PROBE, &PROBE_KEYS, &[], deadline).map_err(explained)?;
    if settings.wait_replicas > 0 {
        redis
            .transport
            .query(&wait_command(0, deadline.saturating_duration_since(redis.clock.now())), deadline)
            .map_err(explained)?;
    }
    for script in [&*scripts::GRANT, &scripts::RELEASE] {
        // So that the first callers find them; not needed, and a cluster's nodes learn them as they go.
        redis.transport.query(&script.load(), deadline).map_err(explained)?;
    }
    Ok(warnings(redis, deadline))
}

/// Whether the server answers and takes writes.
pub(super) fn check_writable(redis: &Retrying, deadline: Instant) -> Result<()> {
    redis.read(deadline, |_| redis.eval(&scripts::PROBE, &PROBE_KEYS[2..3], &[], deadline)).map(drop)
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
pub(super) fn info(redis: &Retrying, section: &str, deadline: Instant) -> Option<String> {
    let mut command = redis::cmd("INFO");
    command.arg(section);
    String::from_redis_value(
        redis
            .transport
            .masters(deadline)
            .ok()?
            .first()
            .map(|master| redis.transport.query_at(master.as_ref(), &command, deadline))?
            .ok()?,
    )
    .ok()
}

/// A setting of the server; `None` if the user may not ask.
pub(super) fn config_value(redis: &Retrying, name: &str, deadline: Instant) -> Option<String> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(name);
    let reply = redis
        .transport
        .masters(deadline)
        .ok()?
        .first()
        .map(|master| redis.transport.query_at(master.as_ref(), &command, deadline))?
        .ok()?;
    Vec::<String>::from_redis_value(reply).ok()?.into_iter().nth(1)
}

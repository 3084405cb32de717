//! Connecting, and checking that the server can be used, before anything is answered.

use std::sync::Arc;
use std::time::Instant;

use super::errors::{Failure, explain};
use super::inform::{info, of_info};
use super::retry::Retrying;
use super::scripts;
use super::transport::{Transport, wait_command};
use super::warnings;
use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::error::{Code, Error, Result};

/// The oldest major version that is supported: the scripts' errors, among others, are another's before.
const OLDEST: u64 = 7;
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
    pub redis: Arc<Retrying>,
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
    settings.place().to_string()
}

fn checked(
    redis: Retrying,
    settings: &config::Redis,
    deadline: Instant,
    check: impl FnOnce(&Retrying, &config::Redis, Instant) -> Result<Vec<String>>,
) -> Result<Opened> {
    match check(&redis, settings, deadline) {
        Ok(warnings) => Ok(Opened { redis: Arc::new(redis), warnings }),
        Err(e) => {
            redis.transport.close();
            Err(e)
        }
    }
}

/// Whether it is what the settings mean, and what endangers its locks: without a write.
fn check_kind(redis: &Retrying, settings: &config::Redis, deadline: Instant) -> Result<Vec<String>> {
    check_version(redis, deadline)?;
    if !settings.cluster_mode {
        check_role(redis, deadline)?;
    }
    Ok(warnings::first_look(redis, settings, deadline))
}

fn check(redis: &Retrying, settings: &config::Redis, deadline: Instant) -> Result<Vec<String>> {
    let explained = |failure: Failure| explain(&failure, &redis.server);
    check_version(redis, deadline)?;
    if !settings.cluster_mode {
        check_role(redis, deadline)?;
    }
    // By its text: EVAL is needed, whatever scripts this server knows already.
    redis.transport.query(&scripts::PROBE.by_text(&PROBE_KEYS, &[]), deadline).map_err(explained)?;
    if settings.wait_replicas > 0 {
        redis
            .transport
            .query(&wait_command(0, deadline.saturating_duration_since(redis.clock.now())), deadline)
            .map_err(explained)?;
    }
    for script in [&*scripts::GRANT, &scripts::RELEASE] {
        // So that the first callers find them. Where that is denied or disabled, they are sent whole: a refusal is no matter.
        let _ = redis.transport.query(&script.load(), deadline);
    }
    Ok(warnings::first_look(redis, settings, deadline))
}

/// Whether the server answers and takes writes.
pub(super) fn check_writable(redis: &Retrying, deadline: Instant) -> Result<()> {
    redis.read(deadline, |_| redis.eval(&scripts::PROBE, &PROBE_KEYS[2..3], &[], deadline)).map(drop)
}

/// Refuses a server that is too old. One that does not tell its version is tried.
fn check_version(redis: &Retrying, deadline: Instant) -> Result<()> {
    let Some(version) = info(redis, "server", deadline).and_then(|info| of_info(&info, "redis_version")) else { return Ok(()) };
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    if major.is_some_and(|major| major < OLDEST) {
        let text = format!("Redis at {}: it is version {version}: use {OLDEST}.0 or newer, or Valkey", redis.server);
        return Err(Error::new(Code::RedisTooOld, text));
    }
    Ok(())
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

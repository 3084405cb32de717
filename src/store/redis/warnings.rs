//! What endangers the locks, as far as Redis tells: looked at when a store is opened, and again whenever somebody asks for the status.
//!
//! Invariant: a warning is as old as [`AGAIN`] and the look before it, not as the connection. What could not be asked is said: nobody takes
//! silence for a good answer. Whoever asks for the status waits [`PATIENCE`] for a Redis that hangs, and is then told what was known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inform::{info_of, of_info, setting_of};
use super::retry::Retrying;
use super::transport::{Attempt, Errand};
use crate::config::{self, Place};
use crate::sync::Mutex;

/// How long a look counts.
const AGAIN: Duration = Duration::from_secs(5);
/// How long somebody waits for the next one.
const PATIENCE: Duration = Duration::from_millis(250);

/// The warnings of a store. Safe from any thread.
pub(super) struct Warnings {
    /// Of the opening.
    first: Vec<String>,
    /// `None`: it is not looked again.
    again: Option<Errand<Vec<String>, ()>>,
    looked: Mutex<Instant>,
}

impl Warnings {
    /// Those of the opening, and how to look again.
    pub(super) fn new(first: Vec<String>, redis: &Arc<Retrying>, settings: &config::Redis) -> Warnings {
        let again = redis.transport.is_real().then(|| {
            let (redis, settings) = (Arc::clone(redis), settings.clone());
            // What fails is told elsewhere: Redis is away.
            Errand::new("atlock-warnings", move || {
                look(&redis, &settings, redis.clock.now() + settings.timeouts.operation).map_err(drop)
            })
        });
        Warnings { first, again, looked: Mutex::new(redis.clock.now()) }
    }

    /// As they are now, `now` being the time by the store's clock.
    pub(super) fn now(&self, now: Instant) -> Vec<String> {
        let Some(again) = &self.again else { return self.first.clone() };
        let mut looked = self.looked.lock();
        let is_due = now.saturating_duration_since(*looked) >= AGAIN;
        if is_due {
            *looked = now;
        }
        drop(looked);
        let fresh = if is_due { again.ask(now + PATIENCE, None).ok() } else { None };
        fresh.or_else(|| again.last_good()).unwrap_or_else(|| self.first.clone())
    }
}

/// The look of an opening, which does not fail for it: a large cluster may need more time.
pub(super) fn first_look(redis: &Retrying, settings: &config::Redis, deadline: Instant) -> Vec<String> {
    look(redis, settings, deadline).unwrap_or_else(|failure| {
        vec![format!("Redis at {}: what may endanger its locks could not be asked yet: {failure}", redis.server)]
    })
}

/// Asks each server that holds locks.
fn look(redis: &Retrying, settings: &config::Redis, deadline: Instant) -> Attempt<Vec<String>> {
    let mut warnings = Vec::new();
    for master in redis.transport.masters(deadline)? {
        let server = master.as_ref().map_or_else(|| redis.server.clone(), |(host, port)| format!("{host}:{port}"));
        let mut asked = Asked {
            memory: info_of(redis, &master, "memory", deadline)?,
            persistence: info_of(redis, &master, "persistence", deadline)?,
            replication: info_of(redis, &master, "replication", deadline)?,
            saves: None,
        };
        // Only where the answer matters: the right to ask is one to read every password in the server's settings, and few users have it.
        if asked.appends() == Some(false) && !settings.allow_no_persistence {
            asked.saves = setting_of(redis, &master, "save", deadline)?;
        }
        warnings.extend(asked.warnings(settings).into_iter().map(|what| format!("Redis at {server}: {what}")));
    }
    let mut ending = certificates(redis);
    if !ending.is_empty() {
        // It was seen when the connection was made, and may have been renewed since.
        redis.transport.see_certificates(deadline)?;
        ending = certificates(redis);
    }
    warnings.extend(ending);
    Ok(warnings)
}

/// What is to be said of the certificates that were seen last.
fn certificates(redis: &Retrying) -> Vec<String> {
    let (ends, now) = (redis.transport.certificate_ends(), redis.clock.unix_micros());
    let servers = ends.servers.and_then(|ends| ends.warning(&format!("Redis at {}: its TLS certificate", redis.server), now));
    let clients = ends.clients.and_then(|ends| ends.warning("tls.cert_file: the client certificate", now));
    servers.into_iter().chain(clients).collect()
}

/// What a server answered. `None`: this user may not ask.
struct Asked {
    memory: Option<String>,
    persistence: Option<String>,
    replication: Option<String>,
    saves: Option<String>,
}

impl Asked {
    fn warnings(&self, settings: &config::Redis) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.memory.as_ref().and_then(|info| of_info(info, "maxmemory_policy")).as_deref() {
            Some("noeviction") => {}
            Some(policy) => warnings
                .push(format!("maxmemory-policy is {policy}: it may evict locks, which are then granted again; set noeviction")),
            None => warnings
                .push("whether it may evict locks could not be asked: allow +info, or look up maxmemory-policy".to_owned()),
        }
        if !settings.allow_no_persistence {
            warnings.extend(
                self.persistence_warning().map(|what| format!("{what}, or redis.allow_no_persistence: true if that is meant")),
            );
        }
        warnings.extend(self.replicas(settings));
        warnings
    }

    /// Whether it writes an append-only file.
    fn appends(&self) -> Option<bool> {
        Some(of_info(self.persistence.as_ref()?, "aof_enabled")? == "1")
    }

    /// What is wrong with how it keeps its data, and what to set.
    fn persistence_warning(&self) -> Option<&'static str> {
        match (self.appends(), self.saves.as_deref()) {
            (Some(false), Some("")) => Some("it saves nothing to disk: a restart loses every lock; set appendonly yes"),
            (Some(false), None) => Some(
                "appendonly is no, and this user may not ask for snapshots (CONFIG GET save): a restart may lose locks; set appendonly yes",
            ),
            (None, _) => Some("whether it saves its data to disk could not be asked: allow +info"),
            (Some(true), _) | (Some(false), Some(_)) => None,
        }
    }

    /// Whether enough replicas are there.
    fn replicas(&self, settings: &config::Redis) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(info) = &self.replication else {
            // Sentinels' masters tell that at each log-in.
            return warnings;
        };
        let connected: u32 = of_info(info, "connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0);
        if connected < settings.wait_replicas {
            warnings.push(format!(
                "{connected} replicas are connected, and wait_replicas is {}: no lock can be taken; look at the replicas",
                settings.wait_replicas
            ));
        }
        if matches!(settings.place(), Place::Sentinel(_)) {
            if connected == 0 {
                warnings.push("no replica is connected: the Sentinels have nothing to fail over to".to_owned());
            }
            // Told only where it is set.
            if of_info(info, "min_slaves_good_slaves").is_none() {
                warnings.push(
                    "min-replicas-to-write is not set: a master that is cut off from the Sentinels goes on granting locks beside the new \
                     one; set min-replicas-to-write 1"
                        .to_owned(),
                );
            }
        }
        warnings
    }
}

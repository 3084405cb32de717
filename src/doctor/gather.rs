//! What is looked at, and what was found: plain data, from which the checks conclude.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use humantime_serde::re::humantime::parse_rfc3339_weak;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::folder::{Place, place, this_user};
use crate::clock::Clock;
use crate::config::effective::Setting;
use crate::config::{Config, Mode};
use crate::domain::json::parse_json;
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};
use crate::service::Service;
use crate::socket::{Client, SocketOperation};
use crate::store::redis::{RedisFacts, inspect};

/// All that the checks know.
#[derive(Debug)]
pub struct Facts {
    /// When it was looked, microseconds since 1970.
    pub now: u64,
    /// The number of the user who looks; `None` if the system does not tell.
    pub user: Option<u32>,
    /// The settings, or what is wrong with them.
    pub config: Result<Config>,
    /// Each setting that holds; secrets are hidden.
    pub settings: Vec<Setting>,
    /// `locking.data_dir`, if there is one.
    pub folder: Option<Place>,
    /// The file of the audit trail, if there is one.
    pub audit: Option<Place>,
    /// The folder of that file.
    pub audit_folder: Option<Place>,
    /// The version of the server that answered; `None` if the stores were looked at.
    pub server: Option<String>,
    /// Why a server that listens could not be asked.
    pub refusal: Option<Error>,
    /// Why, without a server, the stores could not be asked; or how a server failed to answer.
    pub silence: Option<Error>,
    /// Which store answered in a server's place.
    pub source: Option<String>,
    /// The answer of `status`, or null.
    pub status: Value,
    /// The answer of `health`, or null.
    pub health: Value,
    /// All project locks, or why they cannot be listed; `None` if nobody could be asked.
    pub locks: Option<Result<Locks>>,
    /// What Redis tells of itself; `None` if no Redis is set, or nothing is known.
    pub redis: Option<Result<RedisFacts>>,
}

/// Project locks, without their values.
#[derive(Debug, Default)]
pub struct Locks {
    /// Those that can be read.
    pub held: Vec<Held>,
    /// Entries that cannot: keys and reasons.
    pub unreadable: Vec<(String, String)>,
    /// Why there may be more.
    pub incomplete: Option<String>,
}

/// A lock.
#[derive(Debug)]
pub struct Held {
    /// Its key.
    pub key: String,
    /// Its pull request's number.
    pub pull: i64,
    /// Since when, microseconds since 1970; `None` if that cannot be read.
    pub since: Option<u64>,
}

impl Facts {
    /// Before anything was looked at.
    pub(super) fn nothing(now: u64) -> Facts {
        Facts {
            now,
            user: None,
            config: Ok(Config::default()),
            settings: Vec::new(),
            folder: None,
            audit: None,
            audit_folder: None,
            server: None,
            refusal: None,
            silence: None,
            source: None,
            status: Value::Null,
            health: Value::Null,
            locks: None,
            redis: None,
        }
    }
}

/// Looks at everything once.
pub(super) fn gather(path: Option<&Path>, clock: &Arc<dyn Clock>) -> Facts {
    let mut facts = Facts::nothing(clock.unix_micros());
    facts.user = this_user();
    let config = match Config::effective(path) {
        Ok((config, settings)) => {
            facts.settings = settings;
            config
        }
        Err(e) => {
            facts.config = Err(e);
            return facts;
        }
    };
    facts.folder = config.locking.data_dir.as_deref().map(place);
    if let Some(file) = &config.locking.audit.file {
        facts.audit = Some(place(file));
        facts.audit_folder = Some(place(file.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."))));
    }
    if config.mode() != Mode::Strict {
        facts.redis = Some(inspect(&config.locking.enhanced.redis));
    }
    if let Err(e) = ask(&config, clock, &mut facts) {
        facts.silence = Some(e);
    }
    facts.config = Ok(config);
    facts
}

/// Who answers.
enum Source {
    Server(Client),
    Stores(Service),
}

impl Source {
    fn ask(&mut self, operation: &str) -> Result<Vec<u8>> {
        let operation = SocketOperation::named(operation)?;
        match self {
            Source::Server(client) => client.ask(operation, b"null"),
            Source::Stores(service) => operation.run(service, b"null"),
        }
    }
}

/// Asks the server, or without one the stores.
fn ask(config: &Config, clock: &Arc<dyn Clock>, facts: &mut Facts) -> Result<()> {
    let client = match server(config) {
        Ok(client) => client,
        Err(e) => {
            facts.refusal = Some(e);
            return Ok(());
        }
    };
    let mut source = match client {
        Some(client) => {
            facts.server = Some(client.server_version().to_owned());
            Source::Server(client)
        }
        None => {
            let service = Service::open_read_only(config, Arc::clone(clock))?;
            facts.source = service.source().map(str::to_owned);
            Source::Stores(service)
        }
    };
    // Before the status, which counts it.
    facts.health = parse_json(&source.ask("health")?)?;
    facts.status = parse_json(&source.ask("status")?)?;
    facts.locks = Some(source.ask("list").and_then(|answer| locks(&answer)));
    match source {
        Source::Server(_) => Ok(()),
        Source::Stores(service) => service.close(),
    }
}

fn server(config: &Config) -> Result<Option<Client>> {
    let Some(folder) = &config.locking.data_dir else { return Ok(None) };
    match Client::connect(folder) {
        // Redis is enough, and this user may have its password.
        Err(e) if e.code() == Code::Permission && config.mode() == Mode::Native => Ok(None),
        result => result,
    }
}

fn locks(answer: &[u8]) -> Result<Locks> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        locks: Vec<&'a RawValue>,
        unreadable: Vec<Entry>,
        incomplete: Option<String>,
    }
    #[derive(Deserialize)]
    struct Entry {
        key: String,
        reason: String,
    }
    let Answer { locks, unreadable, incomplete } = parse_json(answer)?;
    let held = locks.iter().filter_map(|value| held(value.get().as_bytes())).collect();
    Ok(Locks { held, unreadable: unreadable.into_iter().map(|entry| (entry.key, entry.reason)).collect(), incomplete })
}

fn held(value: &[u8]) -> Option<Held> {
    #[derive(Deserialize)]
    struct Taken {
        #[serde(rename = "Time")]
        time: Option<String>,
    }
    let lock = ProjectLock::parse(value).ok()?;
    let since = parse_json::<Taken>(value).ok().and_then(|taken| micros(&taken.time?));
    Some(Held { key: lock.fields().key(), pull: lock.pull().num, since })
}

/// A time as Go writes it (RFC 3339, also with an offset), in microseconds since 1970.
fn micros(text: &str) -> Option<u64> {
    let at = text.len().checked_sub(6).filter(|at| matches!(text.as_bytes()[*at], b'+' | b'-'));
    let (local, offset) = match at {
        Some(at) => text.split_at_checked(at)?,
        None => (text, "+00:00"),
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let ahead = Duration::from_secs(hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60);
    let local = parse_rfc3339_weak(local).ok()?;
    let time = if offset.starts_with('+') { local.checked_sub(ahead)? } else { local.checked_add(ahead)? };
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::micros;

    #[test]
    fn times_of_go_are_read() {
        let at = Some(1_795_508_220_000_000);
        for text in ["2026-11-24T08:17:00Z", "2026-11-24T10:17:00+02:00", "2026-11-24T02:47:00.0-05:30"] {
            assert_eq!(micros(text), at, "{text}");
        }
        assert_eq!((micros(""), micros("yesterday"), micros("ü+02:00")), (None, None, None));
    }
}

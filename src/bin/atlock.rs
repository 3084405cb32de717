//! The operator's command line: look at the locks of a configuration, and release them by hand.
//!
//! Exit status: 0 done, 1 an error (its text is on stderr), 2 wrong usage, 3 there was no such lock.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use atlock::clock::SystemClock;
use atlock::config::{Backend, Config, Mode};
use atlock::domain::lock::ProjectLock;
use atlock::error::{Code, Error, Result};
use atlock::hybrid::status::{ConflictReport, Report};
use atlock::service::Service;
use atlock::store::Listing;
use clap::{Parser, Subcommand};
use humantime_serde::re::humantime::format_rfc3339_millis;

#[derive(Parser)]
#[command(name = "atlock", about = "Looks at Atlantis's locks and releases them", disable_version_flag = true)]
struct Cli {
    /// The settings file; without it, only the environment variables count
    #[arg(long, short, global = true, env = "ATLOCK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints JSON, as the library gives it; lock values hold clone URLs with their tokens
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the library's version
    Version,
    /// Tells the mode, whether the stores answer, the state of hybrid mode, and what endangers the locks
    Status,
    /// Asks the store once and prints, for Prometheus, what that took and how it ended; a server's own counters are in its process
    Metrics,
    /// Lists all project locks
    List,
    /// Shows one lock
    Get {
        /// The lock's key, as `list` prints it: repo/path/workspace/project
        key: String,
    },
    /// Releases one lock
    Unlock {
        /// The lock's key, as `list` prints it
        key: String,
    },
    /// Releases every lock of a pull request
    UnlockPull {
        /// Full name of the repository, for example acme/infra
        repo: String,
        /// Number of the pull request
        number: i64,
    },
    /// Removes an entry that cannot be read as a lock
    Discard {
        /// The entry's key, as `list` reports it
        key: String,
    },
}

/// What a command prints, and whether it found what it was asked for.
struct Outcome {
    text: Vec<u8>,
    found: bool,
}

const NOT_FOUND: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match run(&cli) {
        Ok(outcome) => outcome,
        Err(e) => {
            eprintln!("atlock: {e}");
            return ExitCode::FAILURE;
        }
    };
    // A reader that went away (a closed pipe) is not an error of ours.
    let _ = std::io::stdout().write_all(&outcome.text);
    if outcome.found { ExitCode::SUCCESS } else { ExitCode::from(NOT_FOUND) }
}

fn run(cli: &Cli) -> Result<Outcome> {
    if let Command::Version = cli.command {
        return Ok(version(cli.json));
    }
    let mut config = match &cli.config {
        Some(path) => Config::load(path)?,
        None => Config::without_file()?,
    };
    if !matches!(cli.command, Command::Unlock { .. } | Command::UnlockPull { .. } | Command::Discard { .. }) {
        // Looking leaves no trace, and must not begin the server's audit trail as another user.
        config.locking.audit.file = None;
    }
    let service = open(config)?;
    let outcome = command(&service, cli)?;
    service.close()?;
    Ok(outcome)
}

/// Opens what the settings name; beside a server in hybrid mode, which has the local store open, Redis alone.
fn open(mut config: Config) -> Result<Service> {
    let open = |config: &Config| Service::open(config, None, Arc::new(SystemClock));
    if config.mode() == Mode::Strict && config.locking.backend == Backend::Boltdb {
        return Err(Error::new(
            Code::Unsupported,
            "in strict mode on Atlantis's own store (locking.backend: boltdb) only the server can look at the locks: see its page, \
             or GET /api/locks",
        ));
    }
    if config.mode() != Mode::Hybrid {
        return open(&config);
    }
    // What the command line does does not depend on it, and the BoltDB file is the server's.
    config.locking.backend = Backend::Sled;
    match open(&config) {
        Err(e) if e.code() == Code::StoreBusy => {
            eprintln!("atlock: the server has the local store open: this is what Redis says");
            config.locking.enhanced.compatibility_mode = Mode::Native;
            config.locking.data_dir = None;
            open(&config)
        }
        result => result,
    }
}

fn command(service: &Service, cli: &Cli) -> Result<Outcome> {
    match &cli.command {
        Command::Version => Ok(version(cli.json)),
        Command::Status => status(service, cli.json),
        Command::Metrics => Ok(metrics(service)),
        Command::List => Ok(listing(service.list()?, cli.json, true)),
        Command::UnlockPull { repo, number } => {
            let released = service.unlock_by_pull(repo, *number)?;
            let found = !released.is_empty();
            Ok(listing(released, cli.json, found))
        }
        Command::Get { key } => Ok(one(service.get_lock(&target(key))?, key, cli.json)),
        Command::Unlock { key } => Ok(one(service.unlock(&target(key))?, key, cli.json)),
        Command::Discard { key } => Ok(one(service.discard(&target(key))?, key, cli.json)),
    }
}

fn target(key: &str) -> Vec<u8> {
    serde_json::json!({ "Key": key }).to_string().into_bytes()
}

fn version(json: bool) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let text = if json { format!("{}\n", serde_json::json!({ "version": version })) } else { format!("atlock {version}\n") };
    Outcome { text: text.into_bytes(), found: true }
}

fn status(service: &Service, json: bool) -> Result<Outcome> {
    let (health, status) = (service.health(), service.status());
    if json {
        let both = serde_json::json!({ "status": status, "health": health });
        return Ok(Outcome { text: format!("{both}\n").into_bytes(), found: true });
    }
    let mut text = format!("mode      {}\n", status.mode);
    for (name, store) in [("redis", &health.enhanced), ("legacy", &health.legacy)] {
        match store.as_ref().map(|store| (store, &store.error)) {
            None => {}
            Some((store, None)) => text += &format!("{name:<9} answered in {:.2} ms\n", store.response_time),
            Some((_, Some(error))) => text += &format!("{name:<9} does not work: {error}\n"),
        }
    }
    if let Some(report) = &status.hybrid {
        text += &hybrid(report);
    }
    for warning in &status.warnings {
        text += &format!("warning   {warning}\n");
    }
    Ok(Outcome { text: text.into_bytes(), found: true })
}

fn hybrid(report: &Report) -> String {
    let because = |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let mut text = format!("breaker   {} since {}{}\n", report.circuit_state, time(report.since), because(&report.cause));
    text += &format!("armed     {}{}\n", if report.armed { "yes" } else { "no" }, because(&report.unarmed_because));
    if report.journal_length > 0 {
        text += &format!("journal   {} keys that Redis does not know of yet\n", report.journal_length);
    }
    for ConflictReport { key, local_pull, redis_pull, at } in &report.conflicts {
        let pull = |num: &Option<i64>| num.map_or_else(|| "somebody".to_owned(), |num| format!("pull #{num}"));
        let (local, redis) = (pull(local_pull), pull(redis_pull));
        text += &format!("conflict  {key:?}  held by {redis} in Redis, granted to {local} here, found {}\n", time(*at));
    }
    if let Some(recovery) = &report.last_recovery {
        text += &format!("recovery  {}: {recovery}\n", time(recovery.at));
    }
    text
}

/// Microseconds since 1970, for a person.
fn time(micros: u64) -> String {
    format_rfc3339_millis(UNIX_EPOCH + Duration::from_micros(micros)).to_string()
}

fn metrics(service: &Service) -> Outcome {
    // A store that does not answer is counted, too.
    let _ = service.ping();
    Outcome { text: service.metrics().into_bytes(), found: true }
}

fn listing(listing: Listing, json: bool, found: bool) -> Outcome {
    if json {
        let mut text = listing.into_json().0;
        text.push(b'\n');
        return Outcome { text, found };
    }
    let mut text = String::new();
    for value in listing.values() {
        text += &line(value, "");
    }
    for entry in listing.unreadable() {
        text += &format!("unreadable  {:?}: {}\n", entry.key, entry.reason);
    }
    if let Some(reason) = listing.incomplete() {
        text += &format!("incomplete  there may be more: {reason}\n");
    }
    if text.is_empty() {
        text += "no locks\n";
    }
    Outcome { text: text.into_bytes(), found }
}

fn one(value: Option<Vec<u8>>, key: &str, json: bool) -> Outcome {
    match value {
        None if json => Outcome { text: b"null\n".to_vec(), found: false },
        None => Outcome { text: format!("no lock {key:?}\n").into_bytes(), found: false },
        Some(mut value) if json => {
            value.push(b'\n');
            Outcome { text: value, found: true }
        }
        Some(value) => Outcome { text: line(&value, key).into_bytes(), found: true },
    }
}

/// One lock for a person: key, holder, time. Never the clone URL, which holds a token.
fn line(value: &[u8], key: &str) -> String {
    let lock = match ProjectLock::parse(value) {
        Ok(lock) => lock,
        Err(e) => return format!("{key:?}: {}\n", Error::message(&e)),
    };
    let details: serde_json::Value = serde_json::from_slice(value).unwrap_or_default();
    let user = details["User"]["Username"].as_str().unwrap_or("?");
    let time = details["Time"].as_str().unwrap_or("?");
    format!("{:?}  pull #{}  {user}  {time}\n", lock.fields().key(), lock.pull().num)
}

#[cfg(test)]
mod tests {
    use atlock::health::StoreHealth;
    use atlock::hybrid::status::{Fallbacks, Recovery};

    use super::*;

    #[test]
    fn the_state_of_hybrid_mode_is_told_in_lines() {
        let at = 1_795_508_220_123_456;
        let conflict = ConflictReport { key: "acme/infra/a/default/".to_owned(), local_pull: Some(1), redis_pull: Some(2), at };
        let command = ConflictReport { key: "apply".to_owned(), local_pull: None, redis_pull: None, at };
        let report = Report {
            fallback_active: true,
            circuit_state: "open".to_owned(),
            cause: Some("refused".to_owned()),
            since: at,
            armed: false,
            unarmed_because: Some("instances is many".to_owned()),
            journal_length: 3,
            conflicts: vec![conflict, command],
            last_recovery: Some(Recovery { at, duration_ms: 12, pushed: 1, restored: 2, adopted: 3, conflicts: 1, taken: 0 }),
            fallbacks: Fallbacks::default(),
            needs_local: true,
            enhanced: StoreHealth::default(),
            legacy: StoreHealth::default(),
            host_store: None,
        };
        let lines = [
            "breaker   open since 2026-11-24T08:17:00.123Z: refused",
            "armed     no: instances is many",
            "journal   3 keys that Redis does not know of yet",
            r#"conflict  "acme/infra/a/default/"  held by pull #2 in Redis, granted to pull #1 here, found 2026-11-24T08:17:00.123Z"#,
            r#"conflict  "apply"  held by somebody in Redis, granted to somebody here, found 2026-11-24T08:17:00.123Z"#,
            "recovery  2026-11-24T08:17:00.123Z: 1 pushed to Redis, 2 restored there, 3 adopted from it, 1 in conflict; 12 ms",
        ];
        assert_eq!(hybrid(&report).lines().collect::<Vec<_>>(), lines);

        let calm = Report {
            circuit_state: "closed".to_owned(),
            cause: None,
            armed: true,
            unarmed_because: None,
            journal_length: 0,
            conflicts: Vec::new(),
            last_recovery: None,
            ..report
        };
        assert_eq!(hybrid(&calm), "breaker   closed since 2026-11-24T08:17:00.123Z\narmed     yes\n");
    }
}

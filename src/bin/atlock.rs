//! The operator's command line: look at the locks of a configuration, and release them by hand.
//!
//! Exit status: 0 done, 1 an error (its text is on stderr), 2 wrong usage, 3 there was no such lock.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::{Error, Result};
use atlock::model::ProjectLock;
use atlock::service::Service;
use atlock::store::Listing;
use clap::{Parser, Subcommand};

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
    /// Tells the mode, whether the store answers, and what endangers the locks
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
    let service = Service::open(&config, None, Arc::new(SystemClock))?;
    let outcome = command(&service, cli)?;
    service.close()?;
    Ok(outcome)
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
    for warning in &status.warnings {
        text += &format!("warning   {warning}\n");
    }
    Ok(Outcome { text: text.into_bytes(), found: true })
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

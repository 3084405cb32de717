//! The operator's command line: look at the locks of a configuration, and release them by hand.
//!
//! Invariants:
//! - A server that runs and listens in `data_dir` is asked: what it answers is so, and what it releases is recorded by it.
//! - Without it, a command that looks changes nothing, on the disk or in Redis. One that changes opens the stores as a server does.
//! - Output is the same, whoever answered; where that matters, stderr says who did.
//!
//! Exit status: 0 done, 1 an error, a part of what was asked for, something that the doctor found, or a lock that is not held (the reason is on
//! stderr), 2 wrong usage, 3 there was no such lock, freeze or place in a queue; of `status --check`, 4 locks are granted, but not as they
//! should be, 5 none is granted.

mod args;
mod ask;
mod audit;
mod config;
mod doctor;
mod generate;
mod migrate;
mod mode;
mod open;
mod queue;
mod remark;
mod remote;
mod seal;
mod show;
mod table;
mod top;
mod top_state;
mod top_view;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use atlock::config::Config;
use atlock::domain::lock::ProjectLock;
use atlock::error::{Code, Error, Result};
use atlock::migration_command::{self, failure};
use clap::Parser as _;

use self::args::{Arguments, AuditCommand, Command, ConfigCommand, Question};
use self::ask::confirmed;
use self::migrate::Elsewhere;
use self::open::{Source, target};
use self::remark::remark;
use self::remote::Remote;
use self::show::Outcome;

const WRONG_USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(seconds) = arguments.watch.filter(|_| !matches!(arguments.command, Command::Top)) else {
        return once(&arguments).0;
    };
    if matches!(&arguments.command, Command::Ask(question) if question.changes()) {
        remark("--watch is for commands that only look");
        return ExitCode::from(WRONG_USAGE);
    }
    loop {
        if io::stdout().is_terminal() {
            // Clears the screen. If nobody reads, the output says so.
            let _ = io::stdout().write_all(b"\x1b[2J\x1b[H");
        }
        let (status, is_read) = once(&arguments);
        if !is_read {
            return status;
        }
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

/// Runs the command once: its exit status, and whether somebody reads its output.
fn once(arguments: &Arguments) -> (ExitCode, bool) {
    let outcome = match run(arguments) {
        Ok(outcome) => outcome,
        Err(e) => {
            failed(&e, arguments.json);
            return (ExitCode::FAILURE, true);
        }
    };
    let printed = print(&outcome);
    if let Some(reason) = &outcome.incomplete {
        remark(reason);
        return (ExitCode::FAILURE, printed.1);
    }
    printed
}

fn failed(error: &Error, json: bool) {
    // A failed write has nowhere to be told.
    let _ = io::stderr().write_all(failure(error, json).as_bytes());
}

fn print(outcome: &Outcome) -> (ExitCode, bool) {
    let status = ExitCode::from(if outcome.found { outcome.status } else { NOT_FOUND });
    let mut stdout = io::stdout();
    match stdout.write_all(&outcome.text).and_then(|()| stdout.flush()) {
        Ok(()) => (status, true),
        // A reader that went away is not an error of ours.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => (status, false),
        Err(e) => {
            remark(&format!("the command was carried out, but its output cannot be written: {e}"));
            (ExitCode::FAILURE, false)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Outcome> {
    let (command, json) = (&arguments.command, arguments.json);
    if arguments.server.is_some() && !matches!(command, Command::Ask(_) | Command::Top) {
        let text = "--server is for questions to a server: run this command on the server's machine";
        return Err(Error::new(Code::InvalidArgument, text));
    }
    let path = arguments.config.as_deref();
    match command {
        Command::Version => Ok(show::version(json)),
        Command::Generate { folder } => generate::generate(folder),
        Command::Config(ConfigCommand::Check { file }) => config::check(file.as_deref().or(path), json),
        Command::Config(ConfigCommand::Show) => config::show(path, json),
        Command::Audit(AuditCommand::Verify { path: trail, contains }) => {
            audit::check(trail.as_deref(), *contains, &settings(path)?, json)
        }
        Command::Migrate(asked) => match migrate::beside_a_server(asked, json)? {
            Some(moved) => Ok(moved),
            None => migrate::told(migration_command::migrate(asked, path, json, &Elsewhere)),
        },
        Command::Rollback(asked) => migrate::told(migration_command::rollback(asked, path, json, &Elsewhere)),
        Command::Restore(asked) => migrate::told(migration_command::restore(asked, path, json, &Elsewhere)),
        Command::Mode { mode: None } => mode::show(path, json),
        Command::Mode { mode: Some(mode) } => mode::change(path, *mode, json),
        Command::Reload => mode::reload(path, json),
        Command::Reseal { plain } => seal::reseal(&settings(path)?, *plain, json),
        Command::Compact => seal::compact(&settings(path)?, json),
        Command::Doctor { fix, bundle } => doctor::doctor(path, bundle.as_deref(), fix.then_some(arguments.yes), json),
        Command::Top => live(arguments),
        Command::Ask(question) => answer(question, arguments),
    }
}

/// The answer to what is asked of the running server, or of its stores.
fn answer(question: &Question, arguments: &Arguments) -> Result<Outcome> {
    let (path, json) = (arguments.config.as_deref(), arguments.json);
    if let Some(asked) = question.confirmation().filter(|_| !arguments.yes)
        && !confirmed(&asked)?
    {
        return Err(Error::new(Code::InvalidArgument, "nothing was changed"));
    }
    let mut source = match &arguments.server {
        Some(url) => Source::Remote(Remote::open(url, arguments.token_file.as_deref())?),
        None => Source::open(settings(path)?, question.changes())?,
    };
    let outcome = match question {
        Question::Status { check } => {
            let health = source.ask("health", "null")?;
            let status = if *check { show::check(&health)? } else { 0 };
            show::status(&source.ask("status", "null")?, &health, json).map(|told| Outcome { status, ..told })
        }
        Question::Metrics => {
            if let Source::Stores(service) = &source {
                // Nothing was asked of them yet. A store that does not answer is counted, too.
                let _ = service.ping();
            }
            show::metrics(&source.ask("metrics", "null")?)
        }
        Question::List => {
            let locks = source.ask("list", "null")?;
            // A server of an older version does not tell.
            let applies = if json { None } else { source.ask("command_lock", "\"apply\"").ok() };
            show::list(locks, applies.as_deref(), json)
        }
        Question::UnlockPull { repo, number } => {
            let pull = serde_json::json!({ "RepoFullName": repo, "PullNum": number });
            show::released(source.ask("unlock_by_pull", &pull.to_string())?, json)
        }
        Question::Get { key } => {
            let (lock, keys) = (source.ask("get", &target(key))?, serde_json::json!([key]).to_string());
            show::details(lock, &source.ask("lock_info", &keys)?, key, json)
        }
        Question::Unlock { key } => Ok(show::one(source.ask("unlock", &target(key))?, key, json)),
        Question::Discard { key, force } => discard(&mut source, key, *force, json),
        about_waiting => queue::answer(about_waiting, &mut source, json),
    }?;
    source.close()?;
    Ok(outcome)
}

fn settings(path: Option<&Path>) -> Result<Config> {
    path.map_or_else(Config::without_file, Config::load)
}

/// Shows a running server until a key says so.
fn live(arguments: &Arguments) -> Result<Outcome> {
    let period = Duration::from_secs(arguments.watch.unwrap_or(2));
    match arguments.server.clone() {
        Some(url) => top::top(period, move || Ok(Source::Remote(Remote::open(&url, None)?))),
        None => {
            let config = settings(arguments.config.as_deref())?;
            top::top(period, move || Source::running(&config))
        }
    }?;
    Ok(Outcome::lines(String::new(), true))
}

/// Removes what is no lock, and a lock only if that is forced.
fn discard(source: &mut Source, key: &str, force: bool, json: bool) -> Result<Outcome> {
    let is_lock = match source.ask("get", &target(key)) {
        Ok(value) => ProjectLock::parse(&value).is_ok(),
        Err(e) if e.code() == Code::EntryUnreadable => false,
        Err(e) => return Err(e),
    };
    if is_lock && !force {
        let text = format!("{key:?} is a lock, and can be read: release it with `atlock unlock`, or remove it with --force");
        return Err(Error::new(Code::InvalidArgument, text));
    }
    Ok(show::one(source.ask("discard", &target(key))?, key, json))
}

//! The operator's command line: look at the locks of a configuration, and release them by hand.
//!
//! Invariants:
//! - A server that runs and listens in `data_dir` is asked: what it answers is so, and what it releases is recorded by it.
//! - Without it, a command that looks changes nothing, on the disk or in Redis. One that changes opens the stores as a server does.
//! - Output is the same, whoever answered; where that matters, stderr says who did.
//!
//! Exit status: 0 done, 1 an error, a part of what was asked for, or a lock that is not held (the reason is on stderr), 2 wrong usage, 3 there
//! was no such lock, freeze or place in a queue.

mod args;
mod migrate;
mod migrate_args;
mod open;
mod queue;
mod remark;
mod show;

use std::io::{self, Write as _};
use std::process::ExitCode;

use atlock::config::Config;
use atlock::error::Result;
use clap::Parser as _;

use self::args::{Arguments, Command, Question};
use self::open::{Source, target};
use self::remark::remark;
use self::show::Outcome;

const NOT_FOUND: u8 = 3;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match run(&arguments) {
        Ok(outcome) => outcome,
        Err(e) => {
            remark(&e.to_string());
            return ExitCode::FAILURE;
        }
    };
    let printed = print(&outcome);
    if let Some(reason) = &outcome.incomplete {
        remark(reason);
        return ExitCode::FAILURE;
    }
    printed
}

fn print(outcome: &Outcome) -> ExitCode {
    let mut stdout = io::stdout();
    match stdout.write_all(&outcome.text).and_then(|()| stdout.flush()) {
        // A reader that went away is not an error of ours.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            remark(&format!("the command was carried out, but its output cannot be written: {e}"));
            ExitCode::FAILURE
        }
        _ if outcome.found => ExitCode::SUCCESS,
        _ => ExitCode::from(NOT_FOUND),
    }
}

fn run(arguments: &Arguments) -> Result<Outcome> {
    let (command, json) = (&arguments.command, arguments.json);
    let settings = arguments.config.as_deref();
    let question = match command {
        Command::Version => return Ok(show::version(json)),
        Command::Migrate(asked) => return migrate::migrate(asked, settings, json),
        Command::Rollback(asked) => return migrate::rollback(asked, settings, json),
        Command::Restore(asked) => return migrate::restore(asked, settings, json),
        Command::Ask(question) => question,
    };
    let config = match &arguments.config {
        Some(path) => Config::load(path)?,
        None => Config::without_file()?,
    };
    let mut source = Source::open(config, question.changes())?;
    let outcome = match question {
        Question::Status => show::status(&source.ask("status", "null")?, &source.ask("health", "null")?, json),
        Question::Metrics => {
            if let Source::Stores(service) = &source {
                // Nothing was asked of them yet. A store that does not answer is counted, too.
                let _ = service.ping();
            }
            show::metrics(&source.ask("metrics", "null")?)
        }
        Question::List => show::list(source.ask("list", "null")?, json),
        Question::UnlockPull { repo, number } => {
            let pull = serde_json::json!({ "RepoFullName": repo, "PullNum": number });
            show::released(source.ask("unlock_by_pull", &pull.to_string())?, json)
        }
        Question::Get { key } => Ok(show::one(source.ask("get", &target(key))?, key, json)),
        Question::Unlock { key } => Ok(show::one(source.ask("unlock", &target(key))?, key, json)),
        Question::Discard { key } => Ok(show::one(source.ask("discard", &target(key))?, key, json)),
        about_waiting => queue::answer(about_waiting, &mut source, json),
    }?;
    source.close()?;
    Ok(outcome)
}

//! The operator's command line: look at the locks of a configuration, and release them by hand.
//!
//! Invariants:
//! - A server that runs and listens in `data_dir` is asked: what it answers is so, and what it releases is recorded by it.
//! - Without it, a command that looks changes nothing, on the disk or in Redis. One that changes opens the stores as a server does.
//! - Output is the same, whoever answered; where that matters, stderr says who did.
//!
//! Exit status: 0 done, 1 an error, a part of what was asked for, a lock that is not held, or what `doctor` warns of (the reason is on
//! stderr), 2 wrong usage, 3 there was no such lock, freeze or place in a queue.

mod args;
mod config;
mod doctor;
mod open;
mod queue;
mod remark;
mod show;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use atlock::config::Config;
use atlock::domain::lock::ProjectLock;
use atlock::error::{Code, Error, Result};
use clap::Parser as _;

use self::args::{Arguments, Command, ConfigCommand, Question};
use self::open::{Source, target};
use self::remark::remark;
use self::show::Outcome;

const NOT_FOUND: u8 = 3;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match run(&arguments) {
        Ok(outcome) => outcome,
        Err(e) if arguments.json => {
            let told = serde_json::json!({ "error": { "code": e.code().name(), "message": e.message() } });
            let _ = writeln!(io::stderr(), "{told}");
            return ExitCode::FAILURE;
        }
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

/// Asks a person, if there is one at a terminal.
fn confirmed(question: &str) -> Result<bool> {
    let (mut input, mut output) = (io::stdin(), io::stderr());
    if !input.is_terminal() || !output.is_terminal() {
        return Ok(true);
    }
    let failed =
        |e: io::Error| Error::new(Code::InvalidArgument, format!("nothing was changed: the terminal cannot be asked: {e}"));
    write!(output, "{question} [y/N] ").and_then(|()| output.flush()).map_err(failed)?;
    let mut answer = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(&mut input), &mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn run(arguments: &Arguments) -> Result<Outcome> {
    let (command, json) = (&arguments.command, arguments.json);
    let path = arguments.config.as_deref();
    let question = match command {
        Command::Version => return Ok(show::version(json)),
        Command::Config(ConfigCommand::Check { file }) => return config::check(file.as_deref().or(path), json),
        Command::Config(ConfigCommand::Show) => return config::show(path, json),
        Command::Doctor { bundle } => return doctor::doctor(path, bundle.as_deref(), json),
        Command::Ask(question) => question,
    };
    if let Some(asked) = question.confirmation().filter(|_| !arguments.yes)
        && !confirmed(&asked)?
    {
        return Err(Error::new(Code::InvalidArgument, "nothing was changed"));
    }
    let config = match path {
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
        Question::Get { key } => Ok(show::one(source.ask("get", &target(key))?, key, json)),
        Question::Unlock { key } => Ok(show::one(source.ask("unlock", &target(key))?, key, json)),
        Question::Discard { key, force } => {
            if !force && ProjectLock::parse(&source.ask("get", &target(key))?).is_ok() {
                let text =
                    format!("{key:?} is a lock, and can be read: release it with `atlock unlock`, or remove it with --force");
                return Err(Error::new(Code::InvalidArgument, text));
            }
            Ok(show::one(source.ask("discard", &target(key))?, key, json))
        }
        about_waiting => queue::answer(about_waiting, &mut source, json),
    }?;
    source.close()?;
    Ok(outcome)
}

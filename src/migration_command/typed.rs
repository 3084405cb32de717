//! The command line of the linked server's program: `atlantis locking …`, with the options, output and exit statuses of `atlock …`.
//!
//! Exit status: 0 done, 1 an error or a part of what was asked for, 2 wrong usage.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::args::{Migrate, Restore, Rollback};
use super::run::{migrate, restore, rollback};
use super::show::Printed;
use crate::error::{Error, Result};
use crate::migrate::HostFiles;

/// What came of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// The exit status.
    pub status: u8,
    /// For stdout.
    pub out: Vec<u8>,
    /// For stderr.
    pub err: String,
}

/// What was typed.
#[derive(Parser)]
#[command(name = "atlantis locking", about = "Moves all locks from one store to another while no server runs, and back", version)]
struct Arguments {
    /// The settings file, for its audit trail and the key of what is sealed
    #[arg(long, short, global = true, env = "ATLOCK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Moves all locks from one store to another; without --execute it only tells what it would do
    Migrate(Migrate),
    /// Undoes a migration, at whatever point it is
    Rollback(Rollback),
    /// Puts a backup of a migration into a store
    Restore(Restore),
}

/// Runs what was typed behind the program's name; `files` opens Atlantis's BoltDB file.
pub fn typed(args: &[String], files: &dyn HostFiles) -> Typed {
    let name = "atlantis locking".to_owned();
    let arguments = match Arguments::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(arguments) => arguments,
        Err(usage) => {
            let status = u8::try_from(usage.exit_code()).unwrap_or(u8::MAX);
            let text = usage.to_string();
            // Help was asked for, or the usage was wrong.
            let (out, err) = if usage.use_stderr() { (Vec::new(), text) } else { (text.into_bytes(), String::new()) };
            return Typed { status, out, err };
        }
    };
    match run(&arguments, files) {
        Ok(told) => {
            let err = told.remarks.iter().chain(&told.incomplete).map(|remark| format!("atlock: {remark}\n")).collect();
            Typed { status: u8::from(told.incomplete.is_some()), out: told.text, err }
        }
        Err(e) => Typed { status: 1, out: Vec::new(), err: failure(&e, arguments.json) },
    }
}

fn run(arguments: &Arguments, files: &dyn HostFiles) -> Result<Printed> {
    let (config, json) = (arguments.config.as_deref(), arguments.json);
    match &arguments.command {
        Command::Migrate(asked) => migrate(asked, config, json, files),
        Command::Rollback(asked) => rollback(asked, config, json, files),
        Command::Restore(asked) => restore(asked, config, json, files),
    }
}

/// What is said on stderr of a command that failed.
pub fn failure(error: &Error, json: bool) -> String {
    if json {
        let told = serde_json::json!({ "error": { "code": error.code().name(), "message": error.message() } });
        return format!("{told}\n");
    }
    format!("atlock: {error}\n")
}

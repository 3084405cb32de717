//! What may be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// What was typed.
#[derive(Parser)]
#[command(name = "atlock", about = "Looks at Atlantis's locks and releases them", disable_version_flag = true)]
pub struct Arguments {
    /// The settings file; without it, only the environment variables count
    #[arg(long, short, global = true, env = "ATLOCK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Prints JSON, as the library gives it; lock values hold clone URLs with their tokens
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Subcommand)]
pub enum Command {
    /// Prints the library's version
    Version,
    #[command(flatten)]
    Ask(Question),
}

/// What is asked of the running server; without one, all but the last three look at its stores and change nothing.
#[derive(Subcommand)]
pub enum Question {
    /// Tells the mode, whether the stores answer, the state of hybrid mode, and what endangers the locks
    Status,
    /// Prints, for Prometheus, the counters of the running server; without one, asks the store once and prints how that ended
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

impl Question {
    /// Whether it may change locks.
    pub fn changes(&self) -> bool {
        matches!(self, Question::Unlock { .. } | Question::UnlockPull { .. } | Question::Discard { .. })
    }
}

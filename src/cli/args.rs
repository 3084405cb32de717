//! What may be typed.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use atlock::audit::Hash;
use atlock::migration_command::{Migrate, Restore, Rollback};
use clap::{Args, Parser, Subcommand, ValueEnum};
use humantime_serde::re::humantime::{parse_duration, parse_rfc3339_weak};

/// What was typed.
#[derive(Parser)]
#[command(name = "atlock", about = "Looks at Atlantis's locks and releases them", version)]
pub struct Arguments {
    /// The settings file; without it, only the environment variables count
    #[arg(long, short, global = true, env = "ATLOCK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Prints JSON, as the library gives it; lock values hold clone URLs with their tokens
    #[arg(long, global = true)]
    pub json: bool,
    /// Looks again and again, every so many seconds, until it is stopped
    #[arg(long, global = true, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
    /// Changes locks without asking; without a terminal nobody is asked
    #[arg(long, short, global = true)]
    pub yes: bool,
    /// Asks the linked server at this URL, such as https://atlantis.example.com, by its API, instead of the one of this machine
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// The file that has Atlantis's --api-secret: for what changes something there, and for what not everybody hears; or the variable
    /// ATLOCK_API_TOKEN has it
    #[arg(long, global = true, value_name = "FILE", requires = "server")]
    pub token_file: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Subcommand)]
pub enum Command {
    /// Prints the library's version
    Version,
    /// Writes completions for bash, zsh and fish, and man pages, into a folder; `make install` does so
    #[command(hide = true)]
    Generate {
        /// The folder, which is made if it is not there
        folder: PathBuf,
    },
    /// Reads the settings, and opens nothing
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Moves all locks from one store to another while no server runs; without --execute it only tells what it would do
    Migrate(Migrate),
    /// Looks at the audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Undoes a migration, at whatever point it is
    Rollback(Rollback),
    /// Puts a backup of a migration into a store
    Restore(Restore),
    /// Looks for what is wrong with the settings, the server, its stores and their locks, and says what to do; without --fix it changes nothing
    Doctor {
        /// Says what it would put right by itself, which is no lock; asks at a terminal whether to do so, and does so at once with --yes
        #[arg(long)]
        fix: bool,
        /// Writes what was found, the settings and the status to a new file for a bug report, without secrets and lock values
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
    },
    /// Shows a running server live: who decides, its stores, locks, queue and rates; every two seconds, or as --watch says
    Top,
    /// Tells the mode of the running server, or changes it without a restart, also in its settings file
    Mode {
        /// The mode that it is to be; without one, nothing is changed
        mode: Option<NewMode>,
    },
    /// While no server runs: seals all of the embedded store under its newest key (locking.encryption); a kill does no harm, type it again
    Reseal {
        /// The way back: writes all of it in clear, so that the setting can be taken away
        #[arg(long)]
        plain: bool,
    },
    /// While no server runs: writes the embedded store into fresh files, so that released locks leave nothing there; a kill does no harm
    Compact,
    /// Lets the running server read its settings again, as SIGHUP does, and change its mode and store without a restart
    Reload,
    #[command(flatten)]
    Ask(Question),
}

/// A mode to change to.
#[derive(Clone, Copy, ValueEnum)]
pub enum NewMode {
    /// One store, as stock
    Strict,
    /// Redis, and a local store that stands in for it
    Hybrid,
    /// Redis alone
    Native,
}

/// What is asked of the settings.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Tells what is wrong with a settings file and the environment variables
    Check {
        /// The file; without it, the one of --config
        file: Option<PathBuf>,
    },
    /// Prints the settings that hold, and where each comes from; passwords are hidden
    Show,
}

/// What is asked of the audit trail.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Looks whether a line is missing, changed, moved or added, and prints the last line's hash: 0 if all is whole, 1 if not
    Verify {
        /// The trail's file, or its folder; without it, locking.audit.file of the settings
        #[arg(value_name = "FILE|FOLDER")]
        path: Option<PathBuf>,
        /// A hash that was printed before: its line must be there, so that no newer one was cut off before it
        #[arg(long, value_name = "HASH", value_parser = hash)]
        contains: Option<Hash>,
    },
}

fn hash(text: &str) -> Result<Hash, String> {
    Hash::parse(text).ok_or_else(|| "a hash has 64 hexadecimal digits, as `atlock audit verify` prints it".to_owned())
}

/// What is asked of the running server; without one, all that only look do so at its stores and change nothing.
#[derive(Subcommand)]
pub enum Question {
    /// Tells the mode, whether the stores answer, the state of hybrid mode, and what endangers the locks
    Status {
        /// Tells by its exit status whether locks are granted: 0 as they should be, 4 otherwise (degraded), 5 none is
        #[arg(long)]
        check: bool,
    },
    /// Prints, for Prometheus, the counters of the running server; without one, asks the store once and prints how that ended
    Metrics,
    /// Lists all project locks
    List,
    /// Shows one lock
    Get {
        /// The lock's key, as `list` prints it: repo/path/workspace/project
        key: String,
    },
    /// Releases one lock. Its plan stays until a linked server with the apply guard finds that the lock is gone, a minute or two later
    Unlock {
        /// The lock's key, as `list` prints it
        key: String,
    },
    /// Releases every lock of a pull request; its plans stay as with `unlock`
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
        /// Removes it also if it is a lock, which `unlock` releases as well
        #[arg(long)]
        force: bool,
    },
    /// Lists who waits for locks, and until when a free lock is kept for whom
    Queue {
        /// Full name of the repository; without it, all
        repo: Option<String>,
    },
    /// Says why a lock, or each lock of a pull request, is as it is, and what would free it
    Explain {
        /// The lock's key, as `list` prints it; or the repository's full name
        #[arg(value_name = "KEY|REPO")]
        named: String,
        /// Number of the pull request, if a repository was named
        pull: Option<i64>,
        #[command(flatten)]
        of: Host,
    },
    /// Tells by its exit status whether a pull request holds a lock: 0 if it does, 1 if not
    Check {
        /// The lock's key, as `list` prints it; ATLOCK_KEY in a workflow
        key: String,
        /// Number of the pull request; ATLOCK_PULL in a workflow
        #[arg(long, value_name = "N")]
        pull: i64,
        /// The fencing token of the grant that is to stand still; ATLOCK_TOKEN in a workflow
        #[arg(long, value_name = "T", value_parser = clap::value_parser!(u64).range(1..))]
        token: Option<u64>,
        #[command(flatten)]
        of: Host,
    },
    /// Takes a pull request out of the queue; what it holds stays with it
    Leave {
        /// Full name of the repository
        repo: String,
        /// Number of the pull request
        pull: i64,
        /// The key of the one lock that it is to wait for no more; without it, all
        key: Option<String>,
        #[command(flatten)]
        of: Host,
    },
    /// Lets nobody take locks for now; who has them keeps them
    Freeze(Freeze),
    /// Ends a freeze
    Thaw {
        /// The freeze's id, as `freezes` prints it
        id: String,
    },
    /// Lists the freezes that are not over
    Freezes,
    /// Lists the circles of pull requests that wait for each other, and the cheapest way out of each; asks the running server alone
    Deadlocks,
}

/// On which Git host a pull request is: of use where servers of two hosts have repositories of one name.
#[derive(Args)]
pub struct Host {
    /// Name of the pull request's Git host, for example github.com; without it, any
    #[arg(long, default_value = "", hide_default_value = true)]
    pub host: String,
}

/// Which locks are frozen, why, by whom, and until when. In a pattern `*` stands for any text.
#[derive(Args)]
#[group(skip)]
pub struct Freeze {
    /// Pattern of the repositories' full names, for example acme/infra or 'acme/*'
    pub pattern: String,
    /// Pattern of the folders
    #[arg(long, default_value = "*", value_name = "PATTERN")]
    pub path: String,
    /// Pattern of the workspaces
    #[arg(long, default_value = "*", value_name = "PATTERN")]
    pub workspace: String,
    /// Pattern of the projects' names
    #[arg(long, default_value = "*", value_name = "PATTERN")]
    pub project: String,
    /// Why; whoever is refused reads it
    #[arg(long)]
    pub reason: String,
    /// Who wants it
    #[arg(long)]
    pub owner: String,
    /// Until when: 2026-12-24T18:00:00Z, or a time from now, such as 2h
    #[arg(long, value_name = "TIME", required_unless_present = "open_ended", conflicts_with = "open_ended", value_parser = end)]
    pub until: Option<u64>,
    /// Until somebody ends it
    #[arg(long)]
    pub open_ended: bool,
    /// Lets plans take locks as always, so that only applies are to be refused
    #[arg(long)]
    pub allow_plans: bool,
}

/// A moment, in microseconds since 1970.
fn end(text: &str) -> Result<u64, String> {
    let wrong = || "give a time such as 2026-12-24T18:00:00Z, or a time from now, such as 2h".to_owned();
    let at = match parse_rfc3339_weak(text) {
        Ok(at) => at,
        Err(_) => SystemTime::now().checked_add(parse_duration(text).map_err(|_| wrong())?).ok_or_else(wrong)?,
    };
    let since = at.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
    u64::try_from(since.as_micros()).map_err(|_| wrong())
}

impl Question {
    /// What a person is asked before it is done; `None`: it is done.
    pub fn confirmation(&self) -> Option<String> {
        match self {
            Question::Unlock { key } => Some(format!("Release the lock {key:?}?")),
            Question::UnlockPull { repo, number } => Some(format!("Release all locks of #{number} of {repo:?}?")),
            Question::Discard { key, .. } => Some(format!("Remove what is stored at {key:?}?")),
            _ => None,
        }
    }

    /// Whether it may change something.
    pub fn changes(&self) -> bool {
        match self {
            Question::Unlock { .. } | Question::UnlockPull { .. } | Question::Discard { .. } => true,
            Question::Leave { .. } | Question::Freeze(_) | Question::Thaw { .. } => true,
            Question::Status { .. } | Question::Metrics | Question::List | Question::Get { .. } => false,
            Question::Queue { .. } | Question::Explain { .. } | Question::Check { .. } => false,
            Question::Freezes | Question::Deadlocks => false,
        }
    }
}

//! What may be typed of migrations.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::audit::By;
use crate::migrate::OnConflict;

/// Stores are named as boltdb:FILE, sled:FOLDER, redis:HOST:PORT[/DATABASE], redis:unix:///SOCKET, sentinel:MASTER@HOST:PORT,…, cluster:HOST:PORT,…, or config:FILE for the store of a settings file.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Migrate {
    /// The store that the locks are in
    #[arg(long, value_name = "STORE", required = true)]
    pub from: Option<String>,
    /// The store that they are to be in
    #[arg(long, value_name = "STORE", required = true)]
    pub to: Option<String>,
    /// Folder of the backup and the manifest; the same command with the same folder goes on
    #[arg(long, value_name = "FOLDER", default_value = "atlock-migration")]
    pub work: PathBuf,
    /// Does it; without this, a backup is written and told what would be done
    #[arg(long)]
    pub execute: bool,
    /// Removes from the first store, at the end, what was moved
    #[arg(long)]
    pub clean_up: bool,
    /// Does nothing if an entry cannot be taken along
    #[arg(long)]
    pub strict: bool,
    /// What the second store has was left behind by an earlier migration, and may be replaced
    #[arg(long)]
    pub replace_old: bool,
    /// The rest
    #[command(flatten)]
    pub common: Common,
    /// A question about a migration instead
    #[command(subcommand)]
    pub about: Option<AboutMigration>,
}

/// What may be asked of a migration.
#[derive(Subcommand, Debug)]
pub enum AboutMigration {
    /// Tells whether the second store still has what was moved there: 0 if it does, byte for byte, 1 if not
    Verify {
        /// The manifest, in the migration's folder
        manifest: PathBuf,
        /// The second store, if its settings file has changed since
        #[arg(long, value_name = "STORE")]
        to: Option<String>,
    },
}

/// Moves the locks back, with all that was taken and released since.
#[derive(Args, Debug)]
pub struct Rollback {
    /// The manifest, in the migration's folder
    pub manifest: PathBuf,
    /// The store that the locks were in, if its settings file has changed since
    #[arg(long, value_name = "STORE")]
    pub from: Option<String>,
    /// The store that they were moved to, if its settings file has changed since
    #[arg(long, value_name = "STORE")]
    pub to: Option<String>,
    /// The rest
    #[command(flatten)]
    pub common: Common,
}

/// Puts a backup into a store.
#[derive(Args, Debug)]
pub struct Restore {
    /// The backup, as `migrate` writes it
    pub backup: PathBuf,
    /// The store
    #[arg(long, value_name = "STORE")]
    pub to: String,
    /// Takes what the migration's second store had, not the first
    #[arg(long)]
    pub second: bool,
    /// The store may have other entries, which stay
    #[arg(long)]
    pub merge: bool,
    /// What the store has was left behind by a migration
    #[arg(long)]
    pub replace_old: bool,
    /// The rest
    #[command(flatten)]
    pub common: Common,
}

/// What only the operator can know or decide.
#[derive(Args, Debug)]
pub struct Common {
    /// Whose lock stays where both stores hold one; the other is in the backup
    #[arg(long, value_name = "WHOSE")]
    pub conflicts: Option<Conflicts>,
    /// Whoever is connected to a Redis, or was there lately, is no Atlantis server that runs
    #[arg(long)]
    pub others_are_stopped: bool,
    /// Counts what became of the entries in a file for node_exporter's textfile collector; its name ends in .prom
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Who asked a server for it, which runs this: as JSON, for the audit trail
    #[arg(long, hide = true, value_name = "JSON", value_parser = asker)]
    pub asked_by: Option<By>,
}

fn asker(text: &str) -> Result<By, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// Whose lock stays.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Conflicts {
    /// The one of the store that the locks come from
    KeepSource,
    /// The one of the store that they go to
    KeepTarget,
}

impl From<Conflicts> for OnConflict {
    fn from(whose: Conflicts) -> OnConflict {
        match whose {
            Conflicts::KeepSource => OnConflict::KeepSource,
            Conflicts::KeepTarget => OnConflict::KeepTarget,
        }
    }
}

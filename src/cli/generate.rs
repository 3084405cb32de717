//! Completions and man pages, which the argument parser's own crates make from what may be typed.

use std::fs;
use std::path::Path;

use atlock::error::{Code, Error, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::Arguments;
use super::show::Outcome;

/// Writes them: `atlock.bash`, `_atlock`, `atlock.fish`, and a page for the command and each of its own, `atlock.1`, `atlock-list.1`, ….
pub fn generate(folder: &Path) -> Result<Outcome> {
    let write = || {
        fs::create_dir_all(folder)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut Arguments::command(), "atlock", folder)?;
        }
        clap_mangen::generate_to(Arguments::command(), folder)
    };
    let wrong = |e: std::io::Error| Error::new(Code::StoreNotWritable, format!("{} cannot be written: {e}", folder.display()));
    write().map_err(wrong)?;
    Ok(Outcome::lines(String::new(), true))
}

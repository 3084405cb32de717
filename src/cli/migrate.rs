//! Migrations: the commands are the library's; this program has no code for Atlantis's BoltDB file, and says which one has.

use std::path::Path;

use atlock::error::{Code, Error, Result};
use atlock::migrate::{Access, HostFiles};
use atlock::migration_command::Told;
use atlock::store::host::HostStore;

use super::remark::remark;
use super::show::Outcome;

/// What the command told.
pub fn told(told: Result<Told>) -> Result<Outcome> {
    let Told { text, incomplete, remarks } = told?;
    remarks.iter().for_each(|text| remark(text));
    Ok(Outcome { text, found: true, incomplete, status: 0 })
}

/// Atlantis's BoltDB file is read and written by the linked server's program.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere;

impl HostFiles for Elsewhere {
    fn open(&self, file: &Path, _access: Access) -> Result<HostStore> {
        let typed: Vec<String> = std::env::args().skip(1).map(|argument| quoted(&argument)).collect();
        let text = format!(
            "{}: Atlantis's BoltDB file is read and written by Atlantis's own code alone, which the linked server's program has. Type: atlantis \
             locking {}",
            file.display(),
            typed.join(" ")
        );
        Err(Error::new(Code::Unsupported, text))
    }
}

/// As a shell takes it for one word.
fn quoted(argument: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=+./,:@%".contains(letter);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

//! Migrations: the commands are the library's; this program has no code for Atlantis's BoltDB file, and says which one has.
//!
//! Where a linked Atlantis runs that has the first store open, it makes the migration, and goes on with the second one: both stores are asked
//! for it by `data_dir`. A plan, too: the server has its store open alone, and closes it for as long as the plan looks.

use std::path::Path;

use atlock::config::Config;
use atlock::error::{Code, Error, Result};
use atlock::migrate::{Access, HostFiles};
use atlock::migration_command::{Migrate, Printed};
use atlock::socket::Client;
use atlock::store::host::HostStore;
use clap::ValueEnum as _;
use serde::Deserialize;

use super::mode;
use super::remark::remark;
use super::show::{Outcome, read};

/// What the command told.
pub fn told(told: Result<Printed>) -> Result<Outcome> {
    let Printed { text, incomplete, remarks } = told?;
    remarks.iter().for_each(|text| remark(text));
    Ok(Outcome { text, found: true, incomplete, status: 0 })
}

/// The migration, if a linked Atlantis that runs has to make it.
///
/// Errors: those of the settings files that are named; the server's.
pub fn beside_a_server(asked: &Migrate, json: bool) -> Result<Option<Outcome>> {
    let (Some(from), Some(to)) = (asked.from.as_deref(), asked.to.as_deref()) else { return Ok(None) };
    let Some(new) = to.strip_prefix("config:").filter(|_| asked.about.is_none()) else { return Ok(None) };
    let mut server = None;
    for file in std::iter::once(new).chain(from.strip_prefix("config:")) {
        if let Some(folder) = Config::load(Path::new(file))?.locking.data_dir {
            server = server.or(Client::connect_to_control(&folder)?);
        }
    }
    let Some(mut server) = server else { return Ok(None) };
    let (kind, place) = from.split_once(':').unwrap_or((from, ""));
    let from = if matches!(kind, "config" | "boltdb") { format!("{kind}:{}", whole(Path::new(place))?) } else { from.to_owned() };
    let input = serde_json::json!({
        "from": from, "to": whole(Path::new(new))?, "work": whole(&asked.work)?, "more": more(asked, json)?,
        "execute": asked.execute,
    });
    let answer = server.ask_for("migrate", true, input.to_string().as_bytes())?;
    let told: Moved = read(&answer)?;
    told.remarks.lines().for_each(|text| remark(text.strip_prefix("atlock: ").unwrap_or(text)));
    let mut text = told.out.into_bytes();
    if asked.execute && !json {
        text.extend(mode::changed(&answer, false)?.text);
    }
    Ok(Some(Outcome { text, found: true, incomplete: None, status: told.status }))
}

#[derive(Deserialize)]
struct Moved {
    status: u8,
    out: String,
    remarks: String,
}

/// The other options, as they are typed.
fn more(asked: &Migrate, json: bool) -> Result<Vec<String>> {
    let flags = [
        (asked.strict, "--strict"),
        (asked.clean_up, "--clean-up"),
        (asked.replace_old, "--replace-old"),
        (asked.common.others_are_stopped, "--others-are-stopped"),
        (json, "--json"),
    ];
    let mut more: Vec<String> = flags.iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| (*flag).to_owned()).collect();
    if let Some(whose) = asked.common.conflicts.and_then(|whose| whose.to_possible_value()) {
        more.extend(["--conflicts".to_owned(), whose.get_name().to_owned()]);
    }
    if let Some(file) = &asked.common.metrics {
        more.extend(["--metrics".to_owned(), whole(file)?]);
    }
    Ok(more)
}

/// A path as another process understands it.
fn whole(path: &Path) -> Result<String> {
    let wrong = |why: &str| Error::new(Code::InvalidArgument, format!("{}: {why}", path.display()));
    let whole = std::path::absolute(path).map_err(|e| wrong(&e.to_string()))?;
    whole.into_os_string().into_string().map_err(|_| wrong("the path is no text, which a server that runs cannot be told"))
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

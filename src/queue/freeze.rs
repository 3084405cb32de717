//! Freezes: locks that nobody is to take for now, because a person said so. One document for all repositories.
//!
//! Invariants:
//! - A freeze refuses grants, and nothing else: a lock that is held stays held, and its pull has it as before.
//! - A freeze ends at its time, or was said to have none; one that says neither is refused.
//! - A document that is damaged, or newer, is an error, and nothing is written over it.
//!
//! Faults: a document that is lost freezes nothing any more. A clock that is ahead ends a freeze early.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_seconds;
use serde::{Deserialize, Serialize};

use crate::domain::key::{Fields, KeyFormat};
use crate::domain::pattern::fits;
use crate::error::{Code, Error, Result};

/// The format of the document that this version writes.
const VERSION: u32 = 1;
/// The most freezes at once.
pub(crate) const MAX_FREEZES: usize = 100;
/// The most bytes of a text of a freeze.
const MAX_TEXT: usize = 1_000;

/// Which locks are frozen. In each member `*` stands for any text; a member that is left out is `*`, but for the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Full name of the repository.
    pub repo: String,
    /// Folder below the repository's.
    #[serde(default = "any")]
    pub path: String,
    /// Terraform workspace.
    #[serde(default = "any")]
    pub workspace: String,
    /// Name of the project, which may be empty.
    #[serde(default = "any")]
    pub project: String,
}

fn any() -> String {
    "*".to_owned()
}

impl Pattern {
    fn matches(&self, fields: &Fields<'_>) -> bool {
        fits(&self.repo, fields.repo)
            && fits(&self.path, fields.path)
            && fits(&self.workspace, fields.workspace)
            && fits(&self.project, fields.project)
    }

    /// Whether a lock of this repository with this key may be meant: a key does not tell where the path ends, and any place counts.
    fn may_match(&self, repo: &str, key: &str) -> bool {
        let Some(rest) = key.strip_prefix(repo).and_then(|rest| rest.strip_prefix('/')) else { return false };
        let slashes = rest.match_indices('/').map(|(at, _)| at);
        slashes.into_iter().any(|end| {
            let after = &rest[end + 1..];
            let named = match KeyFormat::of_process() {
                KeyFormat::Current => after.split_once('/'),
                KeyFormat::Old => Some((after, "")),
            };
            named.is_some_and(|(workspace, project)| self.matches(&Fields { repo, path: &rest[..end], workspace, project }))
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", plain(&self.repo), plain(&self.path), plain(&self.workspace), plain(&self.project))
    }
}

/// What becomes of plans while a lock is frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plans {
    /// Plans take locks as always, and only applies are to be refused, by whoever runs them.
    Allow,
    /// Nobody takes a lock.
    #[default]
    Deny,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// Which locks.
    pub pattern: Pattern,
    /// Why.
    pub reason: String,
    /// Who wants it.
    pub owner: String,
    /// From when, in microseconds; left out: from now on.
    #[serde(default)]
    pub from: Option<u64>,
    /// Until when, in microseconds.
    #[serde(default)]
    pub until: Option<u64>,
    /// That there is no end; without it there must be one.
    #[serde(default)]
    pub open_ended: bool,
    /// What becomes of plans.
    #[serde(default)]
    pub plans: Plans,
}

/// Locks that nobody is to take for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Its name, for its end.
    pub id: String,
    /// Which locks.
    pub pattern: Pattern,
    /// Why.
    pub reason: String,
    /// Who wants it.
    pub owner: String,
    /// From when, in microseconds.
    pub from: u64,
    /// Until when, in microseconds; `None`: until it is thawed.
    pub until: Option<u64>,
    /// What becomes of plans.
    pub plans: Plans,
}

impl Freeze {
    /// Whether it counts at this moment.
    pub fn is_active(&self, now: u64) -> bool {
        self.from <= now && !self.is_over(now)
    }

    fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// By whom, until when, and why: what follows "is frozen".
    pub fn why(&self, now: u64) -> String {
        let end = match self.until {
            Some(until) => format!("until {}", time_of(until, now)),
            None => "until that is ended".to_owned(),
        };
        format!("by {} {end}: {}", plain(&self.owner), plain(&self.reason))
    }
}

/// A moment in UTC, with the day unless that is today.
pub fn time_of(micros: u64, now: u64) -> String {
    let text = |micros: u64| format_rfc3339_seconds(UNIX_EPOCH + Duration::from_micros(micros.min(MAX_TIME))).to_string();
    let (then, today) = (text(micros), text(now));
    let (day, clock) = (&then[..10], &then[11..16]);
    if day == &today[..10] { format!("{clock} UTC") } else { format!("{day} {clock} UTC") }
}

/// The last moment of the year 9999, in microseconds.
const MAX_TIME: u64 = 253_402_300_799_000_000;

/// A foreign text without what a terminal would obey.
pub fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        // Beside quotes and backslashes, `escape_debug` escapes what is not printable.
        if matches!(c, '\'' | '"' | '\\') {
            shown.push(c)
        } else {
            shown.extend(c.escape_debug())
        }
        shown
    })
}

/// All freezes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freezes {
    version: u32,
    /// Larger with each change, so that two documents are never taken for one another.
    revision: u64,
    freezes: Vec<Freeze>,
}

impl Default for Freezes {
    fn default() -> Freezes {
        Freezes { version: VERSION, revision: 0, freezes: Vec::new() }
    }
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Freezes {
    /// Reads a document; `None` is no freezes.
    ///
    /// Errors: `StoreNewerFormat` if a newer version wrote it; `EntryUnreadable` if it is damaged.
    pub fn decode(bytes: Option<&[u8]>) -> Result<Freezes> {
        let Some(bytes) = bytes else { return Ok(Freezes::default()) };
        let damaged = |_| {
            let text = format!("the document of the freezes, of {} bytes, is damaged; it stays as it is", bytes.len());
            Error::new(Code::EntryUnreadable, text)
        };
        let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if version > u64::from(VERSION) {
            let text = format!("the document of the freezes has format {version}, written by a newer version of atlock");
            return Err(Error::new(Code::StoreNewerFormat, text + ": run that version to change them"));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// The document.
    pub fn encode(&self) -> Vec<u8> {
        // Nothing in it fails to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Those that are not over.
    pub fn at(&self, now: u64) -> Vec<&Freeze> {
        self.freezes.iter().filter(|freeze| !freeze.is_over(now)).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.freezes.is_empty()
    }

    /// Adds a freeze, and forgets those that are over. Nothing is changed by an error.
    ///
    /// Errors: `InvalidArgument` for a request that makes no sense; `TooLarge` over a limit.
    pub fn add(&mut self, request: &FreezeRequest, now: u64) -> Result<Freeze> {
        let FreezeRequest { pattern, reason, owner, from, until, open_ended, plans } = request;
        check(request, now)?;
        self.freezes.retain(|freeze| !freeze.is_over(now));
        if self.freezes.len() >= MAX_FREEZES {
            let text = format!("there are {MAX_FREEZES} freezes, which is the limit: end one of them first");
            return Err(Error::new(Code::TooLarge, text));
        }
        self.revision = self.revision.saturating_add(1).max(now);
        let id = format!("{:x}", self.revision);
        let freeze = Freeze {
            id,
            pattern: pattern.clone(),
            reason: reason.clone(),
            owner: owner.clone(),
            from: from.unwrap_or(now),
            until: until.filter(|_| !open_ended),
            plans: *plans,
        };
        self.freezes.push(freeze.clone());
        Ok(freeze)
    }

    /// Ends a freeze; `None` if there is none of this name.
    pub fn remove(&mut self, id: &str, now: u64) -> Option<Freeze> {
        let at = self.freezes.iter().position(|freeze| freeze.id == id)?;
        self.revision = self.revision.saturating_add(1).max(now);
        Some(self.freezes.remove(at))
    }

    /// The freeze by which nobody takes this lock now.
    pub fn denies(&self, fields: &Fields<'_>, now: u64) -> Option<&Freeze> {
        self.freezes.iter().find(|freeze| freeze.plans == Plans::Deny && freeze.is_active(now) && freeze.pattern.matches(fields))
    }

    /// Whether there is one where only the key is known: a freeze that may mean it counts.
    pub fn denies_key(&self, repo: &str, key: &str, now: u64) -> bool {
        self.of_key(repo, key, now).any(|freeze| freeze.plans == Plans::Deny)
    }

    /// All freezes that may mean this lock now.
    pub fn of_key<'a>(&'a self, repo: &'a str, key: &'a str, now: u64) -> impl Iterator<Item = &'a Freeze> {
        self.freezes.iter().filter(move |freeze| freeze.is_active(now) && freeze.pattern.may_match(repo, key))
    }
}

fn check(request: &FreezeRequest, now: u64) -> Result<()> {
    let wrong = |text: String| Err(Error::new(Code::InvalidArgument, text));
    let FreezeRequest { pattern, reason, owner, until, .. } = request;
    for (name, text) in [("reason", reason), ("owner", owner), ("pattern.repo", &pattern.repo)] {
        if text.trim().is_empty() {
            return wrong(format!("the freeze's {name} is empty: say it, so that others know"));
        }
    }
    for text in [reason, owner, &pattern.repo, &pattern.path, &pattern.workspace, &pattern.project] {
        if text.len() > MAX_TEXT {
            return Err(Error::new(Code::TooLarge, format!("a text of the freeze is over the limit of {MAX_TEXT} bytes")));
        }
    }
    let begin = request.from.unwrap_or(now).max(now);
    match (until, request.open_ended) {
        (None, false) => wrong("the freeze has no end: give `until`, or say `\"open_ended\": true`".to_owned()),
        (Some(_), true) => wrong("the freeze has an end and is open-ended: give `until` or `open_ended`, not both".to_owned()),
        (Some(until), false) if *until <= begin => wrong(
            "the freeze would be over before it begins: give an `until` after `from`, in microseconds since 1970".to_owned(),
        ),
        (Some(_), false) | (None, true) => Ok(()),
    }
}

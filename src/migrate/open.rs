//! What the steps of a migration share: what was asked for, both stores, who is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::boltdb_place::{Access, BoltdbPlace, HostFiles};
use super::entry::{Entry, Survey};
use super::manifest::Manifest;
use super::merge::OnConflict;
use super::place::{Place, Role};
use super::redis_place::RedisPlace;
use super::side::{Named, Side};
use super::sled_place::SledPlace;
use crate::error::{Code, Error, Result};
use crate::sealing::{self, MasterKeys};
use crate::store::contract::local::EntryKey;
use crate::store::moved::{Mark, MarkState};

/// How long the target's clock is waited for.
const CLOCKS: Duration = Duration::from_secs(30);
/// Time between two looks at it.
const PAUSE: Duration = Duration::from_millis(20);

/// What was asked for beside the stores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Nothing is done if an entry cannot be taken along.
    pub strict: bool,
    /// Whose lock stays where both stores hold one; `None`: nothing is done then.
    pub on_conflict: Option<OnConflict>,
    /// Whoever is connected to a Redis, or was there lately, is no server that runs.
    pub others_are_stopped: bool,
    /// What was moved is removed from the source at the end.
    pub clean_up: bool,
    /// The target was left behind by an earlier migration, and what it has is old.
    pub replace_old: bool,
    /// The keys that open what is sealed: backups, and embedded stores of which no settings file is named. Backups are sealed under
    /// them.
    pub masters: Option<&'a MasterKeys>,
    /// What opens Atlantis's BoltDB file; `None`: there is no code for that.
    pub files: Option<&'a dyn HostFiles>,
}

/// Who is told how it goes on.
pub trait Tell {
    /// So many entries are about to be copied.
    fn begin(&self, what: &str, total: usize);
    /// So many more were copied.
    fn advance(&self, by: usize);
    /// A phase has ended; for the audit trail.
    fn event(&self, text: &str);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Tell for Silent {
    fn begin(&self, _what: &str, _total: usize) {}
    fn advance(&self, _by: usize) {}
    fn event(&self, _text: &str) {}
}

/// Opens a store; `given_before`: the largest token that an embedded target had given before the migration.
pub(super) fn open(side: &Side, role: Role, changes: bool, options: Options<'_>, given_before: u64) -> Result<Box<dyn Place>> {
    let own = sealing::read(&side.encryption)?;
    let masters = own.as_ref().or(options.masters);
    match &side.store {
        Named::Sled(folder) if changes => Ok(Box::new(SledPlace::open(folder, given_before, masters)?)),
        Named::Sled(folder) => Ok(Box::new(SledPlace::look(folder, masters)?)),
        Named::Boltdb(file) => {
            let access = if changes { Access::Change } else { Access::Look };
            Ok(Box::new(BoltdbPlace::open(options.files, file, side.place(), access, masters)?))
        }
        Named::Redis { settings, companion } => {
            let companion = companion.as_deref().map(|folder| (folder, masters));
            let place = RedisPlace::open(settings, companion, role, changes, options.others_are_stopped)?;
            Ok(Box::new(place))
        }
    }
}

/// The error of what must be so before anything is done, with all that is not.
pub(super) fn refused(problems: &[String]) -> Error {
    Error::new(Code::InvalidArgument, format!("nothing was changed: {}", problems.join("; ")))
}

/// The mark of a store in this migration.
pub(super) fn mark(manifest: &Manifest, state: MarkState, manifest_path: &str, back: bool) -> Mark {
    let (from, to) = (manifest.from.named.clone(), manifest.to.named.clone());
    let (from, to) = if back { (to, from) } else { (from, to) };
    Mark { migration: manifest.migration.clone(), state, from, to, manifest: manifest_path.to_owned() }
}

/// Whether this migration has left this mark in a store. Where its manifest was then does not matter.
pub(super) fn has_mark(place: &dyn Place, migration: &str, state: MarkState) -> Result<bool> {
    Ok(place.mark()?.is_some_and(|mark| mark.migration == migration && mark.state == state))
}

/// Whether a store decides, after whichever migration.
pub(super) fn decides(place: &dyn Place) -> Result<bool> {
    Ok(place.mark()?.is_some_and(|mark| !mark.refuses()))
}

/// Gives a store its mark in this migration; `is_old`: what an earlier one left there is given up.
///
/// Errors: `StoreMoved` if another migration is at it.
pub(super) fn give_mark(place: &dyn Place, what: &str, new: Option<&Mark>, migration: &str, is_old: bool) -> Result<()> {
    let seen = place.mark()?;
    let is_others = |seen: &&Mark| seen.migration != migration && seen.refuses() && !(is_old && seen.state == MarkState::Moved);
    if let Some(other) = seen.as_ref().filter(is_others) {
        return Err(other.refusal(what));
    }
    if seen.as_ref() == new {
        return Ok(());
    }
    place.set_mark(seen.as_ref(), new)
}

/// Waits until no token that `place` gives can be smaller than `last`.
pub(super) fn wait_for_clock(place: &dyn Place, what: &str, last: u64) -> Result<()> {
    let give_up = Instant::now() + CLOCKS;
    loop {
        let now = place.clock()?;
        if now > last {
            return Ok(());
        }
        let behind = Duration::from_micros(last - now);
        if behind > CLOCKS || Instant::now() >= give_up {
            let text = format!(
                "the clock of {what} is {} s behind the last fencing token of the other store: new holders would get smaller tokens than those \
                 before. Set the clocks, or wait, and give the command again",
                behind.as_secs() + 1
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Refuses a store that lacks what it had when it was marked: nobody has released that since. Its data was lost, or a server that looks for
/// no mark uses it; neither is a release.
pub(super) fn refuse_losses(had: &BTreeMap<EntryKey, Entry>, has: &Survey, what: &str, remedy: &str) -> Result<()> {
    let lost: Vec<_> = had.keys().filter(|key| !has.entries.contains_key(*key)).collect();
    let Some(first) = lost.first() else { return Ok(()) };
    let text = format!(
        "{what} lacks {} entries that it had when it was marked, among them the {first}: it has lost data, or a server uses it. {remedy}",
        lost.len()
    );
    Err(Error::new(Code::StoreDamaged, text))
}

/// A new migration's id.
pub(super) fn new_id() -> Result<String> {
    let random = getrandom::u64().map_err(|e| Error::new(Code::Internal, format!("the system gives no random numbers: {e}")))?;
    Ok(format!("{random:016x}"))
}

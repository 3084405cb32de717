//! Releasing everything that a pull holds, in hybrid mode.
//!
//! Invariants:
//! - Redis is asked to release, and the local store is told of it, only for keys whose turns the caller has. So whoever takes
//!   one of the pull's locks meanwhile, and is told so, does it wholly before or wholly after.
//! - A release that was made is told, also if another of the same call fails ([`Listing::incomplete`]): its caller has plans to
//!   discard.
//!
//! Faults survived: those of a single release; a search through Redis that takes too long or fails, since what our own index names
//! is released before it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::core::{Asked, Telling, is_of};
use super::operations::{Gone, HybridStore, before_release, learn_release, may_have_happened};
use crate::call::{AnsweredBy, Call};
use crate::domain::lock::PullRef;
use crate::error::{Error, Result};
use crate::store::Listing;
use crate::store::contract::local::{Change, EntryKey, Held, PullRelease};
use crate::store::contract::shared::Reach;

/// How many locks one question releases: on a cluster each is one of its own.
const AT_ONCE: usize = 100;

/// What was released, by key.
type Released = BTreeMap<EntryKey, Held>;

/// A pull's locks, whose turns the caller has.
struct Releasing<'a> {
    keys: &'a [EntryKey],
    /// Those that the local store knows.
    known: Vec<(EntryKey, Held)>,
    telling: Option<Telling<'a>>,
    /// What Redis said that it released.
    made: Released,
    /// When that was first asked, if an answer was lost.
    lost: Option<Instant>,
}

impl HybridStore {
    pub(super) fn release_all_of(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let mut released = Released::new();
        let mut ended = Ok(());
        for reach in [Reach::Index, Reach::Scan] {
            ended = self.release_reached(pull, reach, &mut released, call);
            // Whoever decides here has looked at everything that there is here.
            if ended.is_err() || call.answered_by() == Some(AnsweredBy::Fallback) {
                break;
            }
        }
        let set_aside: Vec<EntryKey> = self.core().conflicts.lock().iter().map(|c| c.key.clone()).collect();
        let mut listing = Listing::default();
        released.values().for_each(|held| listing.push(&held.value));
        for key in set_aside {
            if let Some(value) = self.end_conflict(&key, |value| Ok(is_of(value, pull))) {
                listing.push(&value);
            }
        }
        listing.or_incomplete(ended)
    }

    /// Looks for the pull's locks that far, and releases them.
    fn release_reached(&self, pull: PullRef<'_>, reach: Reach, released: &mut Released, call: &Call) -> Result<()> {
        loop {
            let found = match self.core().ask_long(call, |redis, attempt| redis.held_by(pull, reach, attempt)) {
                Asked::Answer(found) => Some(found),
                Asked::Failed(error) => return Err(error),
                Asked::Away => None,
            };
            let redis_was_asked = found.is_some();
            let mut keys: BTreeSet<EntryKey> = found.into_iter().flatten().chain(self.core().held_by(pull)?).collect();
            // Whoever takes one of them again does so after this call began.
            keys.retain(|key| !released.contains_key(key));
            if redis_was_asked && keys.is_empty() {
                call.answered(AnsweredBy::Enhanced);
                return Ok(());
            }
            let keys: Vec<EntryKey> = keys.into_iter().collect();
            // Only the search may take long.
            let release = self.core().within_patience(call);
            let ended = self.release_these(&keys, redis_was_asked, pull, released, &release);
            release.answered_by().into_iter().for_each(|by| call.answered(by));
            match ended {
                Asked::Answer(()) => return Ok(()),
                Asked::Failed(error) => return Err(error),
                // Redis decides again: it may know of more.
                Asked::Away => {}
            }
        }
    }

    /// Releases what the pull holds of these keys. `Away`: Redis was away when it was to be searched, and decides again.
    fn release_these(
        &self,
        keys: &[EntryKey],
        redis_was_asked: bool,
        pull: PullRef<'_>,
        released: &mut Released,
        call: &Call,
    ) -> Asked<()> {
        let _turns = match self.core().turns.take(keys, call.deadline) {
            Ok(turns) => turns,
            Err(error) => return Asked::Failed(error),
        };
        let mut releasing = Releasing { keys, known: Vec::new(), telling: None, made: Released::new(), lost: None };
        let ended = if redis_was_asked {
            self.release_known(&mut releasing, pull, call)
        } else {
            match self.core().here(call) {
                Ok(Some(_gate)) => self.release_pull_here(&mut releasing, false, pull, call),
                Ok(None) => return Asked::Away,
                Err(error) => Err(error),
            }
        };
        released.append(&mut releasing.made);
        match ended {
            Ok(()) => Asked::Answer(()),
            Err(error) => Asked::Failed(error),
        }
    }

    fn release_known<'a>(&'a self, releasing: &mut Releasing<'a>, pull: PullRef<'_>, call: &Call) -> Result<()> {
        let mut is_intended = false;
        loop {
            if !self.core().in_fallback() && !is_intended {
                self.intend_releases(releasing, pull, call)?;
                is_intended = true;
            }
            // Redis is asked only after the local store was: it may have opened just now.
            let asked = if is_intended { self.ask_to_release(releasing, pull, call) } else { Asked::Away };
            match asked {
                Asked::Answer(()) => {
                    call.answered(AnsweredBy::Enhanced);
                    return Ok(());
                }
                Asked::Failed(error) => return Err(error),
                Asked::Away => {}
            }
            match self.core().here(call) {
                Ok(Some(_gate)) => return self.release_pull_here(releasing, is_intended, pull, call),
                Ok(None) => {}
                Err(error) => return Err(self.give_up_rest(releasing, error, call)),
            }
        }
    }

    /// Tells the local store what is going to be released: what it knows of the pull's, and where it knows nothing, whatever is there.
    fn intend_releases<'a>(&'a self, releasing: &mut Releasing<'a>, pull: PullRef<'_>, call: &Call) -> Result<()> {
        let mut intents = Vec::new();
        for key in releasing.keys {
            self.make_sure(key, call)?;
            let known = self.core().known(key)?.value;
            if known.as_ref().is_none_or(|held| is_of(&held.value, pull)) {
                intents.push(Change::Intend(key.clone(), None));
                releasing.known.extend(known.map(|held| (key.clone(), held)));
            }
        }
        releasing.telling = Some(self.core().tell(intents, call.deadline)?);
        Ok(())
    }

    fn ask_to_release(&self, releasing: &mut Releasing<'_>, pull: PullRef<'_>, call: &Call) -> Asked<()> {
        for some in releasing.keys.chunks(AT_ONCE) {
            let Releasing { made, lost, .. } = releasing;
            let answer = self.core().ask(call, lost, |redis, attempt| {
                let (released, ended) = redis.release_held(pull, some, attempt);
                made.extend(released);
                ended
            });
            match answer {
                Asked::Answer(()) => {}
                Asked::Failed(error) => return Asked::Failed(self.give_up_rest(releasing, error, call)),
                Asked::Away => return Asked::Away,
            }
        }
        if let Some(Err(error)) = releasing.telling.take().map(|telling| telling.wait(call.deadline)) {
            return Asked::Failed(may_have_happened(error));
        }
        if let Err(error) = self.learn_releases(releasing, call.deadline) {
            return Asked::Failed(may_have_happened(error));
        }
        self.find_out_about_rest(releasing, call)
    }

    /// What Redis released and the local store did not know, or knew as another lock: it must not come back either. What came back
    /// from an older state of Redis was not released now.
    fn learn_releases(&self, releasing: &mut Releasing<'_>, deadline: Instant) -> Result<()> {
        let mut changes = Vec::new();
        let mut old = Vec::new();
        for (key, was) in &releasing.made {
            let expected = releasing.known.iter().find(|(known, _)| known == key);
            if expected.is_some_and(|(_, held)| held.value == was.value) {
                continue;
            }
            let local = self.core().known(key)?;
            let shown = before_release(was);
            if self.is_old(&local, &shown) || expected.is_some_and(|(_, held)| self.goes_back(held, &shown)) {
                old.push(key.clone());
            } else if expected.is_none() {
                changes.extend(learn_release(key, was.clone()));
            }
        }
        old.iter().for_each(|key| drop(releasing.made.remove(key)));
        if changes.is_empty() {
            return Ok(());
        }
        self.core().tell(changes, deadline)?.wait(deadline)
    }

    /// What the local store knew and Redis did not release.
    fn find_out_about_rest(&self, releasing: &mut Releasing<'_>, call: &Call) -> Asked<()> {
        for (key, held) in &releasing.known {
            if releasing.made.contains_key(key) {
                continue;
            }
            match self.is_gone(key, held, call) {
                Asked::Answer(Gone::Lost) => drop(releasing.made.insert(key.clone(), held.clone())),
                // A try whose answer was lost may have released it.
                Asked::Answer(Gone::Released) if releasing.lost.is_some() => {
                    releasing.made.insert(key.clone(), held.clone());
                }
                Asked::Answer(Gone::Released | Gone::No) => {}
                Asked::Failed(error) => return Asked::Failed(may_have_happened(error)),
                Asked::Away => return Asked::Away,
            }
        }
        Asked::Answer(())
    }

    /// It failed on the way: of what was not released, it did not happen; or nobody knows.
    fn give_up_rest(&self, releasing: &Releasing<'_>, error: Error, call: &Call) -> Error {
        let rest = releasing.known.iter().filter(|(key, _)| !releasing.made.contains_key(key));
        if releasing.lost.is_some() || error.code() == crate::error::Code::OutcomeUnknown {
            releasing.keys.iter().filter(|key| !releasing.made.contains_key(key)).for_each(|key| self.unsure(key));
            return may_have_happened(error);
        }
        // Of those that were released after all, Redis will say so.
        let back: Vec<Change> = rest.map(|(key, held)| Change::Set(key.clone(), Some(held.clone()))).collect();
        if back.is_empty() {
            return error;
        }
        self.core().write(back, call.deadline).err().map_or(error, may_have_happened)
    }

    /// The local store decides. What was intended becomes its decision, whatever Redis made of it.
    fn release_pull_here(&self, releasing: &mut Releasing<'_>, is_intended: bool, pull: PullRef<'_>, call: &Call) -> Result<()> {
        call.answered(AnsweredBy::Fallback);
        if self.core().unarmed().is_some() {
            // Redis may have more of them.
            let release = PullRelease { repo: pull.repo.to_owned(), num: pull.num, up_to: self.core().next_token() };
            if let Err(error) = self.core().write(vec![Change::ReleaseLater(release)], call.deadline) {
                return Err(self.give_up_rest(releasing, may_have_happened(error), call));
            }
        }
        if is_intended {
            let keys: Vec<&EntryKey> = releasing.known.iter().map(|(key, _)| key).collect();
            self.decide(&keys, None, call)?;
            releasing.made.extend(releasing.known.iter().map(|(key, held)| (key.clone(), held.clone())));
            return Ok(());
        }
        let mut changes = Vec::new();
        for key in releasing.keys {
            let local = self.core().known(key)?;
            if let Some(held) = local.value.filter(|held| is_of(&held.value, pull)) {
                changes.push(Change::SetHere(key.clone(), None));
                releasing.known.push((key.clone(), held));
            }
        }
        if !changes.is_empty() {
            self.core().write(changes, call.deadline)?;
        }
        for (key, held) in &releasing.known {
            self.touched(key);
            releasing.made.insert(key.clone(), held.clone());
        }
        Ok(())
    }
}

//! Releasing everything that a pull holds, in hybrid mode.
//!
//! Invariants:
//! - Redis is asked to release, and the local store is handed that, only for keys whose locks the caller has. So whoever takes
//!   one of the pull's locks meanwhile, and is told so, does it wholly before or wholly after.
//! - A lock that another call is about to release counts as the pull's until that call ends: if it fails, the lock stays.
//! - A release that was made is told, also if another of the same call fails ([`Listing::incomplete`]): its caller has plans to
//!   discard.
//!
//! Faults survived: those of a single release; a search through Redis that takes too long or fails, since what our own index names
//! is released before it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::core::{Asked, Core};
use super::data_loss::{Absence, fall_back_if_gone_back, fall_back_if_old, look_for_absence};
use super::flow::{Flow, run};
use super::intent::{make_decision, make_sure, may_have_happened};
use super::key_locks::KeyGuard;
use super::learn::{release_of, released_unwritten};
use super::release::{before_release, end_conflict};
use super::write_behind::{Submitted, is_of};
use crate::call::{AnsweredBy, Call};
use crate::domain::lock::PullRef;
use crate::error::{Code, Error, Result};
use crate::store::Listing;
use crate::store::contract::local::{Change, EntryKey, Held, PullRelease};
use crate::store::contract::shared::Reach;
use crate::sync::mark;

/// How many locks one question releases: on a cluster each is one of its own.
const AT_ONCE: usize = 100;

/// What was released, by key.
type Released = BTreeMap<EntryKey, Held>;

/// Releases all of the pull's locks and returns them.
pub(super) fn release_by_pull(core: &Core, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
    let mut released = Released::new();
    let mut ended = Ok(());
    for reach in [Reach::Index, Reach::Scan] {
        ended = release_reached(core, pull, reach, &mut released, call);
        // Whoever decides here has looked at everything that there is here.
        if ended.is_err() || call.answered_by() == Some(AnsweredBy::Fallback) {
            break;
        }
    }
    let mut listing = Listing::default();
    released.values().for_each(|held| listing.push(&held.value));
    for key in core.conflicts.keys() {
        if let Some(value) = end_conflict(core, &key, |value| Ok(is_of(value, pull))) {
            listing.push(&value);
        }
    }
    listing.or_incomplete(ended)
}

/// Looks for the pull's locks that far, and releases them.
fn release_reached(core: &Core, pull: PullRef<'_>, reach: Reach, released: &mut Released, call: &Call) -> Result<()> {
    loop {
        let found = match core.ask_long(call, |redis, attempt| redis.held_by(pull, reach, attempt)) {
            Asked::Answer(found) => Some(found),
            Asked::Failed(error) => return Err(error),
            Asked::Unavailable => None,
        };
        let redis_was_asked = found.is_some();
        let mut keys: BTreeSet<EntryKey> = found.into_iter().flatten().chain(core.held_by(pull)?).collect();
        // Whoever takes one of them again does so after this call began.
        keys.retain(|key| !released.contains_key(key));
        if redis_was_asked && keys.is_empty() {
            call.answered(AnsweredBy::Enhanced);
            return Ok(());
        }
        let keys: Vec<EntryKey> = keys.into_iter().collect();
        // Only the search may take long.
        let release = core.redis.within_change(call);
        let ended = release_these(core, &keys, redis_was_asked, pull, released, &release);
        release.answered_by().into_iter().for_each(|by| call.answered(by));
        match ended {
            Asked::Answer(()) => return Ok(()),
            Asked::Failed(error) => return Err(error),
            // Redis decides again: it may know of more.
            Asked::Unavailable => mark!("by pull: Redis decides again", {}),
        }
    }
}

/// Releases what the pull holds of these keys. `Unavailable`: Redis was away when it was to be searched, and decides again.
fn release_these(
    core: &Core,
    keys: &[EntryKey],
    redis_was_asked: bool,
    pull: PullRef<'_>,
    released: &mut Released,
    call: &Call,
) -> Asked<()> {
    let guard = match core.key_locks.take(keys, call.deadline) {
        Ok(guard) => guard,
        Err(error) => return Asked::Failed(error),
    };
    let mut releasing = Releasing {
        core,
        pull,
        keys,
        guard: &guard,
        known: Vec::new(),
        is_intended: false,
        submitted: None,
        made: Released::new(),
        unanswered_since: None,
    };
    let ended = if redis_was_asked {
        run(core, &mut releasing, call)
    } else {
        match core.local_turn(call) {
            Ok(Some(_gate)) => {
                call.answered(AnsweredBy::Fallback);
                releasing.decide(call)
            }
            Ok(None) => return Asked::Unavailable,
            Err(error) => Err(error),
        }
    };
    released.append(&mut releasing.made);
    match ended {
        Ok(()) => Asked::Answer(()),
        Err(error) => Asked::Failed(error),
    }
}

/// A pull's locks.
struct Releasing<'a> {
    core: &'a Core,
    pull: PullRef<'a>,
    keys: &'a [EntryKey],
    guard: &'a KeyGuard<'a>,
    /// Those that the local store knows.
    known: Vec<(EntryKey, Held)>,
    is_intended: bool,
    submitted: Option<Submitted<'a>>,
    /// What was released.
    made: Released,
    /// When Redis was first asked, if an answer was lost.
    unanswered_since: Option<Instant>,
}

impl Flow for Releasing<'_> {
    /// What was released is in `made`, also on an error.
    type Answer = ();

    /// Hands the local store what is going to be released: what it knows of the pull's, and where it knows nothing, whatever is there.
    fn intend(&mut self, call: &Call) -> Result<Option<()>> {
        if self.is_intended {
            return Ok(None);
        }
        let mut intents = Vec::new();
        for key in self.keys {
            make_sure(self.core, key, call)?;
            let known = self.core.known(key)?.value;
            if known.as_ref().is_none_or(|held| is_of(&held.value, self.pull)) {
                known.iter().for_each(|held| self.guard.releases(key, &held.value));
                intents.push(Change::Intend(key.clone(), None));
                self.known.extend(known.map(|held| (key.clone(), held)));
            }
        }
        self.submitted = Some(self.core.local.submit(intents, call.deadline)?);
        self.is_intended = true;
        Ok(None)
    }

    fn ask(&mut self, call: &Call) -> Asked<()> {
        for some in self.keys.chunks(AT_ONCE) {
            let Releasing { core, pull, made, unanswered_since, .. } = self;
            let answer = core.ask(call, unanswered_since, |redis, attempt| {
                let (released, ended) = redis.release_held(*pull, some, attempt);
                made.extend(released);
                ended
            });
            match answer {
                Asked::Answer(()) => {}
                Asked::Failed(error) => return Asked::Failed(self.give_up(error, call)),
                Asked::Unavailable => return Asked::Unavailable,
            }
        }
        let written = self.submitted.take().map_or(Ok(()), |submitted| submitted.wait(call.deadline));
        if let Err(error) = written.and_then(|()| self.learn_releases(call.deadline)) {
            // The local store may have them still.
            for (key, was) in &self.made {
                let known = self.known.iter().find(|(known, _)| known == key).map(|(_, held)| held);
                released_unwritten(self.core, key, known, was);
            }
            return Asked::Failed(may_have_happened(error));
        }
        self.find_out_about_rest(call)
    }

    fn decide(&mut self, call: &Call) -> Result<()> {
        let is_unarmed = self.core.arming.unarmed().is_some();
        let knows_redis = self.core.arming.record().announced > 0;
        if is_unarmed && knows_redis {
            // Redis may have more of them.
            mark!("by pull: remembered for Redis");
            let up_to = self.core.redis.next_token();
            let release = PullRelease { repo: self.pull.repo.to_owned(), num: self.pull.num, up_to };
            if let Err(error) = self.core.local.write(vec![Change::ReleaseLater(release)], call.deadline) {
                return Err(self.give_up(may_have_happened(error), call));
            }
        }
        self.decide_what_is_known(call)?;
        if is_unarmed && !knows_redis {
            // What the pull holds until now is told by Redis's clock, of which nothing is known.
            return Err(self.core.degraded("this server has never asked this Redis which locks the pull holds there"));
        }
        Ok(())
    }

    /// Of what was not released, it did not happen; or nobody knows.
    fn give_up(&mut self, error: Error, call: &Call) -> Error {
        let rest = self.known.iter().filter(|(key, _)| !self.made.contains_key(key));
        if self.unanswered_since.is_some() || error.code() == Code::OutcomeUnknown {
            mark!("by pull: in doubt");
            self.keys.iter().filter(|key| !self.made.contains_key(key)).for_each(|key| self.core.unsynced.doubt(key));
            return may_have_happened(error);
        }
        // Of those that were released after all, Redis will say so.
        let back: Vec<Change> = rest.map(|(key, held)| Change::Set(key.clone(), Some(held.clone()))).collect();
        if back.is_empty() {
            return error;
        }
        mark!("by pull: undone");
        self.core.local.write(back, call.deadline).err().map_or(error, may_have_happened)
    }
}

impl Releasing<'_> {
    /// Releases what the local store knows.
    fn decide_what_is_known(&mut self, call: &Call) -> Result<()> {
        if self.is_intended {
            let keys: Vec<&EntryKey> = self.known.iter().map(|(key, _)| key).collect();
            mark!("by pull: its intents become decisions");
            make_decision(self.core, &keys, None, call)?;
            self.made.extend(self.known.iter().map(|(key, held)| (key.clone(), held.clone())));
            return Ok(());
        }
        let mut changes = Vec::new();
        for key in self.keys {
            let local = self.core.known(key)?;
            if let Some(held) = local.value.filter(|held| is_of(&held.value, self.pull)) {
                self.guard.releases(key, &held.value);
                changes.push(Change::SetHere(key.clone(), None));
                self.known.push((key.clone(), held));
            }
        }
        if !changes.is_empty() {
            mark!("by pull: decided here");
            self.core.local.write(changes, call.deadline)?;
        }
        for (key, held) in &self.known {
            self.core.unsynced.add_decided(key);
            self.made.insert(key.clone(), held.clone());
        }
        Ok(())
    }

    /// What Redis released and the local store did not know, or knew as another lock: it must not come back either. What came back
    /// from an older state of Redis was not released now.
    fn learn_releases(&mut self, deadline: Instant) -> Result<()> {
        let core = self.core;
        let mut changes = Vec::new();
        let mut past = Vec::new();
        for (key, was) in &self.made {
            let expected = self.known.iter().find(|(known, _)| known == key);
            if expected.is_some_and(|(_, held)| held.value == was.value) {
                continue;
            }
            let local = core.known(key)?;
            let shown = before_release(was);
            // The pull's, or another's that the caller may not release.
            let held = expected.map(|(_, held)| held).or(local.value.as_ref());
            if fall_back_if_old(core, &local, &shown) || held.is_some_and(|held| fall_back_if_gone_back(core, held, &shown)) {
                mark!("by pull: what came back was released");
                past.push(key.clone());
            } else if expected.is_none() {
                mark!("by pull: of a lock unknown here");
                changes.extend(release_of(key, was.clone()));
            }
        }
        past.iter().for_each(|key| drop(self.made.remove(key)));
        if changes.is_empty() {
            return Ok(());
        }
        core.local.submit(changes, deadline)?.wait(deadline)
    }

    /// What the local store knew and Redis did not release.
    fn find_out_about_rest(&mut self, call: &Call) -> Asked<()> {
        for (key, held) in &self.known {
            if self.made.contains_key(key) {
                continue;
            }
            match look_for_absence(self.core, key, held, call) {
                Asked::Answer(Absence::Lost) => {
                    mark!("by pull: Redis has lost one", drop(self.made.insert(key.clone(), held.clone())))
                }
                // A try whose answer was lost may have released it.
                Asked::Answer(Absence::Released) if self.unanswered_since.is_some() => {
                    mark!("by pull: a lost answer had released one");
                    self.made.insert(key.clone(), held.clone());
                }
                Asked::Answer(Absence::Released | Absence::No) => mark!("by pull: one was not released", {}),
                Asked::Failed(error) => return Asked::Failed(may_have_happened(error)),
                Asked::Unavailable => return Asked::Unavailable,
            }
        }
        Asked::Answer(())
    }
}

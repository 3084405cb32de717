//! Replacing a document: a pull status, a queue, the freezes.
//!
//! Invariant: a document is replaced only where it is as expected, and a caller who is told so meets it again after a crash. While Redis is
//! away and the local store may lack what other servers did, a queue stays as it is: places are kept, and nobody joins.

use std::time::Instant;

use super::core::{Asked, Core};
use super::flow::{Flow, run};
use super::intent::{make_decision, make_sure, may_have_happened, undo_or_doubt};
use super::learn::{adopt, confirm};
use super::write_behind::Submitted;
use crate::call::{AnsweredBy, Call};
use crate::domain::token::FencingToken;
use crate::error::{Error, Result};
use crate::store::contract::local::{Change, EntryKey, Held, KeyState};
use crate::store::contract::shared::Remote;
use crate::store::{DocumentKey, Expected, Swap};
use crate::sync::mark;

/// Replaces, or with `None` deletes, the document if it is as expected.
pub(super) fn swap(core: &Core, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
    let name = EntryKey::from(key);
    let _guard = core.key_locks.take(std::slice::from_ref(&name), call.deadline)?;
    run(
        core,
        &mut Swapping { core, key, name: &name, expected, new, before: None, submitted: None, unanswered_since: None },
        call,
    )
}

struct Swapping<'a> {
    core: &'a Core,
    key: DocumentKey<'a>,
    name: &'a EntryKey,
    expected: Expected<'a>,
    new: Option<&'a [u8]>,
    /// What the local store had, once the change was intended.
    before: Option<KeyState>,
    submitted: Option<Submitted<'a>>,
    /// When Redis was first asked, if the answer was lost.
    unanswered_since: Option<Instant>,
}

impl Flow for Swapping<'_> {
    type Answer = Swap;

    fn intend(&mut self, call: &Call) -> Result<Option<Swap>> {
        if self.before.is_some() {
            return Ok(None);
        }
        make_sure(self.core, self.name, call)?;
        let local = self.core.known(self.name)?;
        let current = local.value.as_ref().map(|held| held.value.as_slice());
        if self.expected.admits(current) && current != self.new {
            let intent = Change::Intend(self.name.clone(), self.held());
            self.submitted = Some(self.core.local.submit(vec![intent], call.deadline)?);
            self.before = Some(local);
        }
        Ok(None)
    }

    fn ask(&mut self, call: &Call) -> Asked<Swap> {
        let (key, expected, new) = (self.key, self.expected, self.new);
        match self.core.ask(call, &mut self.unanswered_since, |redis, attempt| redis.swap_document(key, expected, new, attempt)) {
            Asked::Answer(swapped) => {
                call.answered(AnsweredBy::Enhanced);
                match self.learn(&swapped, call) {
                    Ok(()) => Asked::Answer(swapped),
                    Err(error) => Asked::Failed(may_have_happened(error)),
                }
            }
            Asked::Failed(error) => Asked::Failed(self.give_up(error, call)),
            Asked::Unavailable => Asked::Unavailable,
        }
    }

    fn decide(&mut self, call: &Call) -> Result<Swap> {
        if let (DocumentKey::Queue(_), Some(why)) = (self.key, self.core.arming.unarmed()) {
            mark!("queue: document, a queue stays, not armed");
            return Err(self.give_up(self.core.degraded(&why), call));
        }
        if self.before.is_some() {
            make_decision(self.core, &[self.name], self.new, call)?;
            return Ok(Swap::Done);
        }
        let swapped = self.core.local.store().swap_document(self.key, self.expected, self.new, call);
        let swapped = swapped.map_err(|error| self.give_up(error, call))?;
        match &swapped {
            // Redis may have had another one, which the local store did not know or which Redis had lost, and have made the change.
            Swap::Conflict(_) if self.unanswered_since.is_some() => {
                return Err(may_have_happened(self.core.degraded(&format!("the local store has another {}", self.key))));
            }
            Swap::Conflict(_) => {}
            Swap::Done => self.core.unsynced.add_decided(self.name),
        }
        Ok(swapped)
    }

    fn give_up(&mut self, error: Error, call: &Call) -> Error {
        undo_or_doubt(self.core, self.name, self.before.as_ref(), self.unanswered_since.is_some(), error, call)
    }
}

impl Swapping<'_> {
    fn held(&self) -> Option<Held> {
        self.new.map(|value| Held { value: value.to_vec(), token: FencingToken::NONE })
    }

    /// The local store learns what Redis answered.
    fn learn(&mut self, swapped: &Swap, call: &Call) -> Result<()> {
        match (swapped, self.submitted.take()) {
            (Swap::Done, Some(submitted)) => {
                submitted.wait(call.deadline)?;
                confirm(self.core, self.name, FencingToken::NONE);
                Ok(())
            }
            (Swap::Done, None) => {
                let set = Change::Set(self.name.clone(), self.held());
                self.core.local.submit(vec![set], call.deadline)?.wait(call.deadline)
            }
            (Swap::Conflict(current), submitted) => {
                adopt(self.core, self.name, &Remote { value: current.clone(), ..Remote::default() });
                // If the intent is on disk, a crash must not carry it on once the caller was told.
                submitted.map_or(Ok(()), |_| self.core.local.flush(call.deadline))
            }
        }
    }
}

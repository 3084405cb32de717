//! Locks that nobody is to take for now: the document ([`crate::queue::freeze`]), and what of it a grant obeys.
//!
//! Invariant: a freeze costs a grant nothing but a look at memory. What is in memory is read at the start, with each tick, and by each own
//! change; so another server's freeze counts here within five seconds.
//!
//! Faults: a document that cannot be read leaves the last one that could be in force, and the status says so. While a lock is frozen it is
//! kept for nobody, so that no turn runs out; places stay.

use super::super::Service;
use super::super::state::State;
use super::super::unreadable;
use super::attempt::{Asker, Attempt, Join, Joined, refuse_namesake};
use crate::audit::{Event, Kind};
use crate::call::Call;
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::queue::freeze::{Freeze, FreezeRequest, Freezes};
use crate::store::{DocumentKey, Expected, LockKey, Swap};

/// How often a change is tried that others come before.
const MAX_TRIES: u32 = 50;

impl State {
    /// Reads the freezes anew.
    pub(in crate::service) fn refresh_freezes(&self) {
        let _turn = self.queueing.frozen.turn();
        let read = self.store().document(DocumentKey::Freezes, &self.step());
        match read.and_then(|document| Freezes::decode(document.as_deref())) {
            Ok(freezes) => {
                if self.queueing.frozen.learn(freezes) {
                    self.queueing.nudge_all();
                }
            }
            Err(error) => self.queueing.frozen.failed(&error),
        }
    }

    /// Changes the freezes; `change` may be asked more than once, and `None` leaves them as they are.
    fn change_freezes(&self, mut change: impl FnMut(&mut Freezes, u64) -> Result<Option<Freeze>>) -> Result<Option<Freeze>> {
        let _turn = self.queueing.frozen.turn();
        let mut current = self.store().document(DocumentKey::Freezes, &self.step())?;
        for _ in 0..MAX_TRIES {
            let mut freezes = Freezes::decode(current.as_deref())?;
            let Some(changed) = change(&mut freezes, self.now())? else {
                self.queueing.frozen.learn(freezes);
                return Ok(None);
            };
            let (expected, new) = (current.as_deref().map_or(Expected::Absent, Expected::Bytes), freezes.encode());
            match self.store().swap_document(DocumentKey::Freezes, expected, Some(&new), &self.step())? {
                Swap::Done => {
                    self.queueing.frozen.learn(freezes);
                    self.queueing.nudge_all();
                    return Ok(Some(changed));
                }
                Swap::Conflict(found) => current = found,
            }
        }
        Err(Error::new(Code::Timeout, "the freezes keep changing; they were left as they are"))
    }
}

impl Service {
    fn tell_freeze(&self, kind: Kind, operation: Operation, call: &Call, freeze: &Freeze) {
        let detail = format!("{}: {} is frozen {}", freeze.id, freeze.pattern, freeze.why(self.now()));
        self.audit(operation, call, |trail| trail.log.record(&Event { detail: Some(&detail), ..trail.event(kind) }));
    }

    /// Freezes locks from now on, or from then on: nobody takes them, and who has them keeps them. Other servers know of that within five
    /// seconds.
    ///
    /// Errors: `QueueDisabled`; `InvalidArgument` for a freeze without an end that does not say so, without a reason, or that is over;
    /// `TooLarge` for the 101st; those of the store.
    pub fn freeze(&self, request: &FreezeRequest) -> Result<Freeze> {
        self.reading(Operation::Freeze, |_, call| {
            self.need_queue()?;
            self.intend(Operation::Freeze, call, |event| Event { detail: Some(&request.reason), ..event })?;
            let frozen = self.change_freezes(|freezes, now| freezes.add(request, now).map(Some))?;
            let frozen = frozen.ok_or_else(|| Error::new(Code::Internal, "a freeze was added and is not there"))?;
            self.tell_freeze(Kind::Freeze, Operation::Freeze, call, &frozen);
            Ok(frozen)
        })
    }

    /// Ends a freeze; `None` if there is none of this name.
    ///
    /// Errors: `QueueDisabled`; those of the store.
    pub fn thaw(&self, id: &str) -> Result<Option<Freeze>> {
        self.reading(Operation::Thaw, |_, call| {
            self.need_queue()?;
            self.intend(Operation::Thaw, call, |event| Event { detail: Some(id), ..event })?;
            let thawed = self.change_freezes(|freezes, now| Ok(freezes.remove(id, now)))?;
            thawed.iter().for_each(|freeze| self.tell_freeze(Kind::Thaw, Operation::Thaw, call, freeze));
            Ok(thawed)
        })
    }

    /// The freezes that are not over, also those that have not begun.
    ///
    /// Errors: `QueueDisabled`; those of the store.
    pub fn freezes(&self) -> Result<Vec<Freeze>> {
        self.reading(Operation::Freezes, |store, call| {
            self.need_queue()?;
            let _turn = self.queueing.frozen.turn();
            let freezes = Freezes::decode(store.document(DocumentKey::Freezes, call)?.as_deref())?;
            let shown = freezes.at(self.now()).into_iter().cloned().collect();
            self.queueing.frozen.learn(freezes);
            Ok(shown)
        })
    }

    /// Why nobody is to take this lock now; `None` if anybody may.
    pub(super) fn frozen(&self, asker: &Asker<'_>) -> Option<Error> {
        let freezes = self.queueing.frozen.now()?;
        let now = self.now();
        let freeze = freezes.denies(&asker.lock.fields(), now)?;
        Some(Error::new(Code::Frozen, format!("{} is frozen {}", LockKey::Project(&asker.key), freeze.why(now))))
    }

    /// A try to take a frozen lock: who has it keeps it, and behind who has it others may wait.
    pub(super) fn try_frozen(&self, asker: &Asker<'_>, join: Option<Join>, frozen: Error, call: &Call) -> Result<Attempt> {
        let key = LockKey::Project(&asker.key);
        let Some(value) = self.store().get(key, call)? else { return Err(frozen) };
        let holder = ProjectLock::parse(&value).map_err(|cause| unreadable(&key, &cause))?;
        refuse_namesake(&key, &holder, &asker.lock)?;
        if asker.is_own(&holder) {
            return Ok(Attempt::Own { value });
        }
        match self.join_held(asker, join) {
            Joined::Waits(waiting) => Ok(Attempt::Refused { value, waiting }),
            Joined::Free => Err(frozen),
        }
    }
}

//! The one course of every change in hybrid mode: intend, ask Redis, and where Redis is away, decide here.
//!
//! Invariants:
//! - Redis is asked only after the local store was handed what is intended, where there is anything to hand over ([`super::intent`]).
//! - The local store decides only while the gate is held, and after it has made everything that it was handed.
//! - A call ends in one of three ways: Redis's answer, the local store's decision, or an error that says whether the change may have
//!   been made.

use super::core::{Asked, Core};
use crate::call::{AnsweredBy, Call};
use crate::error::{Error, Result};

/// A change of some keys, whose locks the caller has.
pub(super) trait Flow {
    /// What the caller is told.
    type Answer;

    /// Before Redis is asked: the local store is handed what is intended, once. `Some`: the answer is known already.
    fn intend(&mut self, call: &Call) -> Result<Option<Self::Answer>>;

    /// Asks Redis, and hands the local store what became of the intent. An error is final: the intent was undone, or is in doubt.
    fn ask(&mut self, call: &Call) -> Asked<Self::Answer>;

    /// The local store decides, whatever Redis made of the intent.
    fn decide(&mut self, call: &Call) -> Result<Self::Answer>;

    /// Nobody can decide. The intent is undone, or in doubt; the error says which.
    fn give_up(&mut self, error: Error, call: &Call) -> Error;
}

/// Makes a change.
pub(super) fn run<F: Flow>(core: &Core, flow: &mut F, call: &Call) -> Result<F::Answer> {
    loop {
        if !core.in_fallback() {
            let asked = match flow.intend(call)? {
                Some(answer) => Asked::Answer(answer),
                None => flow.ask(call),
            };
            match asked {
                Asked::Answer(answer) => {
                    call.answered(AnsweredBy::Enhanced);
                    return Ok(answer);
                }
                Asked::Failed(error) => return Err(error),
                Asked::Unavailable => {}
            }
        }
        match core.local_turn(call) {
            Ok(Some(_gate)) => {
                call.answered(AnsweredBy::Fallback);
                return flow.decide(call);
            }
            // Redis decides again.
            Ok(None) => {}
            Err(error) => return Err(flow.give_up(error, call)),
        }
    }
}

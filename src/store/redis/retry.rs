//! Attempts until the deadline: how a lost reply never makes a change happen twice, or late.
//!
//! A change carries its request id in every attempt, and the server answers a repeated one with its first answer. It also
//! carries the moment, on the server's clock, after which it must not act (`not_after`): a command that was stuck in a network
//! or in a stopped server may be executed minutes after its caller gave up, and would then release somebody else's lock.
//!
//! What the server remembers of a key is bounded, so each attempt also says when the first one was sent: one from before what is remembered
//! does nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::errors::{Failure, explain, explain_change};
use super::reply::Reply;
use super::scripts::Script;
use super::transport::{Attempt, Transport};
use crate::call::Call;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::sync::mark;

/// Most attempts of one call.
const ATTEMPTS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A link, how its server is called in errors, and where time comes from.
#[derive(Debug)]
pub(super) struct Retrying {
    pub transport: Transport,
    pub server: String,
    pub clock: Arc<dyn Clock>,
}

impl Retrying {
    /// Reads: any failure that may pass is tried again.
    pub(super) fn read<T>(&self, deadline: Instant, attempt: impl Fn(&Transport) -> Attempt<T>) -> Result<T> {
        let mut pause = Pause::default();
        for _ in 0..ATTEMPTS {
            match attempt(&self.transport) {
                Ok(value) => return Ok(value),
                Err(failure) if self.may_pass(&failure) && pause.fits(deadline, &*self.clock) => pause.sleep(&*self.clock),
                Err(failure) => return Err(self.explain(&failure)),
            }
        }
        Err(self.timed_out())
    }

    /// Changes one lock: `args` follow the request id, the `not_after` and the retry flag.
    pub(super) fn change(&self, script: &Script, keys: &[&str], args: &[&[u8]], call: &Call) -> Result<Reply> {
        self.change_with(call, &mut call.lost_since.clone(), |head| {
            let all: Vec<&[u8]> = head.iter().map(|arg| arg.as_slice()).chain(args.iter().copied()).collect();
            self.eval(script, keys, &all, call.deadline)
        })
    }

    /// The same with an attempt of the caller's own, given the first three arguments; `lost_since` is when one was first sent
    /// whose reply was lost, before or here.
    pub(super) fn change_with(
        &self,
        call: &Call,
        lost_since: &mut Option<Instant>,
        attempt: impl Fn(&Head) -> Attempt<Value>,
    ) -> Result<Reply> {
        let mut pause = Pause::default();
        for _ in 0..ATTEMPTS {
            let sent = self.clock.now();
            match attempt(&self.head(call, *lost_since, sent)) {
                Ok(value) => match self.reply(value, lost_since.is_some())? {
                    Reply::Late { now } => {
                        mark!("retry: the answer is LATE");
                        self.transport.clock().learn(now, self.clock.now());
                        if call.remaining(self.clock.now()).is_zero() {
                            break;
                        }
                    }
                    Reply::Unknown { .. } if lost_since.is_some() => {
                        mark!("retry: the answer to a retry is UNKNOWN");
                        return Err(self.unknown("it no longer remembers this change"));
                    }
                    // Nothing was sent before this, and this did nothing: the server's clock was taken for earlier than it is.
                    Reply::Unknown { now } => {
                        mark!("retry: the answer to a first attempt is UNKNOWN");
                        self.transport.clock().learn(now, self.clock.now());
                    }
                    reply => return Ok(reply),
                },
                Err(failure) => {
                    if failure.is_lost() {
                        *lost_since = lost_since.or(Some(sent));
                    }
                    let again = self.may_pass(&failure) || (lost_since.is_some() && (failure.is_unsent() || failure.is_lost()));
                    if again && pause.fits(call.deadline, &*self.clock) {
                        mark!("retry: tried again");
                        pause.sleep(&*self.clock);
                    } else if lost_since.is_some() {
                        mark!("retry: given up, its outcome unknown");
                        return Err(self.unknown(failure));
                    } else {
                        return Err(self.explain(&failure));
                    }
                }
            }
        }
        Err(if lost_since.is_some() { self.unknown("no reply came before the deadline") } else { self.timed_out() })
    }

    /// What a script answers. That something is in its way says nothing of an attempt before it.
    fn reply(&self, value: Value, is_retry: bool) -> Result<Reply> {
        Reply::read(value).map_err(|e| match e.code() {
            Code::EntryUnreadable if is_retry => self.unknown(e),
            _ => e.context(format!("Redis at {}", self.server)),
        })
    }

    /// One attempt of a script, which is sent whole if the server does not know it.
    pub(super) fn eval(&self, script: &Script, keys: &[&str], args: &[&[u8]], deadline: Instant) -> Attempt<Value> {
        self.known(
            deadline,
            |by_text| if by_text { script.by_text(keys, args) } else { script.by_hash(keys, args) },
            |command| self.transport.query(command, deadline),
        )
    }

    /// One attempt of a script's command, made by hash, or by text if the server does not know the hash.
    pub(super) fn known<T>(
        &self,
        deadline: Instant,
        command: impl Fn(bool) -> Cmd,
        send: impl Fn(&Cmd) -> Attempt<T>,
    ) -> Attempt<T> {
        match send(&command(false)) {
            Err(failure) if is_unknown_script(&failure) && self.clock.now() < deadline => send(&command(true)),
            result => result,
        }
    }

    /// The arguments with which every change begins, of an attempt that is sent now.
    pub(super) fn head(&self, call: &Call, lost_since: Option<Instant>, now: Instant) -> Head {
        let clock = self.transport.clock();
        let not_after = clock.at(call.deadline);
        let first_sent = match lost_since {
            Some(sent) => clock.at(sent).to_string(),
            None => format!("-{}", clock.at(now)),
        };
        [call.request.as_str().as_bytes().to_vec(), not_after.to_string().into_bytes(), first_sent.into_bytes()]
    }

    fn explain(&self, failure: &Failure) -> Error {
        if self.transport.changes_masters() { explain_change(failure, &self.server) } else { explain(failure, &self.server) }
    }

    fn may_pass(&self, failure: &Failure) -> bool {
        // Where another server takes over, what the old master says is passing, too.
        failure.is_passing() || (failure.is_of_old_master() && self.transport.changes_masters()) || failure.may_be_repeated()
    }

    fn unknown(&self, why: impl std::fmt::Display) -> Error {
        let text = format!(
            "Redis at {}: the change was sent, but its outcome is unknown: it may or may not have happened ({why}). Look at the lock before you rely on it",
            self.server
        );
        Error::new(Code::OutcomeUnknown, text)
    }

    fn timed_out(&self) -> Error {
        Error::new(Code::Timeout, format!("Redis at {}: the deadline passed; nothing was changed", self.server))
    }
}

/// Request id, `not_after`, and when the first lost attempt was sent; without one, when this is, behind a `-`.
pub(super) type Head = [Vec<u8>; 3];

/// Whether the server does not know a script's hash.
pub(super) fn is_unknown_script(failure: &Failure) -> bool {
    failure.kind() == Some(redis::ErrorKind::Server(redis::ServerErrorKind::NoScript))
}

struct Pause(Duration);

impl Default for Pause {
    fn default() -> Pause {
        Pause(FIRST_PAUSE)
    }
}

impl Pause {
    fn fits(&self, deadline: Instant, clock: &dyn Clock) -> bool {
        clock.now() + self.0 < deadline
    }

    fn sleep(&mut self, clock: &dyn Clock) {
        clock.sleep(self.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

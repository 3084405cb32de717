//! The parts of hybrid mode, and the few steps that need several of them.
//!
//! | part | owns |
//! |---|---|
//! | [`Authority`] | who decides: the gate, the breaker, since when and why |
//! | [`Arming`] | whether the local store may grant: alone and complete, and what is remembered of that |
//! | [`Presence`] | what this server and Redis know of each other |
//! | [`WriteBehind`] | what is on its way to the local store |
//! | [`RedisAccess`] | the connection, this server's own calls, fencing tokens |
//! | [`KeyLocks`], [`Unsynced`], [`Conflicts`] | one change a key; keys on which the stores may differ; locks granted twice |
//!
//! **Order of locks.** A key's lock, then the gate, then the locks inside the parts. A part takes no lock of another part while it
//! holds its own, but for three: [`Authority`] tells [`Presence`] that a fallback begins, [`Conflicts`] queues for [`WriteBehind`] what
//! begins and ends, and [`WriteBehind`] hands changes to the local store and tells [`Arming`] of a failure. [`Presence`] and [`Arming`]
//! take none. Recovery closes the gate without any key's lock: whoever has one may be waiting for the gate.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Mutex, RwLockReadGuard, mark};

use super::arming::Arming;
use super::audit::AuditTrail;
use super::authority::Authority;
use super::breaker::Outcome;
use super::conflicts::Conflicts;
use super::key_locks::KeyLocks;
use super::metrics::Metrics;
use super::presence::Presence;
use super::redis_access::{Connect, RedisAccess};
use super::status::Seen;
use super::unsynced::Unsynced;
use super::write_behind::{WriteBehind, is_late, is_of};
use crate::call::Call;
use crate::clock::Clock;
use crate::config::{Durability, Enhanced};
use crate::domain::lock::PullRef;
use crate::error::{Code, Error, Result};
use crate::process::Process;
use crate::store::contract::local::{Change, Conflict, EntryKey, KeyState, LocalStore, RedisRecord};
use crate::store::contract::shared::SharedStore;

/// First pause between two tries of one call; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Core {
    pub settings: Enhanced,
    pub clock: Arc<dyn Clock>,
    pub authority: Authority,
    pub arming: Arc<Arming>,
    pub presence: Presence,
    pub local: WriteBehind,
    pub redis: RedisAccess,
    pub key_locks: KeyLocks,
    pub unsynced: Unsynced,
    pub conflicts: Conflicts,
    pub seen: Mutex<Seen>,
    pub metrics: Metrics,
    pub audit: AuditTrail,
    stopping: AtomicBool,
}

/// What the local store remembers from before this start.
pub(super) struct Before {
    pub record: RedisRecord,
    pub conflicts: Vec<Conflict>,
}

/// How a question to Redis ended.
pub(super) enum Asked<T> {
    /// It answered.
    Answer(T),
    /// It answered that this cannot be done, or the time is over.
    Failed(Error),
    /// It is not to be asked: the local store decides now.
    Unavailable,
}

impl Core {
    /// `reserve` is the local store's part of each call's time.
    pub(super) fn new(
        settings: Enhanced,
        reserve: Duration,
        process: &Process<'_>,
        local: Arc<dyn LocalStore>,
        connect: Connect,
        before: Before,
    ) -> Core {
        let clock = Arc::clone(&process.clock);
        let now = clock.now();
        let timeout = settings.redis.timeouts.operation;
        let arming = Arc::new(Arming::new(&settings, before.record, now));
        Core {
            authority: Authority::new(&settings.breaker, Arc::clone(&clock)),
            presence: Presence::new(now),
            local: WriteBehind::new(local, Arc::clone(&arming), Arc::clone(&clock), settings.durability, timeout),
            redis: RedisAccess::new(connect, Arc::clone(&arming), Arc::clone(&clock), process.instance, timeout, reserve),
            arming,
            key_locks: KeyLocks::default(),
            unsynced: Unsynced::default(),
            conflicts: Conflicts::new(before.conflicts),
            seen: Mutex::default(),
            metrics: Metrics::default(),
            audit: AuditTrail::new(process.audit.clone(), process.instance),
            stopping: AtomicBool::new(false),
            settings,
            clock,
        }
    }

    /// Whether the local store decides.
    pub(super) fn in_fallback(&self) -> bool {
        self.authority.in_fallback()
    }

    /// From now on the local store decides.
    pub(super) fn begin_fallback(&self, cause: Error) {
        if self.authority.begin_fallback(cause.clone(), || self.presence.disagree()) {
            self.audit.fallback(&cause);
        }
    }

    /// Redis has lost data: the local store decides until Redis has back what that knows.
    pub(super) fn fall_back_for_data_loss(&self, what: &str) {
        self.note_lost();
        self.begin_fallback(Error::new(Code::Unreachable, format!("Redis has lost data: {what}")));
    }

    /// Remembers that Redis has lost data, until the two agree, across a restart, too.
    pub(super) fn note_lost(&self) {
        if let Some(record) = self.arming.note_lost() {
            self.local.enqueue(Change::Redis(record));
        }
    }

    /// Asks Redis until it answers, the local store decides in its place, or time is over. `unanswered_since` becomes the moment when a
    /// change was first sent whose answer was lost: it may have been made.
    pub(super) fn ask<T>(
        &self,
        call: &Call,
        unanswered_since: &mut Option<Instant>,
        question: impl FnMut(&dyn SharedStore, &Call) -> Result<T>,
    ) -> Asked<T> {
        self.ask_until(call, Some(self.redis.timeout), unanswered_since, question)
    }

    /// The same of a question whose answer grows with what is in Redis: each page of it has the time of a question.
    pub(super) fn ask_long<T>(&self, call: &Call, question: impl FnMut(&dyn SharedStore, &Call) -> Result<T>) -> Asked<T> {
        self.ask_until(call, None, &mut None, question)
    }

    fn ask_until<T>(
        &self,
        call: &Call,
        timeout: Option<Duration>,
        unanswered_since: &mut Option<Instant>,
        mut question: impl FnMut(&dyn SharedStore, &Call) -> Result<T>,
    ) -> Asked<T> {
        let until = self.redis.until(call);
        let mut pause = FIRST_PAUSE;
        loop {
            if self.in_fallback() {
                return Asked::Unavailable;
            }
            let Some(redis) = self.redis.current() else {
                return Asked::Failed(Error::new(Code::Closed, "the locking layer is closed"));
            };
            let started = self.clock.now();
            let mut attempt = Call::new(call.request.clone(), timeout.map_or(until, |timeout| until.min(started + timeout)));
            attempt.lost_since = *unanswered_since;
            let answer = question(&*redis, &attempt);
            // One that had less than its time says nothing of Redis by being late.
            let had_its_time = attempt.deadline >= started + self.whole_time() || self.clock.now() < attempt.deadline;
            if had_its_time || !answer.as_ref().is_err_and(is_late) {
                self.record(&answer, started, timeout.is_none());
            }
            let error = match answer {
                Ok(answer) => return Asked::Answer(answer),
                Err(error) => error,
            };
            if error.code() == Code::OutcomeUnknown {
                *unanswered_since = unanswered_since.or(Some(started));
            }
            if !is_of_redis(&error) {
                return Asked::Failed(error);
            }
            if !self.in_fallback() {
                if self.clock.now() + pause >= until {
                    return Asked::Failed(error);
                }
                self.clock.sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Tells the breaker how a question ended. `long`: its time says nothing of Redis.
    pub(super) fn record<T>(&self, answer: &Result<T>, started: Instant, long: bool) {
        let took = self.clock.now().saturating_duration_since(started);
        let is_slow = took > self.settings.breaker.slow_call;
        let outcome = match answer {
            Err(error) if is_of_redis(error) && took >= self.whole_time() && (!long || error.code() == Code::Timeout) => {
                mark!("fallback: a question hung", Outcome::Hung)
            }
            Err(error) if is_of_redis(error) => Outcome::Failure,
            // A Redis that is slow decides better than a local store that cannot.
            _ if is_slow && (long || !self.would_grant()) => Outcome::Success(Duration::ZERO),
            _ if is_slow && self.is_starved() => return mark!("fallback: slow for want of a processor", ()),
            _ => Outcome::Success(took),
        };
        if self.authority.record(outcome, started, answer.as_ref().err(), || self.presence.disagree())
            && let Some(cause) = self.authority.cause()
        {
            mark!("fallback: the breaker opens");
            self.audit.fallback(&cause);
        }
    }

    /// Whether this process waits for a processor, by a tenth of the time after which an answer is slow: what is slow then may be so for that
    /// alone, and says nothing of Redis. A Redis that answers nobody is found all the same, by who waits the whole time for it.
    pub(super) fn is_starved(&self) -> bool {
        self.clock.lateness() > self.settings.breaker.slow_call / 10
    }

    /// What counts as a question's whole time: the caller's clock runs a moment before its first question is sent.
    fn whole_time(&self) -> Duration {
        self.redis.timeout - self.redis.timeout / 10
    }

    /// Lets the caller decide here, or read here; the local store has made by then what it was handed.
    ///
    /// `None`: Redis decides again. An error: with `legacy_fallback: false` nobody does.
    pub(super) fn local_turn(&self, call: &Call) -> Result<Option<RwLockReadGuard<'_, ()>>> {
        let Some(gate) = self.authority.enter(call.deadline) else {
            let text = "the stores were being brought together until the deadline; nothing was changed: try again";
            return Err(Error::new(Code::Timeout, text));
        };
        if !self.in_fallback() {
            return mark!("fallback: it ended while somebody waited", Ok(None));
        }
        if !self.settings.legacy_fallback {
            mark!("fallback: nobody decides");
            return Err(self.degraded("legacy_fallback is false"));
        }
        mark!("fallback: the local store's turn");
        self.local.flush(call.deadline)?;
        Ok(Some(gate))
    }

    /// Whether the local store would grant if Redis were away: it works, it is armed.
    pub(super) fn would_grant(&self) -> bool {
        self.arming.unarmed().is_none() && self.local.store().ping(&self.redis.step()).is_ok()
    }

    /// The error of what neither store can answer now.
    pub(super) fn degraded(&self, why: &str) -> Error {
        let cause = self.authority.cause().map_or_else(String::new, |cause| format!(" ({cause})"));
        let text =
            format!("Redis cannot be asked, and the local store cannot answer this in its place: {why}{cause}; try again later");
        Error::new(Code::Degraded, text)
    }

    /// Somebody else changes locks in this Redis.
    pub(super) fn saw_other(&self, who: String) {
        self.arming.saw_other(who, self.clock.now());
        self.remember();
    }

    /// Writes down whether the local store is alone and complete, if that has changed.
    pub(super) fn remember(&self) {
        if let Some(record) = self.arming.take_unwritten() {
            // On disk before anything rests on it; a disk that does not take this takes no lock either.
            let _ = self.local.write(vec![Change::Redis(record)], self.redis.soon());
        }
    }

    /// Changes what is remembered of Redis, on disk.
    pub(super) fn write_record(&self, change: impl FnOnce(&mut RedisRecord), deadline: Instant) -> Result<()> {
        self.local.write(vec![Change::Redis(self.arming.change(change))], deadline)
    }

    /// What the local store has, or is about to have, at a key.
    pub(super) fn known(&self, key: &EntryKey) -> Result<KeyState> {
        let queued = self.local.queued(key);
        let known = self.or_nothing(self.local.store().local(key))?;
        Ok(match queued {
            Some(value) => KeyState { value, ..known },
            None => known,
        })
    }

    /// The keys of the project locks that this pull holds in the local store, or is about to hold there, or that somebody is about to
    /// release.
    pub(super) fn held_by(&self, pull: PullRef<'_>) -> Result<BTreeSet<EntryKey>> {
        let known = || {
            let mut keys = self.local.queued_by(pull);
            keys.extend(self.or_nothing(self.local.store().held_by(pull.repo, pull.num))?);
            Ok(keys)
        };
        self.key_locks.with_what_is_released(|value| is_of(value, pull), known)
    }

    /// What the local store answers; with `durability: async`, Redis goes on without it when it does not.
    fn or_nothing<T: Default>(&self, answer: Result<T>) -> Result<T> {
        match answer {
            Err(error) if self.settings.durability == Durability::Async && !self.in_fallback() => {
                self.arming.fell_behind(&error);
                Ok(T::default())
            }
            answer => answer,
        }
    }

    /// The end has come: who looks at all keys looks no further.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// An error, if the end has come.
    pub(super) fn err_if_stopping(&self) -> Result<()> {
        let is_over = self.stopping.load(Ordering::SeqCst);
        if is_over { Err(Error::new(Code::Closed, "the locking layer is being closed")) } else { Ok(()) }
    }

    /// The end: the local store has everything, and remembers that.
    pub(super) fn all_written(&self) -> Result<()> {
        let deadline = self.redis.soon();
        self.local.flush(deadline)?;
        self.local.write(vec![Change::Redis(self.arming.closed())], deadline)
    }
}

/// Whether an error says that Redis cannot be used, rather than something of this one question.
pub(super) fn is_of_redis(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::Unreachable
            | Code::Authentication
            | Code::Permission
            | Code::Tls
            | Code::ReadOnly
            | Code::Timeout
            | Code::OutcomeUnknown
            | Code::Protocol
            | Code::InvalidConfig
            | Code::Loading
            | Code::Busy
            | Code::RedisFull
            | Code::CannotSave
            | Code::TooFewReplicas
            | Code::TooManyClients
            | Code::NoSuchCommand
            | Code::ClusterDown
            | Code::FailingOver
            | Code::SlotMoving
            | Code::RedisTooOld
    )
}

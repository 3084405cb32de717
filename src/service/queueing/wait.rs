//! A caller who waits until it has the lock.
//!
//! Invariant: a wait ends with the lock, or without a place in the queue, unless the pull waits there through Atlantis as well, or by another
//! caller of this process. A caller who dies leaves its place; a key is kept for such a place for a minute, three times at most.
//!
//! Without a queue the caller asks again and again, and whoever asks first after a release has the lock.

use std::time::{Duration, Instant};

use super::super::Service;
use super::attempt::{Asker, Attempt, Join};
use super::place::Waiting;
use crate::domain::lock::ProjectLock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::queue::{Priority, PullId, Queue};
use crate::store::LockKey;

/// How soon a caller looks again, if nothing in this process wakes it before.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The same without a queue: it grows from the first to the last.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How a caller waits.
#[derive(Clone, Debug, Default)]
pub struct WaitOptions {
    /// Its class.
    pub priority: Priority,
    /// How long at most; `None`: as `locking.enhanced.timeouts.default` says. Zero asks once and does not join.
    pub timeout: Option<Duration>,
    /// A name by which [`Service::cancel`] ends the wait.
    pub cancel: Option<String>,
}

/// How a wait ended.
#[derive(Debug)]
pub enum Waited {
    /// With the lock, and its value as it is stored.
    Locked {
        /// The lock.
        value: Vec<u8>,
        /// Its fencing token; 0 if it is not known.
        token: FencingToken,
    },
    /// Without.
    Without {
        /// Why.
        why: Why,
        /// The lock that its holder has, or that the pull would have for which it is kept.
        holder: Vec<u8>,
        /// The last place in the queue; `None` without one.
        waiting: Option<Waiting>,
    },
}

/// Why a wait ended without the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time was over.
    Timeout,
    /// Its caller did not want to wait any more.
    Cancelled,
    /// Somebody took the pull out of the queue.
    Left,
}

impl Why {
    /// `timeout`, `cancelled` or `left`.
    pub fn name(self) -> &'static str {
        match self {
            Why::Timeout => "timeout",
            Why::Cancelled => "cancelled",
            Why::Left => "left",
        }
    }
}

/// What a waiting caller does next.
enum Next {
    Try,
    End(Why),
}

impl Service {
    /// Takes a project's lock, and waits for it if it is not free: in the order of the repository's queue, if there is one. A lock that
    /// the pull has already is its answer, at once.
    ///
    /// Errors: `NoPull` for a number below 1; `InvalidArgument` for a timeout above `locking.enhanced.timeouts.max`; `QueueFull`; those of
    /// [`Service::try_lock`]. None leaves a place behind.
    pub fn lock(&self, lock: &[u8], options: &WaitOptions) -> Result<Waited> {
        self.counted(
            Operation::Lock,
            self.router.timeout(),
            |waited| matches!(waited, Waited::Without { .. }),
            |_, call| {
                let asker = Asker::of(lock)?;
                asker.need_pull()?;
                let timeout = self.timeout(options.timeout)?;
                let begun = self.clock.now();
                let mut wait = Wait { service: self, asker, options, until: begun + timeout, pause: ASK_AGAIN.0 };
                let (repo, pull, key) = (wait.asker.repo().to_owned(), wait.asker.pull(), wait.asker.key.clone());
                let _present = self.queueing.present();
                self.queueing.comes(&repo, &pull, &key);
                let first = self.attempt(&wait.asker, wait.join(), call);
                let waited = wait.go_on(first);
                self.queueing.goes(&repo, &pull, &key);
                match &waited {
                    Ok(Waited::Locked { .. }) => self.queueing.waits.waited(self.clock.now() - begun),
                    Err(error) if self.queueing.keeps_place_after(error) => {}
                    _ => wait.leave(),
                }
                waited
            },
        )
    }

    /// Ends the wait of this name, also if it begins only now.
    pub fn cancel(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.queueing.cancel(name);
        Ok(())
    }

    pub(super) fn timeout(&self, asked: Option<Duration>) -> Result<Duration> {
        let limits = &self.queueing.timeouts;
        match asked {
            Some(asked) if asked > limits.max => Err(Error::new(
                Code::InvalidArgument,
                format!(
                    "a timeout of {} is over the {} that locking.enhanced.timeouts.max allows",
                    humantime_serde::re::humantime::format_duration(asked),
                    humantime_serde::re::humantime::format_duration(limits.max)
                ),
            )),
            asked => Ok(asked.unwrap_or(limits.default)),
        }
    }

    /// Why a wait is over, if it is.
    pub(super) fn ended(&self, options: &WaitOptions, until: Instant) -> Result<Option<Why>> {
        self.check_open()?;
        if options.cancel.as_ref().is_some_and(|name| self.queueing.is_cancelled(name)) {
            return Ok(Some(Why::Cancelled));
        }
        Ok((self.clock.now() >= until).then_some(Why::Timeout))
    }

    /// A wait is over: the pull has no place any more, unless Atlantis gave it one, or another caller of its waits.
    pub(super) fn leave_as_caller(&self, repo: &str, pull: &PullId, keys: &[String]) {
        // What fails is seen by whoever waits behind: a place without a caller is passed.
        let changed = self.change(repo, |queue, now| {
            if queue.ticket(pull).is_some_and(|ticket| ticket.calls) {
                // Asked here, where no join comes between: who comes later has a place that is not taken away.
                let left = keys.iter().filter(|key| !self.queueing.is_waited_for(repo, pull, key)).cloned();
                let left: Vec<String> = left.filter(|key| queue.leave(pull, Some(key)) > 0).collect();
                return self.dispatch_in(repo, queue, &left, now);
            }
            Ok(Vec::new())
        });
        if let Ok(changed) = changed {
            self.queueing.dispatched(repo, changed.answer);
        }
    }
}

struct Wait<'a> {
    service: &'a Service,
    asker: Asker<'a>,
    options: &'a WaitOptions,
    until: Instant,
    pause: Duration,
}

impl Wait<'_> {
    fn join(&self) -> Option<Join<'static>> {
        let waits = self.options.timeout != Some(Duration::ZERO);
        waits.then_some(Join { priority: self.options.priority, calls: true, recipe: "" })
    }

    fn go_on(&mut self, mut attempt: Result<Attempt>) -> Result<Waited> {
        let mut last = None;
        loop {
            let (holder, waiting) = match attempt? {
                Attempt::Granted { token } => return Ok(Waited::Locked { value: self.asker.value.to_vec(), token }),
                Attempt::Own { value } => return self.own(value),
                Attempt::Refused { value, waiting } => (value, waiting),
            };
            if waiting.as_ref().is_some_and(|waiting| waiting.why == "full") {
                let text = format!(
                    "the queue of {:?} is full: {} was refused, and nobody waits for it in vain",
                    self.asker.repo(),
                    self.asker.key
                );
                return Err(Error::new(Code::QueueFull, text));
            }
            let has_place = waiting.is_some();
            last = waiting.or(last);
            match self.until_next(has_place)? {
                Next::Try => attempt = self.service.attempt(&self.asker, self.join(), &self.service.step()),
                Next::End(why) => {
                    // Of what cannot be read any more the last place is told.
                    let waiting = match self.place() {
                        Ok(place) => place.or(last),
                        Err(_) => last.map(|last| Waiting { stale: true, ..last }),
                    };
                    return Ok(Waited::Without { why, holder, waiting });
                }
            }
        }
    }

    /// The pull has the lock already.
    fn own(&self, value: Vec<u8>) -> Result<Waited> {
        let held = self.service.store().held(LockKey::Project(&self.asker.key), &self.service.step())?;
        let token = held.filter(|held| held.value == value).map(|held| held.token).unwrap_or_default();
        Ok(Waited::Locked { value, token })
    }

    /// Waits until it makes sense to ask again.
    fn until_next(&mut self, has_place: bool) -> Result<Next> {
        loop {
            let seen = self.service.queueing.changed.generation();
            if let Some(end) = self.end()? {
                return Ok(Next::End(end));
            }
            if has_place {
                // An error here is one of the queue: the lock itself may be had.
                match self.service.queue(self.asker.repo()) {
                    Ok(queue) if queue.ticket(&self.asker.pull()).is_none_or(|own| own.want(&self.asker.key).is_none()) => {
                        return Ok(if self.missed(&queue) || self.is_own()? { Next::Try } else { Next::End(Why::Left) });
                    }
                    Ok(queue) if queue.admits(&self.asker.key, Some(&self.asker.pull())) => return Ok(Next::Try),
                    Ok(_) => {}
                    Err(_) => return self.pause(seen),
                }
            } else {
                return self.pause(seen);
            }
            self.service.queueing.changed.wait(seen, self.until.min(self.service.clock.now() + LOOK_AGAIN));
        }
    }

    /// Without a place there is nothing to look at but the lock.
    fn pause(&mut self, seen: u64) -> Result<Next> {
        self.service.queueing.changed.wait(seen, self.until.min(self.service.clock.now() + self.pause));
        self.pause = (self.pause * 2).min(ASK_AGAIN.1);
        Ok(self.end()?.map_or(Next::Try, Next::End))
    }

    /// The queue knows nothing of the pull: is that because the store has lost the queue, rather than that somebody took the pull out?
    fn missed(&self, queue: &Queue) -> bool {
        queue.revision() == 0
    }

    /// Whether the pull has the lock, by another caller or by Atlantis: then it waits for the lock no more.
    fn is_own(&self) -> Result<bool> {
        let value = self.service.store().get(LockKey::Project(&self.asker.key), &self.service.step())?;
        Ok(value.is_some_and(|value| is_of(&value, &self.asker.pull(), self.asker.repo())))
    }

    fn end(&self) -> Result<Option<Why>> {
        self.service.ended(self.options, self.until)
    }

    fn place(&self) -> Result<Option<Waiting>> {
        if !self.service.queueing.is_for(self.asker.repo()) {
            return Ok(None);
        }
        let queue = self.service.queue(self.asker.repo())?;
        Ok(Waiting::of(&queue, &self.asker.pull(), &self.asker.key, "held", &self.service.queueing.rules))
    }

    /// The wait is over: the pull has no place any more, unless Atlantis gave it one.
    fn leave(&self) {
        if !self.service.queueing.is_for(self.asker.repo()) || self.join().is_none() {
            return;
        }
        self.service.leave_as_caller(self.asker.repo(), &self.asker.pull(), std::slice::from_ref(&self.asker.key));
    }
}

/// Whether a wait may have this name.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 256 {
        return Err(Error::new(Code::InvalidArgument, "a wait has a name of 1 to 256 bytes by which it is cancelled"));
    }
    Ok(())
}

/// Whether a lock's JSON is the pull's own.
pub(super) fn is_of(value: &[u8], pull: &PullId, repo: &str) -> bool {
    ProjectLock::parse(value).is_ok_and(|lock| lock.pull().repo == repo && PullId::of(&lock).is(pull))
}

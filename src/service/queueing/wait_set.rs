//! A caller who waits until it has all locks of a set, or none newly.
//!
//! Invariant: as that of `wait` for each of the locks, and that of `sets` for all of them: whatever ends the wait without the set, also a
//! crash, no lock of it was newly granted, or what was is given back.

use std::time::{Duration, Instant};

use super::super::Service;
use super::memory::Queueing;
use super::open_runs::SetState;
use super::place::{Blocker, Waiting};
use super::sets::{Set, members, would_be_lock};
use super::wait::{WaitOptions, Why};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::queue::{PullId, Queue, Waiter};
use crate::store::LockKey;
use crate::store::contract::local::Held;

/// How soon a caller looks again, if nothing in this process wakes it before.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How soon a set is asked for again that was refused although it was next.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// How a wait for a set ended.
#[derive(Debug)]
pub enum SetWaited {
    /// With all locks: their values as they are stored, and their fencing tokens; in the order of their keys.
    Locked(Vec<(Vec<u8>, FencingToken)>),
    /// Without any that the pull did not have before.
    Without {
        /// Why.
        why: Why,
        /// The lock that is in the way, or that the pull would have for which it is kept.
        holder: Vec<u8>,
        /// The last place in the queue of that lock; `None` without one.
        waiting: Option<Waiting>,
    },
}

impl Service {
    /// Takes all of these locks of one pull, a JSON array, or none newly, and waits until they can be had together. What the pull has
    /// already stays with it either way.
    ///
    /// Errors: `NoPull` for a number below 1; `QueueDisabled`; `InvalidArgument` without a lock, for locks of two repositories or pulls, for
    /// one key twice, and for a timeout above `locking.enhanced.timeouts.max`; `TooLarge` for more than 500; `QueueFull`; those of a grant.
    /// None leaves a place behind.
    pub fn lock_set(&self, locks: &[u8], options: &WaitOptions) -> Result<SetWaited> {
        self.counted(
            Operation::Lock,
            self.router.timeout(),
            |waited| matches!(waited, SetWaited::Without { .. }),
            |_, _| {
                let set = set_of(locks, options)?;
                self.need_queue_of(&set.repo)?;
                let begun = self.clock.now();
                let until = begun + self.timeout(options.timeout)?;
                let wait = SetWait { service: self, set, options, until };
                let _present = self.queueing.present();
                wait.counted(Queueing::comes);
                let waited = wait.run();
                wait.counted(Queueing::goes);
                match &waited {
                    Ok(SetWaited::Locked(_)) => self.queueing.waits.waited(self.clock.now() - begun),
                    Err(error) if self.queueing.keeps_place_after(error) => {}
                    _ => wait.leave(),
                }
                waited
            },
        )
    }
}

/// What is asked for. The locks are of one pull.
fn set_of(locks: &[u8], options: &WaitOptions) -> Result<Set> {
    let mut of: Option<(String, PullId, Waiter)> = None;
    let wanted = members(locks, |asker| {
        let (repo, pull) = (asker.repo(), asker.pull());
        let Some((first_repo, first_pull, _)) = &of else {
            asker.need_pull()?;
            of = Some((repo.to_owned(), pull, asker.waiter("")?));
            return Ok(());
        };
        if repo == first_repo && pull == *first_pull {
            return Ok(());
        }
        let (first, num) = (first_pull.num, pull.num);
        let text = format!(
            "a set is of one pull, and this one has locks of pull #{first} of {first_repo:?} and of pull #{num} of {repo:?}"
        );
        Err(Error::new(Code::InvalidArgument, text))
    })?;
    let Some((repo, pull, waiter)) = of else {
        return Err(Error::new(Code::InvalidArgument, "a set without a lock: name at least one"));
    };
    Ok(Set { repo, pull, waiter, priority: options.priority, calls: true, wanted })
}

struct SetWait<'a> {
    service: &'a Service,
    set: Set,
    options: &'a WaitOptions,
    until: Instant,
}

/// What a waiting caller does next.
enum Next {
    Ask,
    End(Why),
}

impl SetWait<'_> {
    fn run(&self) -> Result<SetWaited> {
        loop {
            let blocker = match self.service.ask_for_set(self.set.clone())? {
                (SetState::Refused(blocker), _) => blocker,
                (SetState::Granted | SetState::NotAsked, _) => return Ok(self.granted()),
            };
            if let Next::End(why) = self.until_next()? {
                return Ok(self.without(why, blocker));
            }
        }
    }

    /// Waits until it makes sense to ask again.
    fn until_next(&self) -> Result<Next> {
        let (service, not_before) = (self.service, self.service.clock.now() + ASK_AGAIN);
        loop {
            let seen = service.queueing.changed.generation();
            if let Some(why) = service.ended(self.options, self.until)? {
                return Ok(Next::End(why));
            }
            let now = service.clock.now();
            // An error here is one of the queue, which may be read the next time.
            match service.queue(&self.set.repo) {
                Ok(queue) if self.is_next(&queue) && now >= not_before => return Ok(Next::Ask),
                Ok(queue) if !self.waits(&queue) => return self.left(&queue),
                _ => {}
            }
            let look = if now < not_before { not_before } else { now + LOOK_AGAIN };
            service.queueing.changed.wait(seen, look.min(self.until));
        }
    }

    /// Whether all that the pull waits for may be its now.
    fn is_next(&self, queue: &Queue) -> bool {
        let Some(ticket) = queue.ticket(&self.set.pull) else { return false };
        ticket.acquiring.is_none() && !ticket.wants.is_empty() && ticket.wants.keys().all(|key| ticket.has_reserved(key))
    }

    fn waits(&self, queue: &Queue) -> bool {
        queue.ticket(&self.set.pull).is_some_and(|ticket| self.set.wanted.keys().any(|key| ticket.want(key).is_some()))
    }

    /// The pull waits for nothing of the set any more: because it has the locks, or the store has lost the queue, or somebody took it out.
    fn left(&self, queue: &Queue) -> Result<Next> {
        let has_all = self.service.own_locks(&self.set)?.len() == self.set.wanted.len();
        Ok(if has_all || queue.revision() == 0 { Next::Ask } else { Next::End(Why::Left) })
    }

    fn granted(&self) -> SetWaited {
        let is_own = |held: &Held| super::wait::is_of(&held.value, &self.set.pull, &self.set.repo);
        let lock = |(key, value): (&String, &Vec<u8>)| {
            // It is granted, whether its token can be read or not; and a person may have given it up since, as each lock.
            let held = self.service.store().held(LockKey::Project(key), &self.service.step()).ok().flatten();
            held.filter(is_own).map_or_else(|| (value.clone(), FencingToken::NONE), |held| (held.value, held.token))
        };
        SetWaited::Locked(self.set.wanted.iter().map(lock).collect())
    }

    fn without(&self, why: Why, blocker: Blocker) -> SetWaited {
        let (service, set, key) = (self.service, &self.set, &blocker.key);
        // Of what cannot be read any more there is less to tell.
        let queue = service.queue(&set.repo).ok();
        let waiting = queue.and_then(|queue| Waiting::of(&queue, &set.pull, key, "set", &service.queueing.rules));
        let asked = set.wanted.get(key).map(Vec::as_slice).unwrap_or_default();
        let held = service.store().get(LockKey::Project(key), &service.step()).ok().flatten();
        let unknown = PullId { host: String::new(), num: 0 };
        let would_be = |pull| would_be_lock(pull, &set.repo, asked).unwrap_or_else(|_| asked.to_vec());
        let holder = held.unwrap_or_else(|| would_be(blocker.pull.as_ref().unwrap_or(&unknown)));
        let waiting = waiting.map(|waiting| Waiting { blocker: Some(blocker), ..waiting });
        SetWaited::Without { why, holder, waiting }
    }

    fn counted(&self, count: impl Fn(&Queueing, &str, &PullId, &str)) {
        self.set.wanted.keys().for_each(|key| count(&self.service.queueing, &self.set.repo, &self.set.pull, key));
    }

    /// The wait is over: the pull has no place any more, unless Atlantis gave it one.
    fn leave(&self) {
        let keys: Vec<String> = self.set.wanted.keys().cloned().collect();
        self.service.leave_as_caller(&self.set.repo, &self.set.pull, &keys);
    }
}

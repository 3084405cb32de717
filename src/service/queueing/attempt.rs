//! One try to take a lock.
//!
//! A key that is kept for somebody else is refused, as one that is held. Who may wait joins the queue in the same try: first the document has
//! the ticket, then the key its gate; a lock that was released in between is tried again.

use super::super::{Service, unreadable};
use super::change::Changed;
use super::place::Waiting;
use crate::call::Call;
use crate::domain::limits::{MAX_KEY_BYTES, MAX_LOCK_BYTES, limit};
use crate::domain::lock::ProjectLock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::queue::{Gate, Priority, PullId, Queue, Rules, Ticket, Waiter};
use crate::store::{Grant, Granted, LockKey};
use crate::sync::mark;

/// How often a try is begun anew because the key changed hands in between.
const MAX_TRIES: u32 = 4;

/// Who asks for which lock.
#[derive(Clone)]
pub(in crate::service) struct Asker<'a> {
    pub value: &'a [u8],
    pub lock: ProjectLock<'a>,
    pub key: String,
}

impl<'a> Asker<'a> {
    /// Reads a lock's JSON. Errors: `InvalidJson`, `TooLarge`.
    pub fn of(value: &'a [u8]) -> Result<Asker<'a>> {
        limit("a lock", value.len(), MAX_LOCK_BYTES)?;
        let lock = ProjectLock::parse(value)?;
        let key = lock.fields().key();
        limit("a lock's key", key.len(), MAX_KEY_BYTES)?;
        Ok(Asker { value, lock, key })
    }

    pub fn pull(&self) -> PullId {
        PullId::of(&self.lock)
    }

    pub fn repo(&self) -> &str {
        self.lock.pull().repo
    }

    pub(super) fn waiter(&self, recipe: &str) -> Result<Waiter> {
        Ok(Waiter { recipe: recipe.to_owned(), ..Waiter::of(self.value, &self.lock)? })
    }

    /// Errors: `NoPull`.
    pub(super) fn need_pull(&self) -> Result<()> {
        let num = self.lock.pull().num;
        if num > 0 {
            return Ok(());
        }
        Err(Error::new(Code::NoPull, format!("pull {num} cannot wait for a lock: the number of a pull request is above 0")))
    }

    /// Whether this lock is the asker's own already.
    pub(super) fn is_own(&self, holder: &ProjectLock<'_>) -> bool {
        holder.pull() == self.lock.pull() && PullId::of(holder).is(&self.pull())
    }

    pub fn key(&self) -> LockKey<'_> {
        LockKey::Project(&self.key)
    }
}

/// How whoever is refused joins the queue.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Join<'a> {
    pub priority: Priority,
    /// Whether a blocked caller waits, and not the pull by Atlantis.
    pub calls: bool,
    /// What a server needs to plan the pull again.
    pub recipe: &'a str,
}

/// What came of a try.
#[derive(Debug)]
pub(in crate::service) enum Attempt {
    /// The asker has the lock.
    Granted { token: FencingToken },
    /// The asker had it before.
    Own { value: Vec<u8> },
    /// Somebody else has the lock, or it is kept for somebody else; `value` is the lock of that pull, or would be.
    Refused { value: Vec<u8>, waiting: Option<Waiting> },
}

impl Service {
    /// One grant, told to the audit trail.
    ///
    /// Errors: `EntryUnreadable` if what holds the key is not a lock; `OtherPull`; those of the store.
    pub(super) fn grant_once(&self, asker: &Asker<'_>, in_order: bool, call: &Call) -> Result<Once> {
        let grant = Grant { key: asker.key(), lock: Some(&asker.lock), value: asker.value, in_order };
        self.intend(Operation::TryLock, call, |event| event.about(grant.key).of(&asker.lock))?;
        let granted = self.store().grant(&grant, call);
        let held = match &granted {
            Ok(Granted::Held { value }) => Some(ProjectLock::parse(value)),
            _ => None,
        };
        let refused = match &held {
            Some(Ok(holder)) => refuse_namesake(&grant.key, holder, &asker.lock),
            Some(Err(e)) => Err(unreadable(&grant.key, e)),
            None => Ok(()),
        };
        self.audit(Operation::TryLock, call, |trail| {
            trail.grant(&grant, refused.as_ref().and(granted.as_ref()), held.as_ref().and_then(|held| held.as_ref().ok()));
        });
        refused?;
        let is_own = matches!(&held, Some(Ok(holder)) if asker.is_own(holder));
        Ok(match granted? {
            Granted::Yes { token, gated } => Once::Granted { token, gated },
            Granted::Held { value } => Once::Held { value, is_own },
            Granted::NotYet => Once::NotYet,
        })
    }

    /// One try; `call` is its first question. Without `join` nobody joins the queue.
    ///
    /// Errors: those of a grant.
    pub(in crate::service) fn attempt(&self, asker: &Asker<'_>, join: Option<Join<'_>>, call: &Call) -> Result<Attempt> {
        if let Some(frozen) = self.frozen(asker) {
            return self.try_frozen(asker, join, frozen, call);
        }
        let mut in_order = self.queueing.is_for(asker.repo());
        let mut granted = self.grant_once(asker, in_order, call)?;
        for _ in 0..MAX_TRIES {
            match granted {
                Once::Granted { token, gated } => {
                    if gated {
                        self.took(asker.repo(), &asker.pull(), &asker.key);
                    }
                    self.queueing.waits.taken(&asker.key, self.clock.now());
                    return Ok(Attempt::Granted { token });
                }
                Once::Held { value, is_own: true } if self.is_settled(asker.repo(), &asker.pull(), &asker.key, &value)? => {
                    return Ok(Attempt::Own { value });
                }
                // What a set had left was taken back.
                Once::Held { is_own: true, .. } => {}
                Once::Held { value, is_own: false } => match self.join_held(asker, join) {
                    Joined::Waits(waiting) => return Ok(Attempt::Refused { value, waiting }),
                    Joined::Free => mark!("queue: a lock was released while somebody joined", ()),
                },
                Once::NotYet => match self.enter(asker, join) {
                    Ok(Entered::LetIn) => {}
                    Ok(Entered::Kept(value, waiting)) => return Ok(Attempt::Refused { value, waiting }),
                    Ok(Entered::Refused(error)) => return Err(error),
                    // Order delays, and must not block.
                    Err(_) => in_order = mark!("queue: order gives way", false),
                },
            }
            granted = self.grant_once(asker, in_order, &self.step())?;
        }
        Err(Error::new(Code::Timeout, format!("{} keeps changing hands; it was not taken: try again", asker.key())))
    }

    /// Whether a lock that a pull has already is the pull's to keep. One that was granted for a set whose caller has not been told is not: the
    /// caller, or who finds that it is gone, takes the lock back. `false`: that was just done.
    ///
    /// Errors: `SetIncomplete` while the caller may be at work; those of the store: a lock whose queue cannot be asked for now may be taken back.
    pub(super) fn is_settled(&self, repo: &str, pull: &PullId, key: &str, value: &[u8]) -> Result<bool> {
        // Without a queue there are no sets; what is there and cannot be read takes nothing back.
        let queue = match self.queueing.is_for(repo).then(|| self.queue(repo)) {
            None => return Ok(true),
            Some(Err(error)) if matches!(error.code(), Code::EntryUnreadable | Code::StoreNewerFormat) => return Ok(true),
            Some(queue) => queue?,
        };
        let Some(set) = queue.on_its_way(pull, key, value) else {
            if queue.ticket(pull).is_some_and(|ticket| !ticket.whole && ticket.want(key).is_some()) {
                // A crash kept that from being written when the lock was taken.
                self.took(repo, pull, key);
            }
            return Ok(true);
        };
        if !set.given_up && set.until > self.now() {
            let text = format!(
                "a set with {key:?} is being granted to pull #{}, or was when its server died: that is settled within two minutes; try again",
                pull.num
            );
            return Err(Error::new(Code::SetIncomplete, text));
        }
        self.dispatch(repo, &[])?;
        self.dispatch(repo, &[]).map(|_| false)
    }

    /// A pull has the lock: it waits for it no more. If that cannot be written, the next tick sees it.
    fn took(&self, repo: &str, pull: &PullId, key: &str) {
        let _ = self.change(repo, |queue, _| Ok(queue.took(pull, key)));
    }

    /// Joins the queue of a lock that is held.
    pub(super) fn join_held(&self, asker: &Asker<'_>, join: Option<Join<'_>>) -> Joined {
        let Some(join) = join.filter(|_| self.queueing.is_for(asker.repo())) else { return Joined::Waits(None) };
        let joined = asker.waiter(join.recipe).and_then(|waiter| {
            self.change(asker.repo(), |queue, now| {
                queue.join(&waiter, std::slice::from_ref(&asker.key), join.priority, false, join.calls, now)
            })
        });
        match joined {
            Ok(Changed { free, .. }) if free.contains(&asker.key) => {
                // What fails here fails in the next try, too, or the next tick does it.
                let _ = self.dispatch(asker.repo(), &free);
                Joined::Free
            }
            Ok(Changed { queue, .. }) => {
                self.queueing.nudge(asker.repo(), &queue);
                Joined::Waits(Waiting::of(&queue, &asker.pull(), &asker.key, "held", &self.queueing.rules))
            }
            Err(error) if error.code() == Code::QueueFull => Joined::Waits(Some(Waiting::full())),
            Err(_) => Joined::Waits(None),
        }
    }

    /// The key is free, and has a gate that kept the asker out.
    fn enter(&self, asker: &Asker<'_>, join: Option<Join<'_>>) -> Result<Entered> {
        let (pull, key) = (asker.pull(), asker.key.clone());
        let waiter = asker.waiter(join.map_or("", |join| join.recipe))?;
        let mut is_full = false;
        let changed = self.change(asker.repo(), |queue, now| {
            if let Some(join) = join.filter(|_| !queue.admits(&key, Some(&pull))) {
                match queue.join(&waiter, std::slice::from_ref(&key), join.priority, false, join.calls, now) {
                    Err(error) if error.code() == Code::QueueFull => is_full = true,
                    joined => joined?,
                }
            }
            let gate = queue.gate(&key);
            let events = self.dispatch_in(asker.repo(), queue, std::slice::from_ref(&key), now)?;
            Ok((gate, events))
        })?;
        let (queue, (gate, events)) = (changed.queue, changed.answer);
        self.queueing.dispatched(asker.repo(), events);
        self.queueing.nudge(asker.repo(), &queue);
        if queue.admits(&key, Some(&pull)) {
            if gate == queue.gate(&key) {
                // The queue said so before: what the store obeys is of another one.
                mark!("queue: a gate of another queue is replaced");
                self.replace_gate(asker.repo(), &key)?;
            }
            return Ok(Entered::LetIn);
        }
        if self.store().get(asker.key(), &self.step())?.is_some() {
            // Somebody took it since: that holder is whom to name.
            return Ok(Entered::LetIn);
        }
        let is_single = queue.ticket(&pull).is_some_and(|ticket| !ticket.whole && ticket.want(&key).is_some());
        if is_single && queue.gate(&key) == Gate::Closed {
            // A key that is free is kept for whoever is first: it was held when the dispatch looked.
            return Ok(mark!("queue: a lock was released while its queue was looked at", Entered::LetIn));
        }
        let Some(first) = first(&queue, &key, &pull, &self.queueing.rules) else {
            return Ok(Entered::Refused(set_incomplete(asker)));
        };
        let value = first.would_be_lock(asker.repo(), asker.value)?;
        if let Err(error) = ProjectLock::parse(&value).and_then(|first| refuse_namesake(&asker.key(), &first, &asker.lock)) {
            return Ok(Entered::Refused(error));
        }
        let waiting =
            if is_full { Some(Waiting::full()) } else { Waiting::of(&queue, &pull, &key, "reserved", &self.queueing.rules) };
        Ok(Entered::Kept(value, waiting))
    }
}

/// The answer to one grant.
pub(super) enum Once {
    Granted { token: FencingToken, gated: bool },
    Held { value: Vec<u8>, is_own: bool },
    NotYet,
}

/// What came of joining the queue of a lock that is held.
pub(super) enum Joined {
    /// The asker waits, if it has a place.
    Waits(Option<Waiting>),
    /// The lock was released meanwhile.
    Free,
}

/// What a gate comes to.
enum Entered {
    /// It lets the asker in.
    LetIn,
    /// The lock is kept for another pull: what that pull's lock would be, and the asker's place.
    Kept(Vec<u8>, Option<Waiting>),
    /// The same, and it cannot be told for whom.
    Refused(Error),
}

/// For which other pull a key is kept, or which is next for it. Atlantis would take a lock of the asker's own for one that was granted.
fn first<'a>(queue: &'a Queue, key: &str, asks: &PullId, rules: &Rules) -> Option<&'a Waiter> {
    let is_other = |ticket: &&Ticket| ticket.want(key).is_some() && !ticket.pull().is(asks);
    let others: Vec<&Ticket> = queue.tickets_in_order(rules).into_iter().filter(is_other).collect();
    let reserved = others.iter().find(|ticket| ticket.has_reserved(key));
    reserved.or(others.first()).map(|ticket| &ticket.waiter)
}

fn set_incomplete(asker: &Asker<'_>) -> Error {
    let text = format!("{} is free, but pull #{} takes it only with the other locks of its set", asker.key(), asker.pull().num);
    Error::new(Code::SetIncomplete, text)
}

/// Atlantis takes a lock for its own if the holder's pull has the number of the one that asks (`project_locker.go`, v0.47.1), so a
/// pull with that number and another host or repository must not be told who holds the lock: both would hold it.
///
/// Locks that do not tell their host are of any.
pub(in crate::service) fn refuse_namesake(key: &LockKey<'_>, holder: &ProjectLock<'_>, asking: &ProjectLock<'_>) -> Result<()> {
    let other_host = !holder.host().is_empty() && !asking.host().is_empty() && !holder.host().eq_ignore_ascii_case(asking.host());
    if holder.pull().num != asking.pull().num || (holder.pull().repo == asking.pull().repo && !other_host) {
        return Ok(());
    }
    let name = |lock: &ProjectLock<'_>| {
        let host = if lock.host().is_empty() { "an unknown host" } else { lock.host() };
        format!("{} on {host}", lock.pull().repo)
    };
    let (num, holder, asking) = (holder.pull().num, name(holder), name(asking));
    Err(Error::new(
        Code::OtherPull,
        format!(
            "{key} is held by pull #{num} of {holder}, and asked for by pull #{num} of {asking}. Atlantis tells pulls apart by their \
             number alone, so the lock is refused: apply and merge the holder's pull, or discard its lock on Atlantis's page, then plan again"
        ),
    ))
}

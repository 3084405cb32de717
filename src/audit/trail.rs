//! How the answers of the service become events.

use super::actor::Actor;
use super::event::{Event, Holder, Kind};
use super::log::AuditLog;
use crate::call::AnsweredBy;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::store::{Grant, Granted, Listing, LockKey};

/// Writes the events of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Trail<'a> {
    /// Where to.
    pub log: &'a AuditLog,
    /// The operation.
    pub operation: Operation,
    /// The store that answered it.
    pub store: AnsweredBy,
    /// Identity of the instance.
    pub instance: &'a str,
    /// Who asked, and by which way.
    pub actor: &'a Actor,
    /// The request, by which its intent is known.
    pub request: &'a str,
}

impl<'a> Trail<'a> {
    /// A grant, a refusal, or an error in place of either.
    /// `holder` is the lock in the way, if it can be read.
    pub fn grant(&self, grant: &Grant<'_>, answer: Result<&Granted, &Error>, holder: Option<&ProjectLock<'_>>) {
        let with_taker = |event: Event<'_>| match grant.lock {
            Some(taker) => self.log.record(&event.of(taker)),
            None => self.log.record(&event),
        };
        match answer {
            Ok(Granted::Yes { token, .. }) => {
                with_taker(Event { token: Some(*token), ..self.event(Kind::Grant).about(grant.key) });
            }
            Ok(Granted::Held { .. } | Granted::NotYet) => {
                with_taker(Event { holder: holder.map(Holder::of), ..self.event(Kind::Refusal).about(grant.key) });
            }
            Err(e) => with_taker(self.event(Kind::Error).about(grant.key).failed(e)),
        }
    }

    /// A release or discard of one lock, unless there was none.
    pub fn removal(&self, kind: Kind, key: LockKey<'_>, answer: &Result<Option<Vec<u8>>>) {
        match answer {
            Ok(None) => self.unchanged(|event| event.about(key)),
            Ok(Some(value)) => match ProjectLock::parse(value) {
                Ok(lock) => self.log.record(&self.event(kind).about(key).held_by(&lock)),
                // A command's, or an entry that is no lock.
                Err(_) => self.log.record(&self.event(kind).about(key)),
            },
            Err(e) => self.log.record(&self.event(Kind::Error).about(key).failed(e)),
        }
    }

    /// The releases of a pull's locks. On an error, those that were made before it are not known.
    pub fn releases(&self, pull: PullRef<'_>, answer: &Result<Listing>) {
        let of_pull = |event| Event { repo: Some(pull.repo), pull: Some(pull.num), ..event };
        match answer {
            Ok(released) if released.values().next().is_none() => self.unchanged(of_pull),
            Ok(released) => {
                for value in released.values() {
                    match ProjectLock::parse(value) {
                        Ok(lock) => {
                            let key = lock.fields().key();
                            self.log.record(&self.event(Kind::Release).about(LockKey::Project(&key)).held_by(&lock));
                        }
                        Err(_) => self.log.record(&of_pull(self.event(Kind::Release))),
                    }
                }
            }
            Err(e) => self.log.record(&of_pull(self.event(Kind::Error)).failed(e)),
        }
    }

    /// What is about to be asked of the store, where the settings demand that.
    ///
    /// Errors: `AuditFailed`: it must not be asked.
    pub fn intend(&self, what: impl FnOnce(Event<'a>) -> Event<'a>) -> Result<()> {
        self.log.intend(&what(Event { store: None, ..self.event(Kind::Intent) }))
    }

    /// An intent of which nothing came.
    pub(crate) fn unchanged<'b>(&self, what: impl FnOnce(Event<'a>) -> Event<'b>)
    where
        'a: 'b,
    {
        if self.log.is_required() {
            self.log.record(&what(self.event(Kind::Unchanged)));
        }
    }

    /// An event of this operation.
    pub(crate) fn event(&self, kind: Kind) -> Event<'a> {
        let event = Event::new(kind, self.instance).done_by(self.actor);
        let request = self.log.is_required().then_some(self.request);
        Event { operation: Some(self.operation.name()), store: Some(self.store), request, ..event }
    }
}

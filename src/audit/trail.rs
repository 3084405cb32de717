//! How the answers of the service become events.

use super::event::{By, Event, Holder, Kind};
use super::file::AuditLog;
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
    /// Who asked, if that was not the server itself.
    pub by: Option<By>,
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
            Ok(None) => {}
            Ok(Some(value)) => match ProjectLock::parse(value) {
                Ok(lock) => self.log.record(&self.event(kind).about(key).of(&lock)),
                // A command's, or an entry that is no lock.
                Err(_) => self.log.record(&self.event(kind).about(key)),
            },
            Err(e) => self.log.record(&self.event(Kind::Error).about(key).failed(e)),
        }
    }

    /// The releases of a pull's locks. On an error, those that were made before it are not known.
    pub fn releases(&self, pull: PullRef<'_>, answer: &Result<Listing>) {
        let of_pull = |kind| Event { repo: Some(pull.repo), pull: Some(pull.num), ..self.event(kind) };
        match answer {
            Ok(released) => {
                for value in released.values() {
                    match ProjectLock::parse(value) {
                        Ok(lock) => {
                            let key = lock.fields().key();
                            self.log.record(&self.event(Kind::Release).about(LockKey::Project(&key)).of(&lock));
                        }
                        Err(_) => self.log.record(&of_pull(Kind::Release)),
                    }
                }
            }
            Err(e) => self.log.record(&of_pull(Kind::Error).failed(e)),
        }
    }

    fn event(&self, kind: Kind) -> Event<'a> {
        Event { operation: Some(self.operation.name()), store: Some(self.store), by: self.by, ..Event::new(kind, self.instance) }
    }
}

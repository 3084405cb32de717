//! What hybrid mode writes into the audit trail: who decides from now on, and what bringing the stores together changed.
//!
//! Of the values of locks in conflict, which hold clone URLs with tokens, only their holders are read.

use std::sync::Arc;

use crate::sync::Mutex;

use super::status::Recovery;
use crate::audit::{AuditLog, Event, Holder, Kind, Via};
use crate::call::AnsweredBy;
use crate::domain::lock::ProjectLock;
use crate::error::Error;
use crate::store::contract::local::{EntryKey, Held};

/// Writes to the trail, if there is one.
#[derive(Debug, Default)]
pub(super) struct AuditTrail {
    log: Option<Arc<AuditLog>>,
    instance: String,
    /// Why the local store was not armed when that was last written; `None` inside if it was.
    unarmed: Mutex<Option<Option<String>>>,
}

impl AuditTrail {
    pub fn new(log: Option<Arc<AuditLog>>, instance: &str) -> AuditTrail {
        AuditTrail { log, instance: instance.to_owned(), unarmed: Mutex::default() }
    }

    /// The local store decides from now on.
    pub fn fallback(&self, cause: &Error) {
        self.record(|event| Event { code: Some(cause.code().name()), detail: Some(cause.message()), ..event(Kind::Fallback) });
    }

    /// Both stores granted this lock; Redis's holder keeps it.
    pub fn conflict(&self, key: &EntryKey, local: &Held, remote: &Held) {
        let (ours, theirs) = (ProjectLock::parse(&local.value).ok(), ProjectLock::parse(&remote.value).ok());
        self.record(|event| {
            let holder = theirs.as_ref().map(Holder::of);
            let event = Event { holder, via: Some(Via::Recovery), ..event(Kind::Conflict) };
            let event = key.lock().map_or(event, |key| event.about(key));
            ours.as_ref().map_or(event, |lock| event.of(lock))
        });
    }

    /// The start found in the host store that this lock was released, or taken, while hybrid mode was not in use.
    pub fn before_start(&self, kind: Kind, key: &EntryKey, held: &Held) {
        let lock = ProjectLock::parse(&held.value).ok();
        self.record(|event| {
            let detail = Some("in strict mode or by a stock server, before this start");
            let event = Event { store: Some(AnsweredBy::Legacy), detail, via: Some(Via::Stock), ..event(kind) };
            let event = key.lock().map_or(event, |key| event.about(key));
            let Some(lock) = &lock else { return event };
            if kind == Kind::Release { event.held_by(lock) } else { event.of(lock) }
        });
    }

    /// Redis decides again.
    pub fn recovery(&self, done: &Recovery) {
        let detail = done.to_string();
        self.record(|event| Event { detail: Some(&detail), via: Some(Via::Recovery), ..event(Kind::Recovery) });
    }

    /// Whether the local store is armed, if that or the reason has changed.
    pub fn unarmed(&self, because: Option<String>) {
        let mut before = self.unarmed.lock();
        if before.as_ref() == Some(&because) {
            return;
        }
        let kind = if because.is_none() { Kind::Armed } else { Kind::Disarmed };
        self.record(|event| Event { detail: because.as_deref(), ..event(kind) });
        *before = Some(because);
    }

    fn record<'a>(&'a self, event: impl FnOnce(&dyn Fn(Kind) -> Event<'a>) -> Event<'a>) {
        if let Some(log) = &self.log {
            log.record(&event(&|kind| Event::new(kind, &self.instance)));
        }
    }
}

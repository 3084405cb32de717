//! An event that a program tells: what the library does not see by itself.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use super::actor::Actor;
use super::event::{Event, Holder, Kind};
use super::log::AuditLog;
use crate::call::{AnsweredBy, Calls};
use crate::clock::SystemClock;
use crate::config;
use crate::error::Result;
use crate::redact::without_credentials;

/// An event as JSON, of a program that keeps a trail by `atlock_audit_open`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    kind: Kind,
    #[serde(default)]
    operation: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    repo: Option<String>,
    #[serde(default)]
    pull: Option<i64>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    holder: Option<Held>,
    #[serde(default)]
    store: Option<AnsweredBy>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    settings: Vec<String>,
    #[serde(default)]
    request: Option<String>,
    #[serde(default)]
    actor: Actor,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    repo: String,
    pull: i64,
    user: String,
}

impl Entry {
    /// What comes from elsewhere has no more than its part of a line, and no credentials.
    fn cut(self) -> Entry {
        let detail = self.detail.map(|detail| without_credentials(Cow::Owned(detail)).into_owned());
        Entry { actor: self.actor.cut(), detail, ..self }
    }

    /// The event, of this instance.
    fn event<'a>(&'a self, instance: &'a str) -> Event<'a> {
        let event = Event {
            operation: self.operation.as_deref(),
            key: self.key.as_deref(),
            command: self.command.as_deref(),
            repo: self.repo.as_deref(),
            pull: self.pull,
            user: self.user.as_deref(),
            holder: self.holder.as_ref().map(|held| Holder::named(&held.repo, held.pull, &held.user)),
            store: self.store,
            code: self.code.as_deref(),
            detail: self.detail.as_deref(),
            settings: &self.settings,
            request: self.request.as_deref(),
            ..Event::new(self.kind, instance)
        };
        event.done_by(&self.actor)
    }
}

/// The audit trail of a program that records events itself, beside a handle of `atlock_open` or without one.
#[derive(Debug)]
pub struct Recorder {
    log: AuditLog,
    instance: String,
}

impl Recorder {
    /// Opens the trail that the settings name; `None` if they name none.
    ///
    /// Errors: `InvalidConfig` if it cannot be opened.
    pub fn open(config: &config::Audit) -> Result<Option<Recorder>> {
        let Some(log) = AuditLog::of(config)? else { return Ok(None) };
        let instance = Calls::new(Arc::new(SystemClock))?.instance();
        Ok(Some(Recorder { log, instance }))
    }

    /// Records an event. An intent is written only if changes wait for it (`locking.audit.required`), and is on the disk then.
    ///
    /// Errors: `AuditFailed`.
    pub fn record(&self, entry: Entry) -> Result<()> {
        let entry = entry.cut();
        let event = entry.event(&self.instance);
        match entry.kind {
            Kind::Intent => self.log.intend(&event),
            Kind::Unchanged if !self.log.is_required() => Ok(()),
            _ => self.log.tell(&event),
        }
    }

    /// What an operator must know: `warning`, a text or none, and how many events are `lost`.
    pub fn report(&self) -> (Option<String>, u64) {
        (self.log.warning(), self.log.lost().get())
    }
}

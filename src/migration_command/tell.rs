//! Who is told how a migration goes on: a person at a terminal, the audit trail.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::audit::{Actor, AuditLog, By, Event, Kind, Via};
use crate::config::Config;
use crate::error::Result;
use crate::migrate::Tell;

/// Shows progress on a terminal, and writes the audit trail of the settings, if they have one.
pub(super) struct Teller {
    bar: RefCell<Option<ProgressBar>>,
    audit: Option<(AuditLog, String, Actor)>,
}

impl Teller {
    /// `by` asked a server for it; otherwise it was whoever typed this command.
    pub(super) fn new(config: Option<&Path>, by: Option<By>) -> Result<Teller> {
        let settings = config.map(Config::load).transpose()?;
        let log = settings.map(|config| AuditLog::of_command(&config.locking.audit)).transpose()?.flatten();
        let actor = Actor { via: Some(Via::Migration), ..by.map_or_else(Actor::this_process, Actor::from) };
        let clock: Arc<dyn crate::clock::Clock> = Arc::new(crate::clock::SystemClock);
        let instance = crate::call::Calls::new(clock)?.instance();
        Ok(Teller { bar: RefCell::default(), audit: log.map(|log| (log, instance, actor)) })
    }

    /// Ends it; what is to be said beside the output.
    pub(super) fn finish(&self) -> Vec<String> {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
        self.audit.as_ref().and_then(|(log, ..)| log.warning()).into_iter().collect()
    }
}

impl Tell for Teller {
    fn begin(&self, what: &str, total: usize) {
        // On what is no terminal, nothing is drawn.
        let length = u64::try_from(total).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {per_sec} {eta} left") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        *self.bar.borrow_mut() = Some(bar);
    }

    fn advance(&self, by: usize) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(u64::try_from(by).unwrap_or(u64::MAX));
        }
    }

    fn event(&self, text: &str) {
        if let Some((log, instance, actor)) = &self.audit {
            let event = Event { operation: Some("migrate"), detail: Some(text), ..Event::new(Kind::Migration, instance) };
            log.record(&event.done_by(actor));
        }
    }
}

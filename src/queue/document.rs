//! The document: a queue as JSON.

use std::collections::BTreeSet;
use std::io;

use serde::Deserialize;

use super::format::QueueJson;
use super::state::{Queue, VERSION};
use crate::error::{Code, Error, Result};

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Deserialize)]
struct Revision {
    revision: u64,
}

impl Queue {
    /// Reads a document; `None` is an empty queue.
    ///
    /// Errors: `StoreNewerFormat` if a newer version wrote it; `EntryUnreadable` if it is damaged.
    pub fn decode(bytes: Option<&[u8]>) -> Result<Queue> {
        let Some(bytes) = bytes else { return Ok(Queue::default()) };
        let damaged = |what: &str| {
            let length = bytes.len();
            let text = format!(
                "the queue's document of {length} bytes is damaged: {what}; locks are not touched, and nobody has a place until it \
                 is emptied with `atlock leave`"
            );
            Error::new(Code::EntryUnreadable, text)
        };
        let read = serde_json::from_slice::<QueueJson<'_>>(bytes).ok().and_then(QueueJson::read);
        let Some(mut queue) = read.filter(|queue| queue.version <= VERSION) else {
            let Version { version } = serde_json::from_slice(bytes).map_err(|_| damaged("it names no version"))?;
            if version > u64::from(VERSION) {
                let text = format!(
                    "the queue's document has format {version}, written by a newer version of atlock, and this one reads {VERSION}: \
                     run the newer version, or empty the queue with its `atlock leave`"
                );
                return Err(Error::new(Code::StoreNewerFormat, text));
            }
            return Err(damaged("a part of it cannot be read"));
        };
        if let Some(what) = queue.contradiction() {
            return Err(damaged(what));
        }
        queue.trim_ended();
        let after = queue.tickets.iter().map(|ticket| ticket.seq.saturating_add(1)).fold(queue.next_seq, u64::max);
        queue.next_seq = after;
        Ok(queue)
    }

    /// What no queue has, if this one has it.
    fn contradiction(&self) -> Option<&'static str> {
        let mut pulls = BTreeSet::new();
        if !self.tickets.iter().all(|ticket| pulls.insert(ticket.pull())) {
            return Some("a pull has two tickets");
        }
        let mut reserved = BTreeSet::new();
        let mut wants = self.tickets.iter().flat_map(|ticket| &ticket.wants).filter(|(_, want)| want.is_reserved());
        (!wants.all(|(key, _)| reserved.insert(key))).then_some("a key is reserved twice")
    }

    /// The document; `None` if there is nothing to keep, and the document is to be deleted. Without a ticket it still tells for a while whose
    /// ended: who waits must be able to tell a place that was given up from a queue that was lost.
    pub fn encode(&self) -> Option<Vec<u8>> {
        (!self.is_empty() || !self.ended.is_empty()).then(|| self.to_bytes())
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Nothing in a queue fails to be written: its maps have texts for keys.
        serde_json::to_vec(&QueueJson::of(self)).unwrap_or_default()
    }

    /// How many bytes the document has.
    pub(super) fn size(&self) -> usize {
        let mut counter = Counter(0);
        serde_json::to_writer(&mut counter, &QueueJson::of(self)).map_or(usize::MAX, |()| counter.0)
    }
}

/// Counts what is written.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The revision of a document; 0 if it cannot be read.
pub fn revision(bytes: &[u8]) -> u64 {
    serde_json::from_slice(bytes).map_or(0, |Revision { revision }| revision)
}

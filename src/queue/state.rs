//! The queue itself: what the document holds.

use super::ticket::{PullId, Ticket};

/// The format of the document that this version writes.
pub(super) const VERSION: u32 = 1;
/// How long it is remembered that a ticket ended, microseconds: longer than two documents are apart without anybody looking.
const REMEMBERED: u64 = 24 * 3600 * 1_000_000;
/// How many ended tickets are remembered.
pub(super) const MAX_ENDED: usize = 100;

/// The order of one repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    pub(super) version: u32,
    pub(super) revision: u64,
    pub(super) next_seq: u64,
    pub(super) tickets: Vec<Ticket>,
    pub(super) ended: Vec<Ended>,
}

/// A ticket that ended: it does not come back from a document that does not know of its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ended {
    /// The revision at which it ended: the list is in this order.
    pub(super) at: u64,
    pub(super) seq: u64,
    pub(super) pull: PullId,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { version: VERSION, revision: 0, next_seq: 0, tickets: Vec::new(), ended: Vec::new() }
    }
}

impl Queue {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// How many tickets there are.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Which change of the document this is: each has a larger one than those before.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Makes this the next revision; for whoever encodes a change.
    pub fn bump(&mut self, now: u64) {
        self.revision = self.revision.saturating_add(1).max(now);
        self.ended.retain(|ended| ended.at.saturating_add(REMEMBERED) > now);
    }

    /// The ticket of this pull.
    pub fn ticket(&self, pull: &PullId) -> Option<&Ticket> {
        self.find(pull).map(|at| &self.tickets[at])
    }

    /// Where the ticket of this pull is: of exactly this one, or else of one that may be the same.
    pub(super) fn find(&self, pull: &PullId) -> Option<usize> {
        let exact = self.tickets.iter().position(|ticket| ticket.pull() == pull);
        exact.or_else(|| self.tickets.iter().position(|ticket| ticket.pull().is(pull)))
    }

    /// Ends the tickets that want nothing, and remembers that they ended. One whose set is on its way stays until that is over:
    /// nobody else knows what may have to be taken back.
    pub(super) fn end_the_done(&mut self) {
        let at = self.revision;
        let (tickets, done): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tickets)
            .into_iter()
            .partition(|ticket| !ticket.wants.is_empty() || ticket.acquiring.is_some());
        self.tickets = tickets;
        self.ended.extend(done.into_iter().map(|ticket| Ended { at, seq: ticket.seq, pull: ticket.waiter.pull }));
        self.trim_ended();
    }

    /// In order, each once, the newest.
    pub(super) fn trim_ended(&mut self) {
        self.ended.sort();
        self.ended.dedup();
        let too_many = self.ended.len().saturating_sub(MAX_ENDED);
        self.ended.drain(..too_many);
    }
}

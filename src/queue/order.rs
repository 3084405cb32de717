//! Who is before whom.

use std::cmp::Ordering;

use super::state::Queue;
use super::ticket::{PullId, Ticket};

/// The times by which order goes, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What one step of a priority is worth: nobody is passed by a ticket that joined more than four times this later.
    pub aging: u64,
    /// How long a key is kept free for the ticket that is next.
    pub reservation: u64,
    /// The same where a blocked caller waits, who takes the lock at once; if that caller died, nobody comes.
    pub caller_reservation: u64,
    /// After this time a ticket that waits for a whole set collects: what gets free of its set is kept for it.
    pub collect_after: u64,
}

/// The one order of a queue, the same for all keys.
pub(super) fn compare(a: &Ticket, b: &Ticket, rules: &Rules) -> Ordering {
    let key = |ticket: &Ticket| i128::from(ticket.since) - ticket.priority.head_start() * i128::from(rules.aging);
    let tie = || (a.seq, a.pull()).cmp(&(b.seq, b.pull()));
    key(a).cmp(&key(b)).then_with(tie)
}

impl Queue {
    /// All tickets, in no order.
    pub fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        self.tickets.iter()
    }

    /// All tickets, the next one first.
    pub fn tickets_in_order(&self, rules: &Rules) -> Vec<&Ticket> {
        let mut tickets: Vec<&Ticket> = self.tickets.iter().collect();
        tickets.sort_by(|a, b| compare(a, b, rules));
        tickets
    }

    /// The tickets that want this key, in no order.
    pub fn wanted_by(&self, key: &str) -> Vec<&Ticket> {
        self.tickets.iter().filter(|ticket| ticket.wants.contains_key(key)).collect()
    }

    /// The tickets that want this key, the next one first: the one to which the key is reserved, then in order.
    fn line(&self, key: &str, rules: &Rules) -> Vec<&Ticket> {
        let mut line = self.wanted_by(key);
        line.sort_by(|a, b| b.has_reserved(key).cmp(&a.has_reserved(key)).then_with(|| compare(a, b, rules)));
        line
    }

    /// The place of a pull among those who want this key: 1 is next. `None`: it does not wait for the key.
    pub fn position(&self, pull: &PullId, key: &str, rules: &Rules) -> Option<usize> {
        let ticket = self.ticket(pull)?;
        self.line(key, rules).iter().position(|other| std::ptr::eq(*other, ticket)).map(|at| at + 1)
    }

    /// Who is before a pull among those who want this key, the next one first; nobody if it does not wait for the key.
    pub fn ahead(&self, pull: &PullId, key: &str, rules: &Rules) -> Vec<&Ticket> {
        let place = self.position(pull, key, rules).unwrap_or_default();
        let mut line = self.line(key, rules);
        line.truncate(place.saturating_sub(1));
        line
    }
}

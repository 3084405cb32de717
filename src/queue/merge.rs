//! Two documents of one repository that went on apart: Redis's, and that of a fallback.
//!
//! A ticket that either has goes on, from its earlier place, unless the other remembers its end. What is not told apart: a key that
//! one side ended and the other still wants; that is wanted again, and the next dispatch sees who holds the key.

use std::collections::BTreeMap;

use super::state::Queue;
use super::ticket::{Acquiring, PullId, Ticket, Want};

/// Both documents in one; reservations are those of `ours`, and a document without tickets is one, too. `None`: one cannot be read.
///
/// The same as often as either is merged again, and whoever is ours, but for reservations; as long as the ends that are remembered
/// are not more than fit.
pub fn merge(ours: &[u8], theirs: &[u8]) -> Option<Vec<u8>> {
    let ours = Queue::decode(Some(ours)).ok()?;
    let mut theirs = Queue::decode(Some(theirs)).ok()?;
    for ticket in &mut theirs.tickets {
        ticket.withdraw();
    }
    let mut tickets: BTreeMap<PullId, Ticket> = ours.tickets.into_iter().map(|ticket| (ticket.pull().clone(), ticket)).collect();
    let mut ended = ours.ended;
    ended.append(&mut theirs.ended);
    let has_ended = |ticket: &Ticket| ended.iter().any(|end| end.pull.is(ticket.pull()) && ticket.seq <= end.seq);
    tickets.retain(|_, ticket| !has_ended(ticket));
    for ticket in theirs.tickets.into_iter().filter(|ticket| !has_ended(ticket)) {
        match tickets.remove(ticket.pull()) {
            Some(own) => tickets.insert(own.pull().clone(), one(own, ticket)),
            None => tickets.insert(ticket.pull().clone(), ticket),
        };
    }
    let mut merged = Queue {
        revision: ours.revision.max(theirs.revision),
        next_seq: ours.next_seq.max(theirs.next_seq),
        tickets: tickets.into_values().collect(),
        ended,
        ..Queue::default()
    };
    merged.trim_ended();
    Some(merged.to_bytes())
}

/// One ticket of two of one pull; the second has no reservations.
fn one(own: Ticket, other: Ticket) -> Ticket {
    // A set that one side has ended is on its way no more: its locks may have been told to their pull.
    let set_ended = own.set_ended.max(other.set_ended);
    let is_on_its_way = |set: &Acquiring| set.until > set_ended;
    let mut told = own.told;
    told.extend(other.told);
    let acquiring = both(own.acquiring.filter(is_on_its_way), other.acquiring.filter(is_on_its_way));
    let mut wants = own.wants;
    for key in other.wants.into_keys() {
        wants.entry(key).or_insert(Want::Waiting);
    }
    Ticket {
        waiter: own.waiter.max(other.waiter),
        seq: own.seq.min(other.seq),
        since: own.since.min(other.since),
        priority: own.priority.max(other.priority),
        whole: own.whole || other.whole,
        wants,
        missed: own.missed.max(other.missed),
        acquiring,
        set_ended,
        calls: own.calls && other.calls,
        claimed_until: own.claimed_until.max(other.claimed_until),
        // The next look finds anew what either must.
        yields: own.yields,
        told,
    }
}

/// What either side may have been granted.
fn both(own: Option<Acquiring>, other: Option<Acquiring>) -> Option<Acquiring> {
    let (Some(mut own), Some(other)) = (own.clone(), other.clone()) else { return own.or(other) };
    for (key, digest) in other.keys {
        own.keys.entry(key).and_modify(|known| *known = digest.max(*known)).or_insert(digest);
    }
    own.until = own.until.max(other.until);
    own.given_up |= other.given_up;
    Some(own)
}

//! Who is next: the one place where keys are reserved, and where reservations end.
//!
//! One dispatch goes over all tickets twice. First each ticket is compared with the locks: what its pull holds it has, what another
//! pull holds is not kept for it, and a reservation whose time is over was missed. Then, in order, each ticket gets what it can use.
//! A ticket that missed in this dispatch comes after all others, once: else an absent pull would hold a key for three reservations
//! in a row.
//!
//! A set collects nothing that a pull wants for which the set waits, because that pull holds one of its keys, or holds what such a
//! pull waits for: both would wait for ever.
//!
//! A key that the caller did not look at counts as held and changes nothing, and a ticket that waits for a whole set is judged only
//! if all of its keys were looked at. [`Queue::keys_to_look_at`] has all that a dispatch needs.

use std::collections::{BTreeMap, BTreeSet};

use super::order::{Rules, compare};
use super::state::Queue;
use super::ticket::{COLLECTED, PullId, Ticket, Waiter, Want};

/// A ticket that missed so many of its reservations leaves.
const MAX_MISSED: u32 = 3;

/// Who holds a key, as the caller looked just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Free,
    /// This pull.
    Held(PullId),
    /// A lock whose pull cannot be read.
    Unknown,
}

/// What a dispatch did, for who is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The pull may take the key now. That a key is collected for a set is no event: the pull cannot use the key yet.
    Reserved {
        /// The pull.
        pull: PullId,
        /// The key.
        key: String,
    },
    /// The pull did not take the key in its time.
    Missed {
        /// The pull.
        pull: PullId,
        /// The key.
        key: String,
    },
    /// The pull missed once too often, and waits for nothing any more.
    Left {
        /// Who waited.
        waiter: Waiter,
        /// For what.
        keys: Vec<String>,
    },
    /// The key is no longer kept for the pull, by no fault of the pull's.
    Withdrawn {
        /// The pull.
        pull: PullId,
        /// The key.
        key: String,
    },
    /// The pull has the lock, and waits for it no more.
    Took {
        /// The pull.
        pull: PullId,
        /// The key.
        key: String,
    },
}

/// One dispatch.
struct Round<'a> {
    holders: &'a BTreeMap<String, Holder>,
    rules: &'a Rules,
    now: u64,
    events: Vec<Event>,
    /// The tickets that missed in this dispatch, by their place in the list.
    missed: BTreeSet<usize>,
    /// The ticket to which a key is reserved.
    reserved: BTreeMap<String, usize>,
    /// The one ticket that may collect.
    collector: Option<usize>,
}

impl Queue {
    /// Decides who is next, by who holds the keys now.
    pub fn dispatch(&mut self, holders: &BTreeMap<String, Holder>, rules: &Rules, now: u64) -> Vec<Event> {
        self.drop_lone_yields();
        let (events, missed, reserved) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        let mut round = Round { holders, rules, now, events, missed, reserved, collector: None };
        for (at, ticket) in self.tickets.iter_mut().enumerate() {
            round.settle(at, ticket);
        }
        for (at, ticket) in self.tickets.iter().enumerate() {
            let reserved = ticket.wants.iter().filter(|(_, want)| want.is_reserved());
            round.reserved.extend(reserved.map(|(key, _)| (key.clone(), at)));
        }
        round.collector = self.tickets.iter().position(|ticket| ticket.wants.values().any(|want| want.is_collected()));
        round.yield_collected(&mut self.tickets);
        for (at, ticket) in self.tickets.iter_mut().enumerate() {
            round.undo_broken_set(at, ticket);
        }
        let mut order: Vec<usize> = (0..self.tickets.len()).collect();
        order.sort_by(|a, b| {
            let missed = round.missed.contains(a).cmp(&round.missed.contains(b));
            missed.then_with(|| compare(&self.tickets[*a], &self.tickets[*b], rules))
        });
        for at in order {
            if self.tickets[at].whole {
                round.reserve_set(at, &mut self.tickets);
            } else {
                round.reserve_each(at, &mut self.tickets[at]);
            }
        }
        self.end_the_done();
        round.events
    }
}

impl Round<'_> {
    /// Compares one ticket with the locks.
    fn settle(&mut self, at: usize, ticket: &mut Ticket) {
        if !self.may_judge(ticket) {
            return;
        }
        let pull = ticket.pull().clone();
        let (whole, mut missed) = (ticket.whole, Vec::new());
        ticket.wants.retain(|key, want| {
            let over = matches!(*want, Want::Reserved { until, .. } if want.is_turn() && until <= self.now);
            match self.holders.get(key) {
                Some(Holder::Held(holder)) if holder.is(&pull) => {
                    if !whole {
                        self.events.push(Event::Took { pull: pull.clone(), key: key.clone() });
                        return false;
                    }
                    *want = if over { Want::Waiting } else { *want };
                }
                Some(Holder::Held(_) | Holder::Unknown) => {
                    if want.is_turn() {
                        self.events.push(Event::Withdrawn { pull: pull.clone(), key: key.clone() });
                    }
                    *want = Want::Waiting;
                }
                Some(Holder::Free) if over => {
                    missed.push(key.clone());
                    *want = Want::Waiting;
                }
                Some(Holder::Free) | None => {}
            }
            true
        });
        self.settle_set(ticket);
        if !missed.is_empty() {
            self.missed.insert(at);
            ticket.missed = ticket.missed.saturating_add(1);
            self.events.extend(missed.into_iter().map(|key| Event::Missed { pull: pull.clone(), key }));
            if ticket.missed >= MAX_MISSED {
                let keys = std::mem::take(&mut ticket.wants).into_keys().collect();
                self.events.push(Event::Left { waiter: ticket.waiter.clone(), keys });
            }
        }
    }

    /// A set that its pull holds wholly is had. Not while one is on its way: whether all of that was granted, this ticket may no
    /// longer tell.
    fn settle_set(&mut self, ticket: &mut Ticket) {
        let has_all = ticket.wants.keys().all(|key| self.has(ticket, key));
        if !ticket.whole || ticket.acquiring.is_some() || !has_all {
            return;
        }
        let pull = ticket.pull().clone();
        let keys = std::mem::take(&mut ticket.wants).into_keys();
        self.events.extend(keys.map(|key| Event::Took { pull: pull.clone(), key }));
    }

    /// What is reserved of a set that is not reserved wholly, or cannot be had, and is not being collected, is no use to its pull.
    fn undo_broken_set(&mut self, at: usize, ticket: &mut Ticket) {
        let stands = ticket.wants.values().all(|want| want.is_turn()) && self.could_have_all(at, ticket);
        if !ticket.whole || !self.may_judge(ticket) || self.collector == Some(at) || stands {
            return;
        }
        for key in ticket.withdraw() {
            self.reserved.remove(&key);
            self.events.push(Event::Withdrawn { pull: ticket.pull().clone(), key });
        }
    }

    fn reserve_each(&mut self, at: usize, ticket: &mut Ticket) {
        let until = self.end_of_a_turn(ticket);
        let pull = ticket.pull().clone();
        for (key, want) in &mut ticket.wants {
            if *want == Want::Waiting && self.is_free_for(at, key) && !ticket.yields.contains(key) {
                *want = Want::Reserved { since: self.now, until };
                self.reserved.insert(key.clone(), at);
                self.events.push(Event::Reserved { pull: pull.clone(), key: key.clone() });
            }
        }
    }

    fn reserve_set(&mut self, at: usize, tickets: &mut [Ticket]) {
        let ticket = &mut tickets[at];
        if ticket.wants.values().all(|want| want.is_turn()) {
            return;
        }
        let may_judge = self.may_judge(ticket);
        if may_judge && self.could_have_all(at, ticket) {
            let until = self.end_of_a_turn(ticket);
            let pull = ticket.pull().clone();
            for (key, want) in &mut ticket.wants {
                *want = Want::Reserved { since: self.now, until };
                self.reserved.insert(key.clone(), at);
                self.events.push(Event::Reserved { pull: pull.clone(), key: key.clone() });
            }
            return;
        }
        let is_old = self.now.saturating_sub(ticket.since) >= self.rules.collect_after;
        if !is_old || *self.collector.get_or_insert(at) != at || !may_judge {
            return;
        }
        let demanded = self.demanded_of(at, tickets);
        let Ticket { wants, yields, .. } = &mut tickets[at];
        for (key, want) in wants {
            if *want == Want::Waiting && self.is_free_for(at, key) && !demanded.contains(key) && !yields.contains(key) {
                *want = Want::Reserved { since: self.now, until: COLLECTED };
                self.reserved.insert(key.clone(), at);
            }
        }
    }

    /// What is collected for a set, and is wanted by whom that set waits for, is kept no longer.
    fn yield_collected(&mut self, tickets: &mut [Ticket]) {
        let Some(at) = self.collector else { return };
        let demanded = self.demanded_of(at, tickets);
        for (key, want) in tickets[at].wants.iter_mut().filter(|(key, want)| want.is_collected() && demanded.contains(*key)) {
            *want = Want::Waiting;
            self.reserved.remove(key);
        }
        self.collector = tickets[at].wants.values().any(|want| want.is_collected()).then_some(at);
    }

    /// The keys wanted by the pulls that this ticket waits for, because they hold what it wants, or what one of them wants.
    fn demanded_of(&self, at: usize, tickets: &[Ticket]) -> BTreeSet<String> {
        let mut by_num: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (at, ticket) in tickets.iter().enumerate() {
            by_num.entry(ticket.pull().num).or_default().push(at);
        }
        let (mut waits_for, mut next) = (BTreeSet::from([at]), vec![at]);
        while let Some(waiting) = next.pop() {
            for key in tickets[waiting].wants.keys() {
                let Some(Holder::Held(holder)) = self.holders.get(key) else { continue };
                let own = by_num.get(&holder.num).into_iter().flatten().filter(|at| tickets[**at].pull().is(holder));
                next.extend(own.filter(|at| waits_for.insert(**at)));
            }
        }
        waits_for.remove(&at);
        waits_for.into_iter().flat_map(|at| tickets[at].wants.keys().cloned()).collect()
    }

    fn may_judge(&self, ticket: &Ticket) -> bool {
        !ticket.whole || ticket.wants.keys().all(|key| self.holders.contains_key(key))
    }

    fn has(&self, ticket: &Ticket, key: &str) -> bool {
        matches!(self.holders.get(key), Some(Holder::Held(holder)) if holder.is(ticket.pull()))
    }

    fn is_free_for(&self, at: usize, key: &str) -> bool {
        self.holders.get(key) == Some(&Holder::Free) && !self.is_kept_from(at, key)
    }

    fn is_kept_from(&self, at: usize, key: &str) -> bool {
        self.reserved.get(key).is_some_and(|to| *to != at)
    }

    /// What the ticket has may still be kept for another one, if that could not be judged.
    fn could_have_all(&self, at: usize, ticket: &Ticket) -> bool {
        let is_free = |key: &String| self.is_free_for(at, key) && !ticket.yields.contains(key);
        let could_have = |key: &String| is_free(key) || (self.has(ticket, key) && !self.is_kept_from(at, key));
        ticket.wants.keys().all(could_have)
    }

    fn end_of_a_turn(&self, ticket: &Ticket) -> u64 {
        let time = if ticket.calls { self.rules.caller_reservation } else { self.rules.reservation };
        self.now.saturating_add(time).min(COLLECTED - 1)
    }
}

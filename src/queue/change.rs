//! What pulls do: join, take a lock, leave, go on, acquire a set.

use std::collections::{BTreeMap, BTreeSet};

use super::state::Queue;
use super::ticket::{Acquiring, COLLECTED, Digest, Priority, PullId, Ticket, Waiter, Want};
use crate::error::{Code, Error, Result};

/// The most tickets that want one key.
pub(crate) const MAX_TICKETS_OF_A_KEY: usize = 100;
/// The most tickets of one repository.
pub(crate) const MAX_TICKETS: usize = 1_000;
/// The most keys that one ticket wants.
pub(crate) const MAX_KEYS_OF_A_TICKET: usize = 500;
/// Of how many circles people are told while a pull waits. Pulls that plan and fail over and over make a new circle each time.
const MAX_TOLD: usize = 8;
/// The most bytes of a document after a join.
pub(crate) const MAX_BYTES: usize = 1 << 20;

impl Queue {
    /// A pull waits for these keys: they are added to its ticket, which keeps its place, or a new ticket is the last of its class.
    ///
    /// A priority only rises, and a ticket that waits for a whole set once does so until it ends. With `calls` the ticket is only a
    /// blocked caller's, unless the pull waits without it. Nothing is changed by an error.
    ///
    /// Errors: `InvalidArgument` without keys or without a pull; `QueueFull` over a limit.
    pub fn join(
        &mut self,
        waiter: &Waiter,
        keys: &[String],
        priority: Priority,
        whole: bool,
        calls: bool,
        now: u64,
    ) -> Result<()> {
        if waiter.pull.num <= 0 {
            let text = format!(
                "pull {} cannot wait: only a pull request, whose number is above 0, has a place in a queue",
                waiter.pull.num
            );
            return Err(Error::new(Code::InvalidArgument, text));
        }
        if keys.is_empty() {
            return Err(Error::new(Code::InvalidArgument, format!("pull {} names no lock to wait for", waiter.pull.num)));
        }
        let keys: BTreeSet<&String> = keys.iter().collect();
        self.check_room(&waiter.pull, &keys)?;
        let (before, next_seq) = (self.find(&waiter.pull).map(|at| self.tickets[at].clone()), self.next_seq);
        let at = self.ticket_for(waiter, priority, whole, calls, now);
        for key in keys {
            self.tickets[at].wants.entry(key.clone()).or_insert(Want::Waiting);
        }
        if self.size() <= MAX_BYTES {
            return Ok(());
        }
        self.next_seq = next_seq;
        match before {
            Some(before) => self.tickets[at] = before,
            None => drop(self.tickets.pop()),
        }
        Err(full(format!("its document would be over the limit of {MAX_BYTES} bytes")))
    }

    fn check_room(&self, pull: &PullId, keys: &BTreeSet<&String>) -> Result<()> {
        let ticket = self.ticket(pull);
        if ticket.is_none() && self.tickets.len() >= MAX_TICKETS {
            return Err(full(format!("{MAX_TICKETS} pulls wait in this repository, which is the limit")));
        }
        let added: Vec<&String> =
            keys.iter().copied().filter(|key| ticket.is_none_or(|ticket| ticket.want(key).is_none())).collect();
        let wanted = ticket.map_or(0, |ticket| ticket.wants.len()) + added.len();
        if wanted > MAX_KEYS_OF_A_TICKET {
            return Err(full(format!(
                "pull {} would wait for {wanted} locks, and the limit is {MAX_KEYS_OF_A_TICKET}",
                pull.num
            )));
        }
        match added.into_iter().find(|key| self.wanted_by(key).len() >= MAX_TICKETS_OF_A_KEY) {
            Some(key) => Err(full(format!("{MAX_TICKETS_OF_A_KEY} pulls wait for {key}, which is the limit"))),
            None => Ok(()),
        }
    }

    /// Where the ticket of this pull is: its own, or a new one, the last of all.
    fn ticket_for(&mut self, waiter: &Waiter, priority: Priority, whole: bool, calls: bool, now: u64) -> usize {
        let since = self.tickets.iter().map(|ticket| ticket.since).fold(now, u64::max);
        let seq = self.next_seq.max(now);
        let found = self.find(&waiter.pull);
        // What is left of a ticket that wants nothing is no place.
        if found.is_none_or(|at| self.tickets[at].wants.is_empty()) {
            self.next_seq = seq.saturating_add(1);
        }
        let Some(at) = found else {
            let (waiter, wants) = (waiter.clone(), BTreeMap::new());
            let (acquiring, yields) = (None, BTreeSet::new());
            self.tickets.push(Ticket {
                waiter,
                seq,
                since,
                priority,
                whole,
                wants,
                missed: 0,
                acquiring,
                set_ended: 0,
                calls,
                claimed_until: 0,
                yields,
                told: BTreeSet::new(),
            });
            return self.tickets.len() - 1;
        };
        let ticket = &mut self.tickets[at];
        let before = std::mem::replace(&mut ticket.waiter, waiter.clone());
        if ticket.waiter.pull.host.is_empty() {
            ticket.waiter.pull.host = before.pull.host;
        }
        if ticket.waiter.recipe.is_empty() {
            ticket.waiter.recipe = before.recipe;
        }
        if ticket.wants.is_empty() {
            (ticket.seq, ticket.since, ticket.missed) = (seq, since, 0);
            (ticket.priority, ticket.whole, ticket.calls) = (priority, whole, calls);
            ticket.yields.clear();
        } else {
            ticket.priority = ticket.priority.max(priority);
            ticket.whole |= whole;
            ticket.calls &= calls;
        }
        at
    }

    /// The pull has the lock of this key, and waits for it no more. Says whether it did.
    pub fn took(&mut self, pull: &PullId, key: &str) -> bool {
        let waits = |ticket: &&mut Ticket| ticket.wants.contains_key(key);
        let exact = self.tickets.iter().any(|ticket| ticket.pull() == pull);
        let mut own = self.tickets.iter_mut().filter(|ticket| if exact { ticket.pull() == pull } else { ticket.pull().is(pull) });
        let Some(ticket) = own.find(waits) else { return false };
        ticket.wants.remove(key);
        self.end_the_done();
        true
    }

    /// A lock of this pull was released, by a call that began at `begun`. If the pull had it by its turn, and a crash kept that from being
    /// written when it was taken, it waits for the lock no more.
    ///
    /// A place that the pull asked for since stays: the key was not kept for it then. So does a place in a set, which waits also for what
    /// its pull has.
    pub fn gave_up(&mut self, pull: &PullId, key: &str, begun: u64) {
        let had_it = |ticket: &Ticket| matches!(ticket.want(key), Some(Want::Reserved { since, .. }) if since < begun);
        if self.ticket(pull).is_some_and(|ticket| !ticket.whole && had_it(ticket)) {
            self.took(pull, key);
        }
    }

    /// The pull waits no more: for this key, or for any. All tickets that may be its are meant, as a release by pull means all of
    /// its number. Says how many keys that were.
    pub fn leave(&mut self, pull: &PullId, key: Option<&str>) -> usize {
        let mut left = 0;
        for ticket in self.tickets.iter_mut().filter(|ticket| ticket.pull().is(pull)) {
            let before = ticket.wants.len();
            ticket.wants.retain(|wanted, _| key.is_some_and(|key| wanted != key));
            left += before - ticket.wants.len();
        }
        self.end_the_done();
        left
    }

    /// A run of the pull goes on: what is reserved to it stays so at least until then. Says whether that is later than before.
    pub fn extend(&mut self, pull: &PullId, until: u64) -> bool {
        self.find(pull).is_some_and(|at| extend(&mut self.tickets[at], until))
    }

    /// A server is going to plan this pull, or plans it: until then no other does. Says whether that was changed.
    pub fn claim(&mut self, pull: &PullId, until: u64) -> bool {
        let Some(at) = self.find(pull) else { return false };
        std::mem::replace(&mut self.tickets[at].claimed_until, until) != until
    }

    /// People are about to be told of this circle on these pulls. Says on which that was not done yet.
    pub fn tell(&mut self, circle: &str, pulls: &[PullId]) -> Vec<PullId> {
        let mut untold = Vec::new();
        for pull in pulls {
            let Some(at) = self.find(pull) else { continue };
            let told = &mut self.tickets[at].told;
            if told.len() < MAX_TOLD && told.insert(circle.to_owned()) {
                untold.push(pull.clone());
            }
        }
        untold
    }

    /// A set of locks is about to be granted to this pull, and its caller is at work until then. Its reservations stand as long.
    /// `false`: the pull has no ticket, or a set is on its way to it.
    pub fn begin_acquiring(&mut self, pull: &PullId, keys: BTreeMap<String, Digest>, until: u64) -> bool {
        let Some(at) = self.find(pull).filter(|at| self.tickets[*at].acquiring.is_none()) else { return false };
        let ticket = &mut self.tickets[at];
        extend(ticket, until);
        let until = until.max(ticket.set_ended.saturating_add(1));
        ticket.acquiring = Some(Acquiring { keys, until, given_up: false });
        true
    }

    /// The set was granted, or all of it that had been was taken back. `false`: none was on its way, or its caller was taken for gone.
    pub fn end_acquiring(&mut self, pull: &PullId) -> bool {
        self.end_set(pull, false)
    }

    /// What was granted of a set whose caller was taken for gone is taken back.
    pub fn taken_back(&mut self, pull: &PullId) {
        self.end_set(pull, true);
    }

    fn end_set(&mut self, pull: &PullId, given_up: bool) -> bool {
        let Some(at) = self.find(pull) else { return false };
        let ticket = &mut self.tickets[at];
        let ended = ticket.acquiring.take_if(|acquiring| acquiring.given_up == given_up);
        ticket.set_ended = ended.as_ref().map_or(ticket.set_ended, |ended| ended.until);
        self.end_the_done();
        ended.is_some()
    }

    /// The set of this pull on whose way a lock of this value is: granted to a caller who has not been told so, and perhaps taken back.
    pub fn on_its_way(&self, pull: &PullId, key: &str, value: &[u8]) -> Option<&Acquiring> {
        let acquiring = self.ticket(pull)?.acquiring.as_ref()?;
        (acquiring.keys.get(key) == Some(&Digest::of(value))).then_some(acquiring)
    }

    /// Takes the callers for gone whose time is over; says whether there was one. Only once that is written is anything taken back:
    /// before, a caller who was slow could still be told that it has the set.
    pub fn give_up(&mut self, now: u64) -> bool {
        let sets = self.tickets.iter_mut().filter_map(|ticket| ticket.acquiring.as_mut());
        let mut found = false;
        for set in sets.filter(|set| !set.given_up && set.until <= now) {
            set.given_up = true;
            found = true;
        }
        found
    }

    /// The sets whose callers were taken for gone: what was granted of them is to be taken back, and then [`Queue::taken_back`].
    pub fn given_up(&self) -> Vec<(PullId, Acquiring)> {
        let gone = |ticket: &Ticket| ticket.acquiring.clone().filter(|acquiring| acquiring.given_up);
        self.tickets.iter().filter_map(|ticket| Some((ticket.pull().clone(), gone(ticket)?))).collect()
    }
}

fn extend(ticket: &mut Ticket, until: u64) -> bool {
    let mut later = false;
    for want in ticket.wants.values_mut() {
        if let Want::Reserved { until: end, .. } = want
            && *end < until
        {
            *end = until.min(COLLECTED - 1);
            later = true;
        }
    }
    later
}

fn full(why: String) -> Error {
    Error::new(
        Code::QueueFull,
        format!("the queue is full: {why}; try again when others are through, or remove who no longer waits with `atlock leave`"),
    )
}

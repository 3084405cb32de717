//! Pulls of one repository that wait for each other in a circle.
//!
//! The graph: its nodes are the pulls that have a ticket. A *hard* edge leads from a waiting pull to the one that holds a lock which it
//! wants; a *soft* edge, to the one for which a wanted lock is kept, as a reservation or for its set. A pull waits until it has all
//! that it wants, so a circle is a deadlock. All locks of a pull are in one repository, and so are all circles.
//!
//! A circle with a soft edge is undone here, and nobody loses anything: the reservation is withdrawn, and its pull *yields* the key as
//! long as the circle would be back otherwise. In a circle that has both, a reservation that keeps a holder from going on is
//! withdrawn: the demand of a holder comes before a ticket that waits for that holder. A circle of hard edges alone is reported, and
//! ends by what people do, or by [`Circle::victim`].
//!
//! Invariants:
//! - Nothing here grants or releases a lock; a ticket keeps its `seq`, its `since` and its keys.
//! - After [`Queue::dispatch_without_circles`] no circle has a soft edge, but for one between pulls that are in a hard circle already.
//! - A circle's id is of its locks, holders and tokens alone: who looks again sees the same id while the same grants stand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sha2::{Digest as _, Sha256};

use super::dispatch::{Event, Holder};
use super::order::{Rules, compare};
use super::state::Queue;
use super::ticket::{PullId, Ticket, Want};
use crate::domain::token::FencingToken;

/// Pulls each of which waits for the next one, and the last for the first, by locks that they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle {
    /// Of its locks, their holders and tokens.
    pub id: String,
    /// Who waits for whom, once around.
    pub links: Vec<Link>,
    /// Its pulls, the one that would yield first first: the lowest class, then who joined last.
    pub rank: Vec<PullId>,
}

/// One pull of a circle, and the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who waits.
    pub waiter: PullId,
    /// For whom.
    pub holder: PullId,
    /// For which of the holder's locks, by which grants.
    pub keys: BTreeMap<String, FencingToken>,
}

impl Circle {
    /// The pull that is to give its locks of the circle back: the first in rank of those that may.
    pub fn victim(&self, may_yield: impl Fn(&PullId) -> bool) -> Option<&Link> {
        let victim = self.rank.iter().find(|pull| may_yield(pull))?;
        self.links.iter().find(|link| link.holder == *victim)
    }

    /// The cheapest way out, for a person.
    pub fn suggestion(&self) -> String {
        let Some(link) = self.victim(|_| true) else { return String::new() };
        let (num, waiter) = (link.holder.num, link.waiter.num);
        let keys: Vec<String> = link.keys.keys().map(|key| format!("{key:?}")).collect();
        format!(
            "pull #{num} has the last place: discard its lock {} on Atlantis's page, and pull #{waiter} goes on; or comment `atlantis \
             unlock` in #{num}, which gives up all of its locks and its place. If #{num} has applied something there, choose another \
             pull of the circle, or merge or close one",
            keys.join(" and ")
        )
    }

    fn of(nodes: &Nodes<'_>, graph: &Graph<'_>, way: &[usize], locks: &BTreeMap<String, (PullId, FencingToken)>) -> Circle {
        let pull = |at: usize| nodes.0[at].pull().clone();
        let token = |key: &str| locks.get(key).map_or(FencingToken::NONE, |(_, token)| *token);
        let around = way.windows(2).map(|pair| (pair[0], pair[1]));
        let mut links: Vec<Link> = around
            .map(|(from, to)| {
                let keys = graph.0[from].get(&to).into_iter().flatten();
                let keys = keys.map(|key| ((*key).to_owned(), token(key))).collect();
                Link { waiter: pull(from), holder: pull(to), keys }
            })
            .collect();
        let first = links.iter().enumerate().min_by_key(|(_, link)| &link.waiter).map_or(0, |(at, _)| at);
        links.rotate_left(first);
        let mut rank: Vec<&Ticket> = way[1..].iter().map(|at| nodes.0[*at]).collect();
        rank.sort_by_key(|ticket| (ticket.priority, std::cmp::Reverse(ticket.seq), ticket.pull()));
        let rank = rank.into_iter().map(|ticket| ticket.pull().clone()).collect();
        Circle { id: id_of(&links), links, rank }
    }
}

/// Names the grants of a circle: 16 hexadecimal digits.
fn id_of(links: &[Link]) -> String {
    let grant = |link: &Link, key: &str, token: FencingToken| format!("{}#{} {key} {token}\n", link.holder.host, link.holder.num);
    let mut grants: Vec<String> =
        links.iter().flat_map(|link| link.keys.iter().map(move |(key, token)| grant(link, key, *token))).collect();
    grants.sort();
    let digest = Sha256::digest(grants.concat());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The tickets in the order of their pulls, so that the same circles are found whatever the order of the document is.
struct Nodes<'a>(Vec<&'a Ticket>);

impl<'a> Nodes<'a> {
    fn of(queue: &'a Queue) -> Nodes<'a> {
        let mut tickets: Vec<&Ticket> = queue.tickets.iter().collect();
        tickets.sort_by_key(|ticket| ticket.pull());
        Nodes(tickets)
    }

    fn find(&self, pull: &PullId) -> Option<usize> {
        let exact = self.0.iter().position(|ticket| ticket.pull() == pull);
        exact.or_else(|| self.0.iter().position(|ticket| ticket.pull().is(pull)))
    }
}

/// Who waits for whom, and for which keys.
#[derive(Clone, Default)]
struct Graph<'a>(Vec<BTreeMap<usize, BTreeSet<&'a str>>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    White,
    Grey,
    Black,
}

impl<'a> Graph<'a> {
    /// From each ticket to the owner of each key that it wants.
    fn of(nodes: &Nodes<'a>, owners: &BTreeMap<&str, usize>) -> Graph<'a> {
        let edges = |(at, ticket): (usize, &&'a Ticket)| {
            let mut edges: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
            for key in ticket.wants.keys() {
                if let Some(owner) = owners.get(key.as_str()).filter(|owner| **owner != at) {
                    edges.entry(*owner).or_default().insert(key.as_str());
                }
            }
            edges
        };
        Graph(nodes.0.iter().enumerate().map(edges).collect())
    }

    /// Whether there is a circle: by a depth-first search that meets a node on its own way again.
    fn has_circle(&self) -> bool {
        let mut colours = vec![Colour::White; self.0.len()];
        for root in 0..self.0.len() {
            let mut way = vec![(root, self.0[root].keys())];
            if colours[root] != Colour::White {
                continue;
            }
            colours[root] = Colour::Grey;
            while let Some((at, next)) = way.last_mut() {
                match next.next() {
                    Some(to) if colours[*to] == Colour::Grey => return true,
                    Some(to) if colours[*to] == Colour::White => {
                        colours[*to] = Colour::Grey;
                        way.push((*to, self.0[*to].keys()));
                    }
                    Some(_) => {}
                    None => {
                        colours[*at] = Colour::Black;
                        way.pop();
                    }
                }
            }
        }
        false
    }

    /// All nodes to which a way leads, with the node before each on a shortest one.
    fn reached_from(&self, from: usize) -> BTreeMap<usize, usize> {
        let mut before = BTreeMap::new();
        let mut wave = VecDeque::from([from]);
        while let Some(at) = wave.pop_front() {
            for to in self.0[at].keys() {
                if !before.contains_key(to) {
                    before.insert(*to, at);
                    wave.push_back(*to);
                }
            }
        }
        before
    }

    /// The shortest way from a node to itself, both ends included.
    fn around(&self, start: usize) -> Option<Vec<usize>> {
        let before = self.reached_from(start);
        let mut way = vec![start, *before.get(&start)?];
        while let Some(at) = way.last().filter(|at| **at != start) {
            way.push(*before.get(at)?);
        }
        way.reverse();
        Some(way)
    }
}

/// The circles of held locks: through each pull that is in any, a shortest one. Without the circles that a reservation is in.
pub fn circles(queue: &Queue, locks: &BTreeMap<String, (PullId, FencingToken)>) -> Vec<Circle> {
    let nodes = Nodes::of(queue);
    let owners = locks.iter().filter_map(|(key, (pull, _))| Some((key.as_str(), nodes.find(pull)?))).collect();
    let graph = Graph::of(&nodes, &owners);
    if !graph.has_circle() {
        return Vec::new();
    }
    let mut circles = BTreeMap::new();
    for way in (0..nodes.0.len()).filter_map(|start| graph.around(start)) {
        let circle = Circle::of(&nodes, &graph, &way, locks);
        circles.entry(circle.id.clone()).or_insert(circle);
    }
    circles.into_values().collect()
}

impl Queue {
    /// Decides who is next, as [`Queue::dispatch`], and withdraws each reservation by which pulls would wait in a circle. All wanted keys
    /// must have been looked at.
    pub fn dispatch_without_circles(&mut self, holders: &BTreeMap<String, Holder>, rules: &Rules, now: u64) -> Vec<Event> {
        self.drop_needless_yields(holders);
        let mut events = Vec::new();
        loop {
            events.extend(self.dispatch(holders, rules, now));
            // Each turn adds one key that a ticket yields, so there is an end.
            let Some((pull, key)) = self.soft_circle(holders, rules) else { return events };
            let Some(at) = self.find(&pull) else { return events };
            self.tickets[at].yields.insert(key.clone());
            self.tickets[at].wants.insert(key.clone(), Want::Waiting);
            events.push(Event::Withdrawn { pull, key });
        }
    }

    /// A key that nobody else wants is yielded to nobody.
    pub(super) fn drop_lone_yields(&mut self) {
        let yielded: BTreeSet<String> = self.tickets.iter().flat_map(|ticket| ticket.yields.iter().cloned()).collect();
        let lone: BTreeSet<String> = yielded.into_iter().filter(|key| self.wanted_by(key).len() < 2).collect();
        for ticket in self.tickets.iter_mut().filter(|_| !lone.is_empty()) {
            ticket.yields.retain(|key| !lone.contains(key));
        }
    }

    /// Whether a reservation may be in a circle, or a key be yielded for nothing: somebody has to look at all locks.
    pub fn may_have_soft_circle(&self) -> bool {
        let keeps_and_waits = |ticket: &Ticket| {
            let reserved = ticket.wants.values().filter(|want| want.is_reserved()).count();
            reserved > 0 && reserved < ticket.wants.len()
        };
        self.tickets.len() > 1 && self.tickets.iter().any(|ticket| keeps_and_waits(ticket) || !ticket.yields.is_empty())
    }

    /// A key is yielded only as long as its reservation would close a circle.
    fn drop_needless_yields(&mut self, holders: &BTreeMap<String, Holder>) {
        let mut needed: BTreeMap<PullId, BTreeSet<String>> = BTreeMap::new();
        if self.tickets.iter().any(|ticket| !ticket.yields.is_empty()) {
            let waits = Waits::of(self, holders);
            for (owner, ticket) in waits.nodes.0.iter().enumerate() {
                let keeps = |key: &&String| ticket.want(key).is_some() && !waits.circles_by(owner, key).is_empty();
                needed.insert(ticket.pull().clone(), ticket.yields.iter().filter(keeps).cloned().collect());
            }
        }
        for ticket in self.tickets.iter_mut().filter(|ticket| !ticket.yields.is_empty()) {
            ticket.yields = needed.remove(ticket.pull()).unwrap_or_default();
        }
    }

    /// A reservation in a circle, which is to be withdrawn; `None` if there is no such circle.
    fn soft_circle(&self, holders: &BTreeMap<String, Holder>, rules: &Rules) -> Option<(PullId, String)> {
        let waits = Waits::of(self, holders);
        if !waits.all.has_circle() {
            return None;
        }
        let mut worse = None;
        for (key, owner) in &waits.reserved {
            for waiter in waits.circles_by(*owner, key) {
                let (ticket, other) = (waits.nodes.0[*owner], waits.nodes.0[waiter]);
                let found = (ticket.pull().clone(), (*key).to_owned());
                if waits.is_held_up(waiter, *owner) {
                    return Some(found);
                }
                // In a circle of reservations alone somebody waits for a later ticket: what that has is withdrawn.
                if compare(other, ticket, rules).is_lt() || worse.is_none() {
                    worse = Some(found);
                }
            }
        }
        worse
    }
}

/// Who waits for whom in a queue: by locks, and by all.
struct Waits<'a> {
    nodes: Nodes<'a>,
    hard: Graph<'a>,
    all: Graph<'a>,
    /// To whom each key is reserved that nobody holds.
    reserved: BTreeMap<&'a str, usize>,
}

impl<'a> Waits<'a> {
    fn of(queue: &'a Queue, holders: &'a BTreeMap<String, Holder>) -> Waits<'a> {
        let nodes = Nodes::of(queue);
        let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, holder) in holders {
            if let Holder::Held(pull) = holder
                && let Some(at) = nodes.find(pull)
            {
                owners.insert(key, at);
            }
        }
        let hard = Graph::of(&nodes, &owners);
        let mut reserved = BTreeMap::new();
        for (at, ticket) in nodes.0.iter().enumerate() {
            let free = |key: &&String| holders.get(*key) == Some(&Holder::Free);
            let own = ticket.wants.iter().filter(|(_, want)| want.is_reserved()).map(|(key, _)| key).filter(free);
            reserved.extend(own.map(|key| (key.as_str(), at)));
        }
        owners.extend(&reserved);
        let all = Graph::of(&nodes, &owners);
        Waits { nodes, hard, all, reserved }
    }

    /// Those who want this key and for whom its owner waits, unless both are in one hard circle anyway.
    fn circles_by(&self, owner: usize, key: &str) -> Vec<usize> {
        let (reached, by_locks) = (self.all.reached_from(owner), self.hard.reached_from(owner));
        let is_hard = |waiter: usize| by_locks.contains_key(&waiter) && self.hard.reached_from(waiter).contains_key(&owner);
        let wants = |waiter: &usize| *waiter != owner && self.nodes.0[*waiter].want(key).is_some();
        reached.into_keys().filter(wants).filter(|waiter| !is_hard(*waiter)).collect()
    }

    /// Whether a lock that `waiter` holds is waited for by the owner, or by somebody for whom the owner waits.
    fn is_held_up(&self, waiter: usize, owner: usize) -> bool {
        let reached = self.all.reached_from(owner);
        let waits = |from: usize| self.hard.0[from].contains_key(&waiter);
        waits(owner) || reached.into_keys().any(waits)
    }
}

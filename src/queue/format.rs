//! How a queue is written. What many tickets have in common stands in a table, and a ticket says its place there; what is as usual is left
//! out. A queue of a thousand pulls is read and written by each who joins, so its length is what a join costs.
//!
//! ```json
//! {"version":1,"revision":1790000000000003,"next_seq":1790000000000002,
//!  "tickets":[{"pull":7,"user":"ada","seq":1790000000000000,"wants":[0,1]},
//!             {"pull":8,"user":"bob","author":"ada","seq":1790000000000001,"priority":"high","whole":true,"wants":[0,2]}],
//!  "reserved":[{"ticket":0,"key":1,"since":1790000000000003,"until":1790000001000000}],"claimed":[{"ticket":0,"until":1790000000060000}],
//!  "ended":[{"at":1790000000000001,"seq":1780000000000000,"pull":6}],
//!  "hosts":[{"name":"git.example.com","type":0,"pages":"https://git.example.com/a/b/pull/"}],
//!  "recipes":["{\"clone\":\"https://git.example.com/a/b.git\"}"],
//!  "keys":["a/b/./default/","a/b/net/default/","a/b/dns/default/"]}
//! ```
//!
//! `wants` are places in `keys`, `ticket` is one in `tickets`, and `host` and `recipe` are some in `hosts` and `recipes`, the first unless
//! it is said. Left out are an author who
//! is the user, a `since` that is the `seq`, and a page that is its host's `pages` with the pull's number behind. Tables, and what comes and
//! goes, stand behind the tickets: the embedded store writes of a document what is not where it was.
//!
//! Invariant: what is written is read as the same queue, and a place that is not in its table makes the document damaged.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::state::{Ended, Queue};
use super::ticket::{Acquiring, Digest, Priority, PullId, Ticket, Waiter, Want};

/// A place in a table of the document.
type At = usize;

/// The document.
#[derive(Serialize, Deserialize)]
pub(super) struct QueueJson<'a> {
    version: u32,
    revision: u64,
    next_seq: u64,
    #[serde(borrow)]
    tickets: Vec<TicketJson<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reserved: Vec<ReservedJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claimed: Vec<ClaimJson>,
    ended: Vec<EndedJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<HostJson<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recipes: Vec<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct TicketJson<'a> {
    pull: i64,
    #[serde(default, skip_serializing_if = "is_usual")]
    host: At,
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    author: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_usual")]
    recipe: At,
    seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(default, skip_serializing_if = "is_usual")]
    priority: Priority,
    #[serde(default, skip_serializing_if = "is_usual")]
    whole: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    wants: Vec<At>,
    #[serde(default, skip_serializing_if = "is_usual")]
    missed: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acquiring: Option<AcquiringJson>,
    #[serde(default, skip_serializing_if = "is_usual")]
    set_ended: u64,
    /// Whether only a blocked caller waits.
    #[serde(default, skip_serializing_if = "is_usual")]
    calls: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    yields: Vec<At>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct ReservedJson {
    ticket: At,
    key: At,
    #[serde(default, skip_serializing_if = "is_usual")]
    since: u64,
    until: u64,
}

#[derive(Serialize, Deserialize)]
struct ClaimJson {
    ticket: At,
    until: u64,
}

#[derive(Serialize, Deserialize)]
struct AcquiringJson {
    keys: Vec<GrantJson>,
    until: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    given_up: bool,
}

#[derive(Serialize, Deserialize)]
struct GrantJson {
    key: At,
    value: Digest,
}

#[derive(Serialize, Deserialize)]
struct EndedJson {
    at: u64,
    seq: u64,
    pull: i64,
    #[serde(default, skip_serializing_if = "is_usual")]
    host: At,
}

/// A Git host, and what its pulls' pages begin with.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct HostJson<'a> {
    name: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: i64,
    pages: Cow<'a, str>,
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A table that is being written: each value stands in it once, in the order in which they came.
struct Table<T>(Vec<T>, HashMap<T, At>);

impl<T: Clone + Eq + Hash> Table<T> {
    fn new() -> Table<T> {
        Table(Vec::new(), HashMap::new())
    }

    fn place(&mut self, value: T) -> At {
        *self.1.entry(value).or_insert_with_key(|value| {
            self.0.push(value.clone());
            self.0.len() - 1
        })
    }
}

/// The tables of a document that is being written.
struct Tables<'a> {
    hosts: Table<HostJson<'a>>,
    recipes: Table<&'a str>,
    keys: Table<&'a str>,
}

impl<'a> QueueJson<'a> {
    pub(super) fn of(queue: &'a Queue) -> QueueJson<'a> {
        let mut tables = Tables { hosts: Table::new(), recipes: Table::new(), keys: Table::new() };
        let tickets = queue.tickets.iter().map(|ticket| TicketJson::of(ticket, &mut tables)).collect();
        let Tables { mut hosts, recipes, mut keys } = tables;
        let wants = queue.tickets.iter().enumerate().flat_map(|(at, ticket)| ticket.wants.iter().map(move |want| (at, want)));
        let reserved = wants.filter_map(|(ticket, (key, want))| match want {
            Want::Reserved { since, until } => Some(ReservedJson { ticket, key: keys.place(key), since: *since, until: *until }),
            Want::Waiting => None,
        });
        let reserved = reserved.collect();
        let claims = queue.tickets.iter().enumerate().filter(|(_, ticket)| ticket.claimed_until > 0);
        let claimed = claims.map(|(at, ticket)| ClaimJson { ticket: at, until: ticket.claimed_until }).collect();
        let recipes = recipes.0.into_iter().map(Cow::Borrowed).collect();
        let ended = queue.ended.iter().map(|ended| EndedJson::of(ended, &mut hosts)).collect();
        let keys = keys.0.into_iter().map(Cow::Borrowed).collect();
        let Queue { version, revision, next_seq, .. } = *queue;
        QueueJson { version, revision, next_seq, tickets, reserved, claimed, ended, hosts: hosts.0, recipes, keys }
    }

    /// The queue; `None` if a place is not in its table.
    pub(super) fn read(self) -> Option<Queue> {
        let (hosts, recipes, keys) = (self.hosts, self.recipes, self.keys);
        let mut tickets: Vec<Ticket> =
            self.tickets.into_iter().map(|ticket| ticket.read(&hosts, &recipes, &keys)).collect::<Option<_>>()?;
        for ReservedJson { ticket, key, since, until } in self.reserved {
            *tickets.get_mut(ticket)?.wants.get_mut(keys.get(key)?.as_ref())? = Want::Reserved { since, until };
        }
        for ClaimJson { ticket, until } in self.claimed {
            tickets.get_mut(ticket)?.claimed_until = until;
        }
        let ended = self.ended.into_iter().map(|ended| ended.read(&hosts)).collect::<Option<_>>()?;
        Some(Queue { version: self.version, revision: self.revision, next_seq: self.next_seq, tickets, ended })
    }
}

impl<'a> TicketJson<'a> {
    fn of(ticket: &'a Ticket, tables: &mut Tables<'a>) -> TicketJson<'a> {
        let Tables { hosts, recipes, keys } = tables;
        let Waiter { pull, user, url, host_type, author, recipe } = &ticket.waiter;
        let pages = url.strip_suffix(&*pull.num.to_string());
        let host = HostJson { name: pull.host.as_str().into(), kind: *host_type, pages: pages.unwrap_or_default().into() };
        TicketJson {
            pull: pull.num,
            host: hosts.place(host),
            user: user.as_str().into(),
            author: (author != user).then(|| author.as_str().into()),
            page: pages.is_none().then(|| url.as_str().into()),
            recipe: recipes.place(recipe),
            seq: ticket.seq,
            since: (ticket.since != ticket.seq).then_some(ticket.since),
            priority: ticket.priority,
            whole: ticket.whole,
            wants: ticket.wants.keys().map(|key| keys.place(key)).collect(),
            missed: ticket.missed,
            acquiring: ticket.acquiring.as_ref().map(|acquiring| AcquiringJson::of(acquiring, keys)),
            set_ended: ticket.set_ended,
            calls: ticket.calls,
            yields: ticket.yields.iter().map(|key| keys.place(key)).collect(),
            told: ticket.told.iter().map(|circle| circle.as_str().into()).collect(),
        }
    }

    fn read(self, hosts: &[HostJson<'_>], recipes: &[Cow<'_, str>], keys: &[Cow<'_, str>]) -> Option<Ticket> {
        let host = hosts.get(self.host)?;
        let user = self.user.into_owned();
        let recipe = match recipes.get(self.recipe) {
            Some(recipe) => recipe.as_ref().to_owned(),
            None if recipes.is_empty() && self.recipe == 0 => String::new(),
            None => return None,
        };
        let waiter = Waiter {
            pull: PullId { host: host.name.as_ref().to_owned(), num: self.pull },
            url: self.page.map_or_else(|| format!("{}{}", host.pages, self.pull), Cow::into_owned),
            host_type: host.kind,
            author: self.author.map_or_else(|| user.clone(), Cow::into_owned),
            user,
            recipe,
        };
        Some(Ticket {
            waiter,
            seq: self.seq,
            since: self.since.unwrap_or(self.seq),
            priority: self.priority,
            whole: self.whole,
            wants: self.wants.into_iter().map(|at| Some((key(keys, at)?, Want::Waiting))).collect::<Option<_>>()?,
            missed: self.missed,
            acquiring: match self.acquiring {
                Some(acquiring) => Some(acquiring.read(keys)?),
                None => None,
            },
            set_ended: self.set_ended,
            calls: self.calls,
            claimed_until: 0,
            yields: self.yields.into_iter().map(|at| key(keys, at)).collect::<Option<_>>()?,
            told: self.told.into_iter().map(Cow::into_owned).collect(),
        })
    }
}

fn key(keys: &[Cow<'_, str>], at: At) -> Option<String> {
    keys.get(at).map(|key| key.as_ref().to_owned())
}

impl AcquiringJson {
    fn of<'a>(acquiring: &'a Acquiring, keys: &mut Table<&'a str>) -> AcquiringJson {
        let grants = acquiring.keys.iter().map(|(key, value)| GrantJson { key: keys.place(key), value: *value });
        AcquiringJson { keys: grants.collect(), until: acquiring.until, given_up: acquiring.given_up }
    }

    fn read(self, keys: &[Cow<'_, str>]) -> Option<Acquiring> {
        let grants = self.keys.into_iter().map(|GrantJson { key: at, value }| Some((key(keys, at)?, value)));
        let keys: BTreeMap<_, _> = grants.collect::<Option<_>>()?;
        Some(Acquiring { keys, until: self.until, given_up: self.given_up })
    }
}

impl EndedJson {
    fn of<'a>(ended: &'a Ended, hosts: &mut Table<HostJson<'a>>) -> EndedJson {
        let name = ended.pull.host.as_str();
        let known = hosts.0.iter().position(|host| host.name == name);
        let host = || hosts.place(HostJson { name: name.into(), kind: 0, pages: "".into() });
        EndedJson { at: ended.at, seq: ended.seq, pull: ended.pull.num, host: known.unwrap_or_else(host) }
    }

    fn read(self, hosts: &[HostJson<'_>]) -> Option<Ended> {
        let host = hosts.get(self.host)?.name.as_ref().to_owned();
        Some(Ended { at: self.at, seq: self.seq, pull: PullId { host, num: self.pull } })
    }
}

//! Why a lock is as it is: who holds it, who waits, what stands in the way, and what would free it.
//!
//! It only reads. What it tells is of one moment, and of several reads: a lock that changes hands meanwhile may be told of twice. Texts of
//! others (users, reasons) are quoted without what a terminal would obey, and no value of a lock is repeated: it may hold a token.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Service;
use super::open_runs::Command;
use crate::call::{AnsweredBy, Call};
use crate::domain::key::Fields;
use crate::domain::limits::{MAX_KEY_BYTES, limit};
use crate::domain::lock::ProjectLock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::queue::freeze::{Plans, plain, time_of};
use crate::queue::{PullId, Queue, Ticket};
use crate::store::contract::local::Held;
use crate::store::{LockKey, Store};

/// What is to be explained: a lock by its key, or all locks of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Question {
    /// One lock.
    Key {
        /// Its key.
        key: String,
    },
    /// All locks that a pull holds or waits for.
    Pull {
        /// Full name of the repository.
        repo: String,
        /// The pull.
        pull: PullId,
    },
}

/// How a lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Whoever asks has it.
    Free,
    /// A pull has it.
    Held,
    /// It is free, and kept for who is next.
    Reserved,
    /// It is free, and nobody is to take it for now.
    Frozen,
    /// It was granted twice.
    Conflict,
    /// What is there is no lock.
    Unknown,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HolderShown {
    /// The pull.
    pub pull: PullId,
    /// Its page; empty if the lock does not tell.
    pub url: String,
    /// Who took it.
    pub user: String,
    /// Since when, as the lock says.
    pub since: String,
    /// The fencing token; absent if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<FencingToken>,
    /// Whether the lock is held for longer than `locking.enhanced.timeouts.max`. It stays held: no lock is released by time.
    pub is_old: bool,
    /// The command of the pull that runs in this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Command>,
}

/// One who waits for a lock, the next one first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InLine {
    /// The pull.
    pub pull: PullId,
    /// Its page.
    pub url: String,
    /// Since when, microseconds since 1970.
    pub since: u64,
    /// Until when the free lock is kept for this pull, microseconds since 1970; `null` while it is not.
    pub reserved_until: Option<u64>,
}

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    /// `lock`, `reservation`, `freeze`, `deadlock`, `conflict` or `unreadable`.
    pub kind: &'static str,
    /// What it is, for a person.
    pub what: String,
    /// The pull or the person behind it; empty if there is none.
    pub who: String,
}

/// Why a lock is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its key.
    pub key: String,
    /// How it is.
    pub state: State,
    /// Who holds it.
    pub holder: Option<HolderShown>,
    /// Who waits for it.
    pub queue: Vec<InLine>,
    /// What stands in the way of the next who asks.
    pub blocked_by: Vec<Block>,
    /// What would free it, in sentences.
    pub frees_it: Vec<String>,
    /// The confirmed circle that its holder, or who waits for it, is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadlock: Option<String>,
    /// Why nobody waits for it in order, where its repository has no queue while others have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_queue: Option<String>,
    /// Which store answered.
    pub store: AnsweredBy,
    /// Whether that store may lack what other servers did: the local store in Redis's place.
    pub stale: bool,
}

impl Service {
    /// Why a lock, or each lock of a pull, is as it is.
    ///
    /// Errors: `TooLarge`; those of the store. A queue that cannot be read is told as empty.
    pub fn explain(&self, question: &Question) -> Result<Vec<Explained>> {
        self.reading(Operation::Explain, |store, call| match question {
            Question::Key { key } => Ok(vec![self.explain_key(key, None, store, call)?]),
            Question::Pull { repo, pull } => {
                limit("a repository's name", repo.len(), MAX_KEY_BYTES)?;
                let keys = self.keys_of(repo, pull, store, call)?;
                keys.iter().map(|key| self.explain_key(key, Some(repo), store, &self.step())).collect()
            }
        })
    }

    /// What a pull holds and waits for.
    fn keys_of(&self, repo: &str, pull: &PullId, store: &dyn Store, call: &Call) -> Result<BTreeSet<String>> {
        let mut keys = BTreeSet::new();
        for value in store.list(call)?.values() {
            if super::wait::is_of(value, pull, repo)
                && let Ok(lock) = ProjectLock::parse(value)
            {
                keys.insert(lock.fields().key());
            }
        }
        if let Some(ticket) = self.queue_of(repo).ticket(pull) {
            keys.extend(ticket.wants.keys().cloned());
        }
        Ok(keys)
    }

    /// The queue; an empty one if there is none, or it cannot be read.
    fn queue_of(&self, repo: &str) -> Queue {
        if self.queueing.is_for(repo) { self.queue(repo).map(|read| read.queue).unwrap_or_default() } else { Queue::default() }
    }

    fn explain_key(&self, key: &str, repo: Option<&str>, store: &dyn Store, call: &Call) -> Result<Explained> {
        limit("a lock's key", key.len(), MAX_KEY_BYTES)?;
        let held = store.held(LockKey::Project(key), call)?;
        let lock = held.as_ref().map(|held| ProjectLock::parse(&held.value));
        let repo = match (&lock, repo) {
            (Some(Ok(lock)), _) => lock.pull().repo.to_owned(),
            (_, Some(repo)) => repo.to_owned(),
            (_, None) => self.repo_of(key, store),
        };
        let queue = self.queue_of(&repo);
        let answered_by = self.answered_by(call);
        let mut explained = Explained {
            key: key.to_owned(),
            state: State::Free,
            holder: None,
            queue: self.line(&queue, key),
            blocked_by: Vec::new(),
            frees_it: Vec::new(),
            deadlock: None,
            no_queue: self.queueing.left_out(&repo),
            store: answered_by,
            stale: answered_by == AnsweredBy::Fallback,
        };
        match (&held, lock) {
            (Some(held), Some(Ok(lock))) => self.explain_held(&mut explained, held, &lock, &repo),
            (Some(_), _) => unreadable(&mut explained),
            (None, _) => self.explain_free(&mut explained, &queue, &repo),
        }
        self.add_freezes(&mut explained, &repo);
        self.add_deadlock(&mut explained, &repo);
        Ok(explained)
    }

    /// The repository of a key that is free: the longest that has a queue, or as Atlantis reads the key.
    fn repo_of(&self, key: &str, store: &dyn Store) -> String {
        let known = if self.queueing.is_enabled() { store.queues(&self.step()).unwrap_or_default() } else { Vec::new() };
        let own = known.into_iter().filter(|repo| key.strip_prefix(repo.as_str()).is_some_and(|rest| rest.starts_with('/')));
        let guess = || Fields::guess(key).map(|fields| fields.repo.to_owned()).unwrap_or_default();
        own.max_by_key(String::len).unwrap_or_else(guess)
    }

    fn line(&self, queue: &Queue, key: &str) -> Vec<InLine> {
        let rules = &self.queueing.rules;
        let mut line: Vec<&Ticket> = queue.wanted_by(key);
        line.sort_by_key(|ticket| queue.position(ticket.pull(), key, rules));
        let shown = |ticket: &&Ticket| InLine {
            pull: ticket.pull().clone(),
            url: ticket.waiter.url.clone(),
            since: ticket.since,
            reserved_until: ticket.reserved_until(key),
        };
        line.iter().map(shown).collect()
    }

    fn explain_held(&self, explained: &mut Explained, held: &Held, lock: &ProjectLock<'_>, repo: &str) {
        let details: Value = serde_json::from_slice(&held.value).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pull = PullId::of(lock);
        let running = self.queueing.runs.lock().command_of(repo, &pull);
        let num = pull.num;
        explained.state = State::Held;
        explained.blocked_by.push(Block {
            kind: "lock",
            what: format!("{} has the lock since {}", named(num), plain(&text(&details["Time"]))),
            who: if num > 0 { format!("#{num}") } else { String::new() },
        });
        if let Some(command) = running {
            let name = match command {
                Command::Plan => "a plan",
                Command::Apply => "an apply",
                Command::Unlock => "an unlock",
            };
            explained.frees_it.push(format!("wait: {name} of #{num} runs now, and may give the lock up at its end"));
        }
        if num > 0 {
            explained.frees_it.push(format!("merge or close pull #{num}"));
            explained
                .frees_it
                .push(format!("comment `atlantis unlock` in #{num}, if nothing of it is applied: its plans are lost"));
        } else {
            let wait = "wait: a call of Atlantis's API, or its drift detection, has the lock for no pull request, and gives it up at its end";
            explained.frees_it.push(wait.to_owned());
        }
        explained.frees_it.push(format!("discard the lock {:?} alone on Atlantis's page", explained.key));
        if self.router.report().is_some_and(|report| report.conflicts.iter().any(|conflict| conflict.key == explained.key)) {
            explained.state = State::Conflict;
            let what = "the lock was granted twice, by Redis and by a local store; Redis's holder stays".to_owned();
            explained.blocked_by.push(Block { kind: "conflict", what, who: String::new() });
        }
        let is_old = self.is_old(held.token);
        if is_old {
            let max = humantime_serde::re::humantime::format_duration(self.queueing.timeouts.max);
            explained
                .frees_it
                .push(format!("look whether {} is still wanted: the lock is held for longer than {max}", named(num)));
        }
        explained.holder = Some(HolderShown {
            pull,
            url: text(&details["Pull"]["URL"]),
            user: lock.user().to_owned(),
            since: text(&details["Time"]),
            token: held.token.known(),
            is_old,
            running,
        });
    }

    fn explain_free(&self, explained: &mut Explained, queue: &Queue, repo: &str) {
        let is_frozen = self.queueing.frozen.denies_key(repo, &explained.key, self.now());
        let Some(first) = explained.queue.first() else {
            if !is_frozen {
                explained.frees_it.push("nothing has to be done: the lock is free".to_owned());
            }
            return;
        };
        let num = first.pull.num;
        let what = match first.reserved_until {
            Some(until) => {
                explained.state = State::Reserved;
                let until = if until == u64::MAX { "all of its set is free".to_owned() } else { time_of(until, self.now()) };
                format!("the lock is kept for pull #{num} until {until}")
            }
            // Between two steps, or all who wait yield the key, or wait for their sets.
            None => format!("pull #{num} waits for the lock, and cannot take it yet"),
        };
        explained.blocked_by.push(Block { kind: "reservation", what, who: format!("#{num}") });
        if !is_frozen {
            explained.frees_it.push(format!("plan pull #{num}: comment `atlantis plan` there; it is next"));
            explained
                .frees_it
                .push(format!("comment `atlantis unlock` in #{num}: it leaves the queue, and the next one has its turn"));
        }
        let waits_for_set = queue.ticket(&first.pull).is_some_and(|ticket| ticket.whole && !ticket.has_reserved(&explained.key));
        if waits_for_set {
            explained.frees_it.push(format!("wait: #{num} takes all of its locks at once, and not all of them are free"));
        }
    }

    fn add_freezes(&self, explained: &mut Explained, repo: &str) {
        let (freezes, now) = (self.queueing.frozen.now().unwrap_or_default(), self.now());
        let key = explained.key.clone();
        for freeze in freezes.of_key(repo, &key, now) {
            if freeze.plans == Plans::Deny && matches!(explained.state, State::Free | State::Reserved) {
                explained.state = State::Frozen;
            }
            let what = match freeze.plans {
                Plans::Deny => format!("the lock is frozen {}", freeze.why(now)),
                Plans::Allow => format!("applies are frozen {}; plans are not", freeze.why(now)),
            };
            explained.blocked_by.push(Block { kind: "freeze", what, who: plain(&freeze.owner) });
            let end = freeze.until.map_or(String::new(), |until| format!("wait until {}, or ", time_of(until, now)));
            explained.frees_it.push(format!("{end}end the freeze {}", freeze.id));
        }
    }

    fn add_deadlock(&self, explained: &mut Explained, repo: &str) {
        let holder = explained.holder.as_ref().map(|holder| &holder.pull);
        let mut pulls = holder.into_iter().chain(explained.queue.iter().map(|waits| &waits.pull));
        let Some(id) = pulls.find_map(|pull| self.queueing.deadlocks.of(repo, pull)) else { return };
        let suggestion = self.queueing.deadlocks.suggestion(&id);
        let what = format!("pulls wait for each other in a circle, {id}");
        explained.blocked_by.push(Block { kind: "deadlock", what, who: String::new() });
        explained.frees_it.extend(suggestion);
        explained.deadlock = Some(id);
    }
}

/// How a text names the holder of a lock. Atlantis's API and its drift detection lock under numbers below 0.
fn named(num: i64) -> String {
    if num > 0 { format!("pull #{num}") } else { "a call of Atlantis's API, or its drift detection,".to_owned() }
}

fn unreadable(explained: &mut Explained) {
    explained.state = State::Unknown;
    let what = "what is stored there is no lock, and keeps the key taken".to_owned();
    explained.blocked_by.push(Block { kind: "unreadable", what, who: String::new() });
    explained.frees_it.push(format!("remove the entry with `atlock discard {:?}`, once nobody relies on it", explained.key));
}

/// Reads a question's JSON. Errors: `InvalidJson` unless that is `{"key": …}` or `{"repo": …, "pull": …}`.
pub fn question(json: &[u8]) -> Result<Question> {
    limit("a question", json.len(), MAX_KEY_BYTES)?;
    serde_json::from_slice(json).map_err(|_| {
        let text = r#"give {"key": "…"}, or {"repo": "…", "pull": {"host": "…", "num": 7}}"#;
        Error::new(Code::InvalidJson, format!("this is no question about a lock: {text}"))
    })
}

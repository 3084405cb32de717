//! A stock Atlantis server (v0.47.1) on the same Redis, by its own two-step rules (`core/redis/redis.go` there).
//!
//! Models: TryLock and LockCommand read, then write; Unlock and UnlockCommand read, then delete whatever is there by then, and Unlock says that it
//! released what it has read, though its DEL failed; UnlockByPull looks at all names, and fails where one is gone when it reads it;
//! UnlockIfOwnedByPull is a script; a pull status is read and written. Between any two commands others go on, and each command meets the
//! network's faults. The process dies now and then: what it has sent may still arrive.
//!
//! What its SET or DEL takes from another holder is its own fault: the oracle is told so at that moment, and excuses that holder, not any
//! other.
//!
//! Cannot express: go-redis's retries (a write that failed is not sent again); the move of the keys of releases before v0.40.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::Value;

use super::link::ServersLink;
use super::schedule::{Busy, CALLERS, Scheduled};
use super::show::{command_text, text, texts};
use super::values::{REPO, any_key, keys_of_repo, pull_of, value_for};
use super::world::World;
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::EntryKey;
use crate::store::redis::Link as _;
use crate::store::redis::simulated::STOCK_UNLOCK;
use crate::store::{Granted, Listing, Swap};
use crate::sync::tasks::{self, Group};

/// The stock server's process, and its number among the servers.
pub(super) const STOCK: Group = usize::MAX;
/// How long go-redis waits for an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// What the stock server is about to do.
#[derive(Default)]
pub(super) struct Stock {
    /// Values that it has read in order to delete them: by its answer they are released.
    meant: Mutex<BTreeSet<Vec<u8>>>,
}

/// Whether a stock server sends this.
pub(super) fn is_stocks(command: &[Vec<u8>]) -> bool {
    match command {
        [name, ..] if name == b"SET" || name == b"DEL" => true,
        [name, script, ..] => name == b"EVAL" && script == STOCK_UNLOCK.as_bytes(),
        _ => false,
    }
}

fn redis_key(key: &EntryKey) -> String {
    match key {
        EntryKey::Project(name) => format!("pr/{name}"),
        EntryKey::Command(name) => format!("global/{name}/lock"),
        EntryKey::Status(name) => name.clone(),
        EntryKey::Queue(repo) => format!("atlock:queue:{repo}"),
        EntryKey::Freezes => "atlock:freezes".to_owned(),
    }
}

fn failed() -> Error {
    Error::new(Code::Unreachable, "the stock server reads nothing")
}

fn unknown() -> Error {
    Error::new(Code::OutcomeUnknown, "the stock server does not know")
}

impl Scheduled<'_> {
    /// The stock server begins something, or dies.
    pub(super) fn stock_step(&self) {
        let (world, random) = (self.world, &self.world.random);
        if random.percent(2) {
            world.stock_dies();
        }
        let callers = world.under_way.lock().values().filter(|under_way| under_way.process == STOCK).count();
        if callers < CALLERS && random.percent(30) {
            let (world, busy) = (Arc::clone(world), Busy::new(world));
            self.tasks.start(STOCK, "stock", move || {
                let _busy = busy;
                world.stock_operation();
            });
        }
    }
}

impl World {
    /// Redis executes a command, whoever sent it.
    pub(super) fn execute(&self, command: &[Vec<u8>]) -> Value {
        let execute = || self.redis.execute(command, self.clock.unix_micros());
        let is_put = || self.plan.stock && command_text(command).starts_with("PUT ");
        if !is_stocks(command) && !is_put() {
            return execute();
        }
        let before = self.entries();
        let reply = execute();
        let after = self.entries();
        if !is_stocks(command) {
            let put = after.iter().filter(|(key, new)| before.get(*key) != Some(*new));
            put.for_each(|(key, new)| self.oracle().was_put(key, new));
            return reply;
        }
        for (key, old) in before.iter().filter(|(key, old)| after.get(*key) != Some(*old)) {
            let is_meant = command[0] == b"EVAL" || self.stock.meant.lock().contains(old);
            if matches!(key, EntryKey::Status(_)) {
                self.oracle().perhaps_released(key, None);
            } else if is_meant && !after.contains_key(key) {
                self.oracle().released(key, old);
            } else {
                self.oracle().was_overwritten(old);
            }
        }
        reply
    }

    /// One operation of the stock server, from beginning to end.
    pub(super) fn stock_operation(self: &Arc<Self>) {
        let key = any_key(&self.random);
        let is_project = matches!(key, EntryKey::Project(_));
        match self.random.below(10) {
            _ if matches!(key, EntryKey::Status(_)) => self.stock_swaps(&key),
            0..=3 => self.stock_grants(&key),
            4 if is_project => self.stock_releases_by_pull(),
            5..=6 if is_project => self.stock_releases_if_owned(&key),
            _ => self.stock_releases(&key),
        }
    }

    /// The process dies. What it was asked for has no answer.
    pub(super) fn stock_dies(&self) {
        self.say(|| "the stock server dies".to_owned());
        tasks::kill(STOCK);
        self.without_answer(STOCK);
        self.stock.meant.lock().clear();
    }

    /// Sends a command and waits for its answer.
    fn stock_asks(self: &Arc<Self>, command: &[&str]) -> Result<Value> {
        let command: Vec<Vec<u8>> = command.iter().map(|word| word.as_bytes().to_vec()).collect();
        let link = ServersLink { world: Arc::downgrade(self), me: STOCK };
        match link.send(&command, self.clock.now() + READ_TIMEOUT) {
            Ok(Value::ServerError(_)) | Err(_) => Err(failed()),
            Ok(value) => Ok(value),
        }
    }

    fn stock_reads(self: &Arc<Self>, key: &str) -> Result<Option<Vec<u8>>> {
        match self.stock_asks(&["GET", key])? {
            Value::BulkString(value) => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    fn stock_writes(self: &Arc<Self>, key: &str, value: &[u8]) -> Result<()> {
        let value = std::str::from_utf8(value).expect("is JSON");
        self.stock_asks(&["SET", key, value]).map(drop).map_err(|_| unknown())
    }

    fn stock_call(&self) -> Call {
        Call::new(RequestId::from_text(format!("s{:06}", self.number())), self.clock.now() + READ_TIMEOUT)
    }

    fn stock_grants(self: &Arc<Self>, key: &EntryKey) {
        let value = value_for(key, self.number());
        let call = self.stock_call();
        let number = self.begins(&call, false);
        self.oracle().asks_stock(key, &value);
        let name = redis_key(key);
        let answer = self.stock_reads(&name).and_then(|held| match held {
            Some(value) => Ok(Granted::Held { value }),
            None => self.stock_writes(&name, &value).map(|()| Granted::Yes { token: FencingToken::NONE, gated: false }),
        });
        self.say(|| format!("stock: grant {key} {} → {}", text(&value), super::show::show(&answer)));
        self.ends(number);
        self.oracle().grant_answered(key, value, &answer);
    }

    /// Unlock and UnlockCommand. The first swallows the error of its DEL, which is unknown to the oracle all the same.
    fn stock_releases(self: &Arc<Self>, key: &EntryKey) {
        let call = self.stock_call();
        let number = self.begins(&call, true);
        self.oracle().begin_release(number, std::slice::from_ref(key), None, false);
        let name = redis_key(key);
        let answer = self.stock_reads(&name).and_then(|held| {
            let Some(held) = held else { return Ok(None) };
            self.stock.meant.lock().insert(held.clone());
            self.stock_asks(&["DEL", &name]).map(|_| Some(held)).map_err(|_| unknown())
        });
        self.say(|| format!("stock: release {key} → {}", super::show::show(&answer)));
        self.ends(number);
        self.oracle().release_answered(number, call.request.as_str(), &answer);
    }

    fn stock_releases_if_owned(self: &Arc<Self>, key: &EntryKey) {
        let call = self.stock_call();
        let number = self.begins(&call, true);
        self.oracle().begin_release(number, std::slice::from_ref(key), Some(1), false);
        let answer = self.stock_asks(&["EVAL", STOCK_UNLOCK, "1", &redis_key(key), "1"]);
        let answer = answer.map_err(|_| unknown()).map(|value| match value {
            Value::BulkString(value) => Some(value),
            _ => None,
        });
        self.say(|| format!("stock: release {key} of pull 1 → {}", super::show::show(&answer)));
        self.ends(number);
        self.oracle().release_answered(number, call.request.as_str(), &answer);
    }

    fn stock_releases_by_pull(self: &Arc<Self>) {
        let call = self.stock_call();
        let number = self.begins(&call, true);
        self.oracle().begin_release(number, &keys_of_repo(), Some(1), true);
        let mut released = Listing::default();
        let answer = self.stock_looks_through(&mut released).map(|()| released).map_err(|_| unknown());
        self.say(|| format!("stock: release by pull → {}", super::show::show(&answer)));
        self.ends(number);
        self.oracle().pull_release_answered(number, call.request.as_str(), &answer, true, 0, &BTreeSet::new());
    }

    /// UnlockByPull. Where a DEL fails, stock goes on and says that all was released: here the end is an error, so that the oracle excuses what is
    /// left.
    fn stock_looks_through(self: &Arc<Self>, released: &mut Listing) -> Result<()> {
        let (pattern, mut cursor, mut failed_once) = (format!("pr/{REPO}*"), "0".to_owned(), false);
        loop {
            let Value::Array(page) = self.stock_asks(&["SCAN", &cursor, "MATCH", &pattern])? else { return Err(failed()) };
            let [Value::BulkString(next), Value::Array(names)] = &page[..] else { return Err(failed()) };
            for name in names {
                let Value::BulkString(name) = name else { return Err(failed()) };
                let name = std::str::from_utf8(name).expect("is a text");
                let held = self.stock_reads(name)?.ok_or_else(failed)?;
                if pull_of(&held) != Some(1) {
                    continue;
                }
                self.stock.meant.lock().insert(held.clone());
                // It reads the lock again, and deletes what is there after that.
                if self.stock_reads(name)?.is_some() {
                    failed_once |= self.stock_asks(&["DEL", name]).is_err();
                }
                released.push(&held);
            }
            cursor = String::from_utf8_lossy(next).into_owned();
            if cursor == "0" {
                return if failed_once { Err(unknown()) } else { Ok(()) };
            }
        }
    }

    /// A pull status is replaced by one that rests on what was there, or deleted.
    fn stock_swaps(self: &Arc<Self>, key: &EntryKey) {
        let new = (!self.random.percent(25)).then(|| value_for(key, self.number()));
        let call = self.stock_call();
        let number = self.begins(&call, true);
        if let Some(new) = &new {
            self.oracle().asks(key, new);
        }
        self.oracle().begin_release(number, std::slice::from_ref(key), None, false);
        let name = redis_key(key);
        let answer = match &new {
            Some(new) => self.stock_reads(&name).and_then(|_| self.stock_writes(&name, new)),
            None => self.stock_asks(&["DEL", &name]).map(drop).map_err(|_| unknown()),
        };
        let answer = answer.map(|()| Swap::Done);
        self.say(|| format!("stock: swap {} → {}", texts(&new), super::show::show(&answer)));
        self.ends(number);
        self.oracle().swap_answered(number, call.request.as_str(), new, &answer);
    }
}

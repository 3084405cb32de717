//! A shadow of a store that is not the library's: its program tells what was asked and answered, as JSON.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::counts::Report;
use super::observed::{Answer, Asked, Condition, Said};
use super::open::Decides;
use super::tell::{Shadow, Ticket};
use crate::call::Calls;
use crate::clock::Clock;
use crate::config::{Config, ShadowStore};
use crate::domain::json::parse_json;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::EntryKey;
use crate::store::{Listing, OwnedExpected};
use crate::sync::Mutex;

/// The shadow beside a store that the program calls itself. Safe from any thread.
#[derive(Debug)]
pub struct Told {
    shadow: Shadow,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    tickets: HashMap<u64, Ticket>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedJson<'a> {
    #[serde(borrow)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    pull: Option<i64>,
    #[serde(borrow, default)]
    repo: Cow<'a, str>,
    #[serde(default)]
    fill: bool,
    #[serde(default)]
    fragile: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerJson<'a> {
    Granted,
    #[serde(borrow)]
    Held(SaidJson<'a>),
    #[serde(borrow)]
    Was(SaidJson<'a>),
    #[serde(borrow)]
    Left(SaidJson<'a>),
    #[serde(borrow)]
    Locks(Vec<&'a RawValue>),
    NotKnown,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SaidJson<'a> {
    Nothing,
    Something,
    #[serde(borrow)]
    This(&'a RawValue),
}

impl Told {
    /// Begins the shadow that the settings name, beside a store of the program's; `is_redis`: which is the Redis of
    /// `locking.enhanced.redis`.
    ///
    /// Errors: `InvalidConfig` if the settings name no shadow, or that Redis; those of [`Shadow::start`].
    pub fn open(config: &Config, is_redis: bool, clock: Arc<dyn Clock>) -> Result<Told> {
        let (shadow, redis) = (&config.locking.shadow, &config.locking.enhanced.redis);
        if !shadow.is_on() {
            return Err(Error::new(Code::InvalidConfig, "locking.shadow names no store"));
        }
        if is_redis && shadow.store == ShadowStore::Redis && shadow.redis.name() == redis.name() {
            let text =
                "locking.shadow.redis is Atlantis's own Redis, which decides: a shadow has a Redis or a database of its own";
            return Err(Error::new(Code::InvalidConfig, text));
        }
        let decides = Decides {
            name: "Atlantis's own store".to_owned(),
            folder: config.locking.data_dir.clone(),
            redis: is_redis.then(|| redis.clone()),
        };
        let calls = Calls::new(Arc::clone(&clock))?;
        Ok(Told { shadow: Shadow::start(config, decides, None, calls, clock)?, under_way: Mutex::default() })
    }

    /// An operation begins; returns its number.
    ///
    /// Errors: `InvalidJson`, `InvalidArgument`.
    pub fn begin(&self, asked: &[u8]) -> Result<u64> {
        let ticket = self.shadow.begin(parse_json::<AskedJson<'_>>(asked)?.asked()?);
        let mut under_way = self.under_way.lock();
        under_way.next += 1;
        let number = under_way.next;
        under_way.tickets.insert(number, ticket);
        Ok(number)
    }

    /// It has ended like this. What cannot be read counts as not known.
    ///
    /// Errors: `InvalidJson`; `InvalidArgument` for a number that was not given, or has ended.
    pub fn end(&self, number: u64, answer: &[u8]) -> Result<()> {
        let ticket = self.under_way.lock().tickets.remove(&number);
        let ticket = ticket.ok_or_else(|| Error::new(Code::InvalidArgument, "no such operation is under way"))?;
        ticket.end(parse_json::<AnswerJson<'_>>(answer)?.answer());
        Ok(())
    }

    /// How it stands, and what an operator should know.
    pub fn report(&self) -> (Report, Option<String>) {
        (self.shadow.report(), self.shadow.warning())
    }

    /// As [`Shadow::metrics`].
    pub fn metrics(&self) -> String {
        self.shadow.metrics()
    }

    /// As [`Shadow::close`].
    pub fn close(&self) {
        self.shadow.close();
    }
}

impl AskedJson<'_> {
    fn asked(self) -> Result<Asked> {
        let bytes = || self.value.map(|value| value.get().as_bytes().to_vec());
        let value = || bytes().ok_or_else(|| Error::new(Code::InvalidJson, "an operation that takes a lock has its value"));
        let key = self.key.into_owned();
        let (lock, command) = (|key| EntryKey::Project(key), |name| EntryKey::Command(name));
        Ok(match &*self.operation {
            "try_lock" => Asked::Grant { key: lock(key), value: value()? },
            "lock_command" => Asked::Grant { key: command(key), value: value()? },
            "unlock" => Asked::Release { key: lock(key), only_if: Condition::of_pull(self.pull) },
            "unlock_command" => Asked::Release { key: command(key), only_if: Condition::default() },
            "get_lock" => Asked::Get(lock(key)),
            "check_command_lock" => Asked::Get(command(key)),
            "pull_status" => Asked::Get(EntryKey::Status(key)),
            "swap_pull_status" => Asked::Swap { key: EntryKey::Status(key), expected: OwnedExpected::Any, new: bytes() },
            "list" => Asked::List { fill: self.fill, fragile: self.fragile },
            "unlock_by_pull" => Asked::ReleaseByPull { repo: self.repo.into_owned(), num: self.pull.unwrap_or_default() },
            other => return Err(Error::new(Code::InvalidArgument, format!("{other:?} is no operation that a shadow follows"))),
        })
    }
}

impl AnswerJson<'_> {
    fn answer(self) -> Answer {
        match self {
            AnswerJson::Granted => Answer::Granted,
            AnswerJson::Held(said) => Answer::Held(said.said()),
            AnswerJson::Was(said) => Answer::Was(said.said()),
            AnswerJson::Left(said) => Answer::Left(said.said()),
            AnswerJson::NotKnown => Answer::NotKnown,
            AnswerJson::Locks(values) => {
                let mut locks = Listing::default();
                values.iter().for_each(|value| locks.push(value.get().as_bytes()));
                Answer::Locks(locks)
            }
        }
    }
}

impl SaidJson<'_> {
    fn said(self) -> Said {
        match self {
            SaidJson::Nothing => Said::Nothing,
            SaidJson::Something => Said::Something,
            SaidJson::This(value) => Said::This(value.get().as_bytes().to_vec()),
        }
    }
}

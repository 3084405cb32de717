//! A Redis server in memory, single-threaded as Redis is, which runs the very Lua scripts that a real one is sent.
//!
//! Invariants:
//! - Whatever text arrives by `EVAL` or `SCRIPT LOAD` is run, by Lua 5.1. There is no second version of a script here.
//! - Each command answers as Redis 7.0 does, and leaves what that leaves: `differential.rs` drives both.
//! - An error before a script's first write leaves nothing, one after it what was done.
//!
//! Models: strings, hashes, sets, sorted sets; ends of keys in milliseconds by the clock that each command is given; a script cache,
//! which a restart empties; a server that is full; images of the data, to which it goes back; a replication ID, which is another one after
//! either. A script sees one moment.
//!
//! Cannot express: a cluster; replicas (`WAIT` counts none); rights; the order in which a large hash, a set or `KEYS` has its entries
//! (a hash is in the order of its writes here, the rest is sorted); a script that is killed, or that changes Lua's own tables; the
//! time that a command takes. The network is the simulation's own ([`Link`](super::Link)).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use redis::Value;

use self::commands::{Command, Kind, bulk, whole};
pub(crate) use self::data::Entry;
use self::data::{Answer, Data};
pub(crate) use self::random_scripts::STOCK_UNLOCK;

mod cjson;
mod commands;
mod data;
mod differential;
mod glob;
mod keys;
mod lua;
mod numbers;
mod random_commands;
mod random_scripts;
mod sections;
mod tests;

/// What a full server answers.
const FULL: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// The server. It stays the same one whatever happens to its data. Safe from any thread.
#[derive(Default)]
pub(crate) struct SimulatedRedis {
    state: Mutex<State>,
}

/// The data at one moment, without the script cache.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Image(Data);

#[derive(Default)]
struct State {
    data: Data,
    /// By SHA-1.
    scripts: HashMap<String, Arc<[u8]>>,
    is_full: bool,
    /// Another one after each start.
    replication_id: u64,
}

impl SimulatedRedis {
    /// Executes a command (its name, then its arguments) at this moment of the server's clock. A refusal is an answer.
    pub(crate) fn execute(&self, command: &[Vec<u8>], now_micros: u64) -> Value {
        let mut state = self.state.lock();
        state.data.expire(now_micros / 1000);
        state.execute(command, now_micros).unwrap_or_else(|text| refusal(&text))
    }

    /// The data as they are.
    pub(crate) fn image(&self) -> Image {
        Image(self.state.lock().data.clone())
    }

    /// The data are what they were; the replication ID is another one.
    pub(crate) fn restore(&self, image: &Image) {
        let mut state = self.state.lock();
        state.data = image.0.clone();
        state.replication_id += 1;
    }

    /// The process starts anew with all its data; no script is known, and its replication ID is another one.
    pub(crate) fn restart(&self) {
        let mut state = self.state.lock();
        state.scripts.clear();
        state.replication_id += 1;
    }

    /// From now on the server has no memory to give, or has some again.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.state.lock().is_full = is_full;
    }

    /// Loses a key, as a server that evicts does; whether it was there.
    pub(crate) fn evict(&self, key: &[u8]) -> bool {
        self.state.lock().data.remove(key)
    }

    /// The names of all keys, in order.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        self.state.lock().data.entries().map(|(key, _)| key.clone()).collect()
    }

    /// The string at a key; `None` if there is none.
    pub(crate) fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state.lock().data.text(key).ok().flatten().cloned()
    }

    /// All that is there. What has ended since the last command is still among it.
    pub(crate) fn contents(&self) -> BTreeMap<Vec<u8>, Entry> {
        self.state.lock().data.entries().map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }
}

impl fmt::Debug for SimulatedRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedRedis").finish_non_exhaustive()
    }
}

impl State {
    fn execute(&mut self, words: &[Vec<u8>], now: u64) -> Answer {
        let name = words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        match (name.as_slice(), words.len()) {
            (b"EVAL", 3..) => {
                let (keys, args) = split(&words[2..])?;
                let hash = self.learn(&words[1])?;
                self.run(&hash, keys, args, now)
            }
            (b"EVALSHA", 3..) => {
                let hash = String::from_utf8_lossy(&words[1]).to_ascii_lowercase();
                let (keys, args) = split(&words[2..])?;
                self.run(&hash, keys, args, now)
            }
            (b"SCRIPT", 3) if words[1].eq_ignore_ascii_case(b"LOAD") => self.learn(&words[2]).map(bulk),
            (b"CONFIG", 3) if words[1].eq_ignore_ascii_case(b"GET") => Ok(sections::setting(&words[2])),
            (b"INFO", 1..=2) => Ok(bulk(sections::information(words.get(1).map_or(&[][..], Vec::as_slice), self.replication_id))),
            (b"WAIT", 3) => whole(&words[1]).and(whole(&words[2])).map(|_| Value::Int(0)),
            _ => self.plain(words, now),
        }
    }

    fn plain(&mut self, words: &[Vec<u8>], now: u64) -> Answer {
        let name = words.first().map_or(&[][..], Vec::as_slice);
        let Some(command) = Command::named(name) else {
            return Err(format!("ERR unknown command '{}'", String::from_utf8_lossy(name)));
        };
        if !command.takes(words.len()) {
            return Err(format!("ERR wrong number of arguments for '{}' command", command.name.to_lowercase()));
        }
        if command.kind == Kind::Grow && self.is_full {
            return Err(FULL.to_owned());
        }
        (command.run)(&mut self.data, words, now)
    }

    /// Keeps a script, if it is one; its SHA-1.
    fn learn(&mut self, text: &[u8]) -> Result<String, String> {
        let hash = lua::sha1(text);
        lua::compile(&hash, text)?;
        self.scripts.entry(hash.clone()).or_insert_with(|| text.into());
        Ok(hash)
    }

    fn run(&mut self, hash: &str, keys: &[Vec<u8>], args: &[Vec<u8>], now: u64) -> Answer {
        let Some(text) = self.scripts.get(hash).cloned() else {
            return Err("NOSCRIPT No matching script. Please use EVAL.".to_owned());
        };
        let data = std::mem::take(&mut self.data);
        let run = lua::Run { data, now, is_full: self.is_full, has_written: false, replication_id: self.replication_id };
        let (data, answer) = lua::run(hash, &text, keys, args, run);
        self.data = data;
        answer
    }
}

/// A script's keys, and its arguments.
type KeysAndArgs<'a> = (&'a [Vec<u8>], &'a [Vec<u8>]);

/// What follows a script: the number of its keys, these, and its arguments.
fn split(words: &[Vec<u8>]) -> Result<KeysAndArgs<'_>, String> {
    let keys = usize::try_from(whole(&words[0])?).map_err(|_| "ERR Number of keys can't be negative")?;
    words[1..].split_at_checked(keys).ok_or_else(|| "ERR Number of keys can't be greater than number of args".to_owned())
}

/// An error as the client's parser reads it.
fn refusal(text: &str) -> Value {
    let line = format!("-{}\r\n", text.replace(['\r', '\n'], " "));
    redis::parse_redis_value(line.as_bytes()).expect("is an error")
}

//! A Redis that replies anything, for `crate::fuzzing`.
#![allow(clippy::expect_used)] // a panic is what they tell by

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::Value;

use super::RedisStore;
use super::open::Opened;
use super::retry::Retrying;
use super::transport::{Link, Transport, Undelivered};
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::config;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::store::contract::local::EntryKey;
use crate::store::contract::shared::{Presence, Reach, SharedStore as _};
use crate::store::{DocumentKey, Expected, Grant, Granted, LockKey, Release, Store as _};

const LOCK: &[u8] = br#"{"Project":{"RepoFullName":"a/b","Path":"."},"Pull":{"Num":1},"Workspace":"default"}"#;

/// What replies are often made of.
const WORDS: [&[u8]; 24] = [
    b"DONE",
    b"HELD",
    b"NONE",
    b"NOTYET",
    b"CONFLICT",
    b"JUDGE",
    b"LATE",
    b"UNKNOWN",
    b"G17",
    b"R17 {}",
    b"M17 x",
    b"L17",
    b"17",
    b"0",
    b"-1",
    b"1",
    b"string",
    b"hash",
    b"none",
    b"pr/a/b/./default/",
    b"{pr/a/b/./default/}:atlock",
    b"atlock:locks",
    LOCK,
    b"i 1.1 2.2",
];

/// A clock that every question moves.
#[derive(Debug)]
struct Passing {
    begin: Instant,
    millis: AtomicUsize,
}

impl Passing {
    fn pass(&self, time: Duration) {
        self.millis.fetch_add(usize::try_from(time.as_millis()).unwrap_or(usize::MAX).max(1), Ordering::SeqCst);
    }

    fn since(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::SeqCst).try_into().unwrap_or(u64::MAX))
    }
}

impl Clock for Passing {
    fn now(&self) -> Instant {
        self.begin + self.since()
    }

    fn unix_micros(&self) -> u64 {
        1_795_000_000_000_000 + u64::try_from(self.since().as_micros()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, time: Duration) {
        self.pass(time);
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

/// A server whose replies are made of these bytes, again from the beginning when they end.
#[derive(Debug)]
struct Anything {
    bytes: Vec<u8>,
    at: AtomicUsize,
    clock: Arc<Passing>,
    has_said_done: AtomicBool,
}

impl Anything {
    fn byte(&self) -> u8 {
        let at = self.at.fetch_add(1, Ordering::SeqCst);
        self.bytes.get(at % self.bytes.len().max(1)).copied().unwrap_or(0)
    }

    fn some_bytes(&self) -> Vec<u8> {
        match usize::from(self.byte()) {
            word @ ..200 => WORDS[word % WORDS.len()].to_vec(),
            length => (200..length).map(|_| self.byte()).collect(),
        }
    }

    fn value(&self, depth: usize) -> Value {
        match self.byte() % 12 {
            0 => Value::Nil,
            1 => Value::Int(i64::from(self.byte()) - 1),
            2 => Value::Okay,
            3 => Value::SimpleString(String::from_utf8_lossy(&self.some_bytes()).into_owned()),
            4 => Value::Int(i64::MAX - i64::from(self.byte())),
            5 if depth > 0 => {
                let pairs = self.byte() % 4;
                Value::Map((0..pairs).map(|_| (self.value(depth - 1), self.value(depth - 1))).collect())
            }
            6..9 if depth > 0 => Value::Array((0..self.byte() % 6).map(|_| self.value(depth - 1)).collect()),
            _ => Value::BulkString(self.some_bytes()),
        }
    }
}

impl Link for Anything {
    fn send(&self, command: &[Vec<u8>], deadline: Instant) -> Result<Value, Undelivered> {
        self.clock.pass(Duration::from_millis(5));
        if command.first().is_some_and(|name| name == b"TIME") {
            let micros = self.clock.unix_micros();
            let parts = [micros / 1_000_000, micros % 1_000_000];
            return Ok(Value::Array(parts.iter().map(|part| Value::BulkString(part.to_string().into_bytes())).collect()));
        }
        match self.byte() % 32 {
            0 => Err(Undelivered::Refused),
            1 => Err(Undelivered::Lost),
            2 => {
                self.clock.pass(deadline.saturating_duration_since(self.clock.now()));
                Err(Undelivered::TimedOut)
            }
            _ => {
                let value = self.value(4);
                if super::reply::is_done(&value) {
                    self.has_said_done.store(true, Ordering::SeqCst);
                }
                Ok(value)
            }
        }
    }
}

/// Replies to each operation, in turn.
pub(crate) fn reply(bytes: &[u8]) {
    let clock = Arc::new(Passing { begin: Instant::now(), millis: AtomicUsize::new(1) });
    let server = Arc::new(Anything {
        bytes: bytes.to_vec(),
        at: AtomicUsize::new(0),
        clock: Arc::clone(&clock),
        has_said_done: AtomicBool::new(false),
    });
    let settings = config::Redis::default();
    let until = clock.now() + Duration::from_secs(1);
    let Ok(transport) = Transport::over(Arc::clone(&server) as _, Arc::clone(&clock) as _, Duration::from_secs(1), until) else {
        return;
    };
    let redis = Retrying { transport, server: "a server".to_owned(), clock: Arc::clone(&clock) as _ };
    let store = RedisStore::of(Opened { redis: Arc::new(redis), warnings: Vec::new() }, &settings, "i");
    let call = || Call::new(RequestId::from_text("r"), clock.now() + Duration::from_secs(1));

    let lock = ProjectLock::parse(LOCK).expect("is a lock");
    let (key, entry) = (LockKey::Project("a/b/./default/"), EntryKey::Project("a/b/./default/".to_owned()));
    let (pull, status) = (PullRef { repo: "a/b", num: 1 }, DocumentKey::PullStatus("h::a/b::1"));
    server.has_said_done.store(false, Ordering::SeqCst);
    let granted = store.grant(&Grant { key, lock: Some(&lock), value: LOCK, in_order: true }, &call());
    if let Ok(Granted::Yes { .. }) = granted {
        assert!(server.has_said_done.load(Ordering::SeqCst), "a lock is granted that nobody granted");
    }
    server.has_said_done.store(false, Ordering::SeqCst);
    if let Ok(Some(_)) = store.release(&Release { key, fields: None, pull_num: None, value: None }, &call()) {
        assert!(server.has_said_done.load(Ordering::SeqCst), "a lock is released that nobody released");
    }
    drop(store.discard(key, &call()));
    drop(store.get(key, &call()));
    drop(store.held(key, &call()));
    drop(store.list(&call()));
    drop(store.lock_info(key, &call()));
    drop(store.release_by_pull(pull, &call()));
    drop(store.document(status, &call()));
    drop(store.swap_document(status, Expected::Any, Some(b"{}"), &call()));
    drop(store.queues(&call()));
    drop(store.snapshot(true, &call()));
    drop(store.remote(&entry, &call()));
    drop(store.remote_and_presence(&entry, "i", 1, &call()));
    drop(store.put(&entry, Some(LOCK), None, &call()));
    drop(store.held_by(pull, Reach::Index, &call()));
    drop(store.release_held(pull, std::slice::from_ref(&entry), &call()));
    drop(store.announce("i", Duration::from_secs(9), Presence::Here, 1, &call()));
    drop(store.grant_with(&Grant { key, lock: Some(&lock), value: LOCK, in_order: false }, FencingToken::new(7), &call()));
    drop(store.ping(&call()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::error::Code;

    /// A server that has the time, and finds one key whatever it is asked for.
    #[derive(Debug)]
    struct FindsAnother;

    impl Link for FindsAnother {
        fn send(&self, command: &[Vec<u8>], _deadline: Instant) -> Result<Value, Undelivered> {
            let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
            Ok(match command[0].as_slice() {
                b"TIME" => Value::Array(vec![text("1795000000"), text("0")]),
                b"SCAN" => Value::Array(vec![text("0"), Value::Array(vec![text("x")])]),
                _ => Value::Nil,
            })
        }
    }

    #[test]
    fn a_key_that_was_not_asked_for_is_an_error() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let until = clock.now() + Duration::from_secs(9);
        let transport =
            Transport::over(Arc::new(FindsAnother), Arc::clone(&clock), Duration::from_secs(9), until).expect("connects");
        let redis = Arc::new(Retrying { transport, server: "a server".to_owned(), clock });
        let store = RedisStore::of(Opened { redis, warnings: Vec::new() }, &config::Redis::default(), "i");
        let error = store.list(&Call::new(RequestId::from_text("r"), until)).map(drop).expect_err("is no list");
        assert_eq!(error.code(), Code::Protocol, "{error}");
    }
}

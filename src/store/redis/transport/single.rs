//! A single server: a small pool of blocking connections, and in front of it, for short commands, a queue (`combiner.rs`).
//!
//! A lone caller is answered in one round trip of one system call each way; a multiplexed connection would add two thread
//! switches. Many callers share round trips. A connection on which anything went wrong is dropped: a late reply must never be
//! taken for the next one.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use redis::{Cmd, FromRedisValue as _, RedisResult, Value};
use rustls::pki_types::ServerName;

use super::super::errors::Failure;
use super::super::reply::is_done;
use super::attempt::{Attempt, wait_command};
use super::combiner::{Combiner, Exchange, LARGEST};
use super::credentials::{Credentials, Reader};
use super::names::{Name, Names};
use super::server_clock::ServerClock;
use super::wire::{Connection, LogIn};
use crate::config;
use crate::error::{Code, Error, Result};

/// Most connections at once; further callers wait for one until their deadline.
const CONNECTIONS: usize = 64;
/// Most connections kept while nobody uses them.
const IDLE_CONNECTIONS: usize = 16;

/// The pool. Safe from any thread.
pub(in crate::store::redis) struct Single {
    settings: Arc<config::Redis>,
    name: Arc<Name>,
    credentials: Reader,
    clock: ServerClock,
    combiner: Combiner,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    in_use: usize,
    closed: bool,
}

impl Single {
    /// An empty pool; no connection is made yet.
    pub(super) fn new(settings: Arc<config::Redis>, names: &Names) -> Result<Single> {
        let (host, port) = host_and_port(&settings.address)?;
        Ok(Single {
            name: names.name(&host, port),
            credentials: Reader::new(Arc::clone(&settings)),
            settings,
            clock: ServerClock::new(Instant::now()),
            combiner: Combiner::default(),
            state: Mutex::default(),
            returned: Condvar::new(),
        })
    }

    pub(super) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Sends a command whose reply is short and quick, alone or together with other callers'.
    pub(super) fn query(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        let packed = command.get_packed_command();
        if packed.len() > LARGEST {
            return self.run(deadline, |connection| connection.query(command));
        }
        self.combiner.call(packed, deadline, self)
    }

    /// Sends several commands in one round trip.
    pub(super) fn query_all(&self, commands: &[Cmd], deadline: Instant) -> Vec<Attempt<Value>> {
        let packed: Vec<u8> = commands.iter().flat_map(Cmd::get_packed_command).collect();
        self.exchange(&packed, commands.len(), deadline)
    }

    /// Runs `f` on a connection.
    pub(super) fn run<T>(&self, deadline: Instant, f: impl FnOnce(&mut Connection) -> RedisResult<T>) -> Attempt<T> {
        let mut lease = self.take(deadline)?;
        let result = f(&mut lease.connection).map_err(Failure::after_sending);
        // Also of a result that is one: what came after it may have failed.
        if lease.connection.is_sound() {
            lease.give_back();
        }
        result
    }

    /// Sends a grant and `WAIT` on the same connection: `WAIT` is about what that connection wrote.
    pub(super) fn query_then_wait(&self, command: &Cmd, replicas: u32, deadline: Instant) -> Attempt<(Value, Attempt<u32>)> {
        self.run(deadline, |connection| {
            let reply = connection.query(command)?;
            if !is_done(&reply) {
                return Ok((reply, Ok(0)));
            }
            let confirmed = connection
                .query(&wait_command(replicas, deadline.saturating_duration_since(Instant::now())))
                .and_then(|value| Ok(u32::from_redis_value(value)?))
                .map_err(Failure::after_sending);
            Ok((reply, confirmed))
        })
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.idle.clear();
        drop(state);
        self.returned.notify_all();
    }

    fn take(&self, deadline: Instant) -> Attempt<Lease<'_>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Err(Failure::Closed);
            }
            if Instant::now() >= deadline {
                drop(state);
                // It may have been woken for a place that another one, who has time left, can use.
                self.returned.notify_one();
                return Err(Failure::not_in_time("no connection was free in time"));
            }
            if state.in_use < CONNECTIONS {
                state.in_use += 1;
                let idle = state.idle.pop();
                drop(state);
                let place = Place { pool: self, is_sound: false };
                let mut connection = idle.map_or_else(|| self.connect(deadline), Ok)?;
                connection.set_deadline(deadline);
                return Ok(Lease { connection, place });
            }
            self.returned.wait_until(&mut state, deadline);
        }
    }

    /// A new connection, with the addresses and the files as they are now.
    fn connect(&self, deadline: Instant) -> Attempt<Connection> {
        let deadline = deadline.min(Instant::now() + self.settings.timeouts.connect);
        let credentials = self.credentials.read(deadline)?;
        let login = self.login(&credentials).map_err(Failure::Settings)?;
        let addresses = self.name.addresses(deadline).map_err(|e| Failure::NotSent(e.into()))?;
        let (connection, micros) = Connection::open(&addresses, &login, deadline)?;
        self.clock.learn(micros, Instant::now());
        Ok(connection)
    }

    fn login<'a>(&'a self, credentials: &'a Credentials) -> Result<LogIn<'a>> {
        let host = self.name.host();
        let tls = credentials.tls.as_ref().map(|tls| {
            let name = ServerName::try_from(host.to_owned()).map_err(|e| {
                Error::new(Code::InvalidConfig, format!("redis.address: {host:?} is no name that a certificate can have: {e}"))
            })?;
            Ok((Arc::clone(&tls.config), name))
        });
        Ok(LogIn {
            username: &credentials.username,
            password: &credentials.password,
            db: self.settings.db,
            tls: tls.transpose()?,
        })
    }
}

/// The parts of `host:port`; an IPv6 address is in brackets.
pub(super) fn host_and_port(address: &str) -> Result<(String, u16)> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "6379"));
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().map_err(|_| Error::new(Code::InvalidConfig, format!("{address:?} is not host:port")))?;
    Ok((host, port))
}

/// A connection of the pool's. Dropped without being given back, also by a panic, it is closed.
struct Lease<'a> {
    connection: Connection,
    place: Place<'a>,
}

impl Lease<'_> {
    fn give_back(self) {
        let Lease { connection, mut place } = self;
        place.is_sound = true;
        let mut state = place.pool.state.lock();
        if !state.closed && state.idle.len() < IDLE_CONNECTIONS {
            state.idle.push(connection);
        }
    }
}

/// One of the [`CONNECTIONS`].
struct Place<'a> {
    pool: &'a Single,
    is_sound: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.in_use -= 1;
        if !self.is_sound {
            // When one breaks, the idle ones probably did, too.
            state.idle.clear();
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}

impl Exchange for Single {
    fn exchange(&self, packed: &[u8], count: usize, deadline: Instant) -> Vec<Attempt<Value>> {
        let mut lease = match self.take(deadline) {
            Ok(lease) => lease,
            Err(failure) => return vec![Err(failure); count],
        };
        let mut replies = Vec::with_capacity(count);
        let mut lost = lease.connection.send(packed).err();
        while replies.len() < count && lost.is_none() {
            // A server's refusal is a value here.
            match lease.connection.receive() {
                Ok(value) => replies.push(value.extract_error().map_err(Failure::after_sending)),
                Err(e) => lost = Some(e),
            }
        }
        match lost {
            None => lease.give_back(),
            Some(error) => replies.resize(count, Err(Failure::ReplyLost(error))),
        }
        replies
    }
}

impl fmt::Debug for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Single").finish_non_exhaustive()
    }
}

//! A single server, or the one of many that is the master: a small pool of blocking connections, and in front of it, for short commands,
//! a queue (`combiner.rs`).
//!
//! A lone caller is answered in one round trip of one system call each way; a multiplexed connection would add two thread
//! switches. Many callers share round trips. A connection on which anything went wrong is dropped: a late reply must never be
//! taken for the next one. One that nobody has used for [`IDLE_FOR`] is, too: what stands in between may have forgotten it, and says nothing.
//!
//! With Sentinels (`sentinel.rs`), a new connection leads to the master that they name, which must call itself one; and a connection is
//! dropped once it leads elsewhere, or its server refuses as one that is no master any more.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redis::{Cmd, FromRedisValue as _, RedisError, RedisResult, Value};

use super::super::errors::Failure;
use super::super::reply::is_done;
use super::attempt::{Attempt, wait_command};
use super::combiner::{Combiner, Exchange, LARGEST};
use super::credentials::{Credentials, Reader};
use super::expiry::Ends;
use super::locate::Locator;
use super::names::Names;
use super::sentinel::Sentinels;
use super::server_clock::ServerClock;
use super::wire::{Connection, LogIn, TlsName};
use crate::config;
use crate::error::Result;

/// Most connections at once; further callers wait for one until their deadline.
const CONNECTIONS: usize = 64;
/// Most connections kept while nobody uses them.
const IDLE_CONNECTIONS: usize = 16;
/// How long nobody uses a connection before it is no longer used: less than what routers, balancers and proxies take for over.
const IDLE_FOR: Duration = Duration::from_secs(60);

/// The pool. Safe from any thread.
pub(in crate::store::redis) struct Single {
    settings: Arc<config::Redis>,
    locator: Locator,
    credentials: Reader,
    ends: Mutex<CertificateEnds>,
    clock: ServerClock,
    combiner: Combiner,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    /// The last one was used last.
    idle: Vec<(Connection, Instant)>,
    in_use: usize,
    closed: bool,
}

/// When the certificates end that the last new connection has seen.
#[derive(Clone, Copy, Default)]
pub(in crate::store::redis) struct CertificateEnds {
    pub servers: Option<Ends>,
    pub clients: Option<Ends>,
}

impl Single {
    /// An empty pool; no connection is made yet.
    pub(super) fn new(settings: Arc<config::Redis>, names: &Arc<Names>) -> Result<Single> {
        Ok(Single {
            locator: Locator::new(&settings, names)?,
            credentials: Reader::new(&settings),
            settings,
            ends: Mutex::default(),
            clock: ServerClock::new(Instant::now()),
            combiner: Combiner::default(),
            state: Mutex::default(),
            returned: Condvar::new(),
        })
    }

    pub(super) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    pub(super) fn certificate_ends(&self) -> CertificateEnds {
        *self.ends.lock()
    }

    pub(super) fn see_certificates(&self, deadline: Instant) -> Attempt<()> {
        self.connect(deadline).map(drop)
    }

    /// The Sentinels, if they tell where the server is.
    pub(super) fn sentinels(&self) -> Option<&Sentinels> {
        self.locator.sentinels()
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
        let result = f(&mut lease.connection).map_err(|error| failure_on(&lease.connection, error));
        // Also of a result that is one: what came after it may have failed.
        if lease.connection.is_sound() && !result.as_ref().is_err_and(|failure| self.leads_elsewhere(failure)) {
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

    /// Whether this refusal comes of a server that is not the master, or not for long.
    fn leads_elsewhere(&self, failure: &Failure) -> bool {
        self.sentinels().is_some() && failure.is_of_old_master()
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
                let idle = state
                    .idle
                    .pop()
                    .filter(|(connection, since)| since.elapsed() < IDLE_FOR && self.locator.is_at(&connection.address));
                if idle.is_none() {
                    // Those that were used before it are no better.
                    state.idle.clear();
                }
                drop(state);
                let place = Place { pool: self, is_sound: false };
                let mut connection = idle.map_or_else(|| self.connect(deadline), |(connection, _)| Ok(connection))?;
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
        match self.connect_with(&credentials, deadline) {
            // It has expired, perhaps: the command has another one.
            Err(failure) if failure.is_refused_password() && self.credentials.refused(&credentials) => {
                self.connect_with(&*self.credentials.read(deadline)?, deadline)
            }
            connected => connected,
        }
    }

    fn connect_with(&self, credentials: &Credentials, deadline: Instant) -> Attempt<Connection> {
        let target = self.locator.find(deadline)?;
        let tls = TlsName::of(credentials, &self.settings.tls.server_name, &target.host).map_err(Failure::Settings)?;
        let mut connection = Connection::connect(target, tls, deadline)?;
        let login = LogIn {
            username: &credentials.username,
            password: &credentials.password,
            db: self.settings.db,
            asks_role: self.sentinels().is_some(),
        };
        let greeting = connection.log_in(&login)?;
        if !greeting.is_master {
            return Err(Failure::NotMaster(connection.address));
        }
        let clients = credentials.tls.as_ref().and_then(|tls| tls.ends);
        *self.ends.lock() = CertificateEnds { servers: connection.certificate_ends(), clients };
        self.clock.learn(greeting.micros, Instant::now());
        Ok(connection)
    }
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
            state.idle.push((connection, Instant::now()));
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
            None if replies.iter().any(|reply| reply.as_ref().is_err_and(|failure| self.leads_elsewhere(failure))) => {}
            None => lease.give_back(),
            Some(error) => {
                let failure = failure_on(&lease.connection, error);
                // Those behind a reply that is too long were sent as well, and are none the worse for it.
                let behind = if lease.connection.was_too_long() { Failure::LeftBehind { sent: true } } else { failure.clone() };
                replies.push(Err(failure));
                replies.resize(count, Err(behind));
            }
        }
        replies
    }
}

/// What a failure on a connection is.
fn failure_on(connection: &Connection, error: RedisError) -> Failure {
    if connection.was_too_long() { Failure::TooLong } else { Failure::after_sending(error) }
}

impl fmt::Debug for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Single").finish_non_exhaustive()
    }
}

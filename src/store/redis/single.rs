//! A single server: a small pool of blocking connections, and in front of it, for short commands, a queue (`combiner.rs`).
//!
//! A lone caller is answered in one round trip of one system call each way; a multiplexed connection would add two thread
//! switches. Many callers share round trips. A connection on which anything went wrong is dropped: a late reply must never be
//! taken for the next one.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redis::{Client, Cmd, Connection, ConnectionLike as _, RedisError, RedisResult, Value};

use super::clock::ServerClock;
use super::combiner::{Combiner, Exchange, LARGEST};
use super::errors::Failure;
use super::link::{Attempt, wait_command};
use super::reply::is_done;

/// Most connections at once; further callers wait for one until their deadline.
const CONNECTIONS: usize = 64;
/// Most connections kept while nobody uses them.
const IDLE_CONNECTIONS: usize = 16;

/// The pool. Safe from any thread.
pub(super) struct Single {
    client: Client,
    connect_timeout: Duration,
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
    pub(super) fn new(client: Client, connect_timeout: Duration) -> Single {
        Single {
            client,
            connect_timeout,
            clock: ServerClock::new(),
            combiner: Combiner::default(),
            state: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    pub(super) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Sends a command whose reply is short and quick, alone or together with other callers'.
    pub(super) fn query(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        let packed = command.get_packed_command();
        if packed.len() > LARGEST {
            return self.run(deadline, |connection| command.query(connection));
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
        set_timeouts(&lease.connection, deadline).map_err(Failure::NotSent)?;
        let result = f(&mut lease.connection).map_err(Failure::after_sending);
        if matches!(result, Ok(_) | Err(Failure::Refused(_))) && lease.connection.is_open() {
            lease.give_back();
        }
        result
    }

    /// Sends a grant and `WAIT` on the same connection: `WAIT` is about what that connection wrote.
    pub(super) fn query_then_wait(&self, command: &Cmd, replicas: u32, deadline: Instant) -> Attempt<(Value, Attempt<u32>)> {
        self.run(deadline, |connection| {
            let reply = command.query(connection)?;
            if !is_done(&reply) {
                return Ok((reply, Ok(0)));
            }
            let confirmed = wait_command(replicas, deadline).query(connection).map_err(Failure::after_sending);
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
                return Err(Failure::closed());
            }
            if Instant::now() >= deadline {
                return Err(Failure::NotSent(io_error(std::io::ErrorKind::TimedOut, "no connection was free in time")));
            }
            if state.in_use < CONNECTIONS {
                state.in_use += 1;
                let idle = state.idle.pop();
                drop(state);
                let place = Place { pool: self, is_sound: false };
                let connection = idle.map_or_else(|| self.connect(deadline), Ok)?;
                return Ok(Lease { connection, place });
            }
            self.returned.wait_until(&mut state, deadline);
        }
    }

    fn connect(&self, deadline: Instant) -> Attempt<Connection> {
        let timeout = deadline.saturating_duration_since(Instant::now()).min(self.connect_timeout);
        if timeout.is_zero() {
            return Err(Failure::NotSent(io_error(std::io::ErrorKind::TimedOut, "no time is left")));
        }
        let connect = || {
            let mut connection = self.client.get_connection_with_timeout(timeout)?;
            set_timeouts(&connection, deadline)?;
            let (seconds, micros): (i64, i64) = redis::cmd("TIME").query(&mut connection)?;
            self.clock.learn(seconds * 1_000_000 + micros, Instant::now());
            Ok(connection)
        };
        connect().map_err(Failure::NotSent)
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
        if let Err(e) = set_timeouts(&lease.connection, deadline) {
            return vec![Err(Failure::NotSent(e)); count];
        }
        let mut replies = Vec::with_capacity(count);
        let mut lost = lease.connection.send_packed_command(packed).err();
        while replies.len() < count && lost.is_none() {
            // A server's refusal is a value here.
            match lease.connection.recv_response() {
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

fn set_timeouts(connection: &Connection, deadline: Instant) -> RedisResult<()> {
    // Zero would mean forever.
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    connection.set_read_timeout(Some(left))?;
    connection.set_write_timeout(Some(left))
}

fn io_error(kind: std::io::ErrorKind, text: &str) -> RedisError {
    RedisError::from(std::io::Error::new(kind, text))
}

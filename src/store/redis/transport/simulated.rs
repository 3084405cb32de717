//! A single server of the simulation, behind a link that the simulation decides about: what a command's way to the server and back
//! comes to, as [`Single`](super::single::Single) would tell it.
//!
//! Models: the pool's connections as one, which is open or not. The next command after a failure connects anew, asks the server's time
//! first, as the log-in does, and learns it. A server that refuses connections is noticed by who has an open one as a connection that
//! breaks: the reply is lost, for all that this side knows. All ends at the deadline, by the injected clock.
//!
//! Cannot express: several callers' commands in one round trip, and so a caller that another one leaves behind (`combiner.rs`); the
//! pool's bound; name look-ups, passwords, TLS; half a reply.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue as _, RedisError, Value};

use super::super::errors::{Failure, timed_out};
use super::super::reply::is_done;
use super::attempt::{Attempt, wait_command};
use super::server_clock::ServerClock;
use crate::clock::Clock;

/// A command's way to the server and back. Safe from any thread.
pub(crate) trait Link: Send + Sync + Debug {
    /// Brings the command there and the reply back; a server's refusal is a reply. The command's arguments begin with its name.
    ///
    /// A link that lets the caller wait until the deadline moves the clock there.
    fn send(&self, command: &[Vec<u8>], deadline: Instant) -> Result<Value, Undelivered>;
}

/// Why no reply came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// The server takes no connections: the command certainly never arrived. Who has an open connection does not know that.
    Refused,
    /// The connection broke behind the command: nobody knows whether the command was executed.
    Lost,
    /// Nothing came until the deadline: nobody knows whether the command was executed, or will be.
    TimedOut,
}

/// The connection.
#[derive(Debug)]
pub(in crate::store::redis) struct Simulated {
    link: Arc<dyn Link>,
    time: Arc<dyn Clock>,
    clock: ServerClock,
    /// Longest time of a log-in.
    patience: Duration,
    is_open: AtomicBool,
    is_closed: AtomicBool,
}

impl Simulated {
    /// No connection is made yet.
    pub(super) fn new(link: Arc<dyn Link>, time: Arc<dyn Clock>, patience: Duration) -> Simulated {
        let clock = ServerClock::new(time.now());
        Simulated { link, time, clock, patience, is_open: AtomicBool::new(false), is_closed: AtomicBool::new(false) }
    }

    pub(super) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    pub(super) fn query(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        self.connect(deadline)?;
        self.send(command, deadline)
    }

    /// All are on their way at once: the reply of the first that is lost is the last one that anybody reads, but those behind it may
    /// be executed all the same.
    pub(super) fn query_all(&self, commands: &[Cmd], deadline: Instant) -> Vec<Attempt<Value>> {
        let mut replies = Vec::with_capacity(commands.len());
        if let Err(failure) = self.connect(deadline) {
            replies.resize(commands.len(), Err(failure));
        }
        let mut lost = None;
        for command in &commands[replies.len()..] {
            let reply = match self.link.send(&arguments(command), deadline) {
                _ if let Some(failure) = &lost => Err(Failure::clone(failure)),
                Ok(value) => value.extract_error().map_err(Failure::after_sending),
                Err(why) => Err(lost.insert(self.broken(why)).clone()),
            };
            replies.push(reply);
        }
        replies
    }

    pub(super) fn query_then_wait(&self, command: &Cmd, replicas: u32, deadline: Instant) -> Attempt<(Value, Attempt<u32>)> {
        let reply = self.query(command, deadline)?;
        if !is_done(&reply) {
            return Ok((reply, Ok(0)));
        }
        let wait = wait_command(replicas, deadline.saturating_duration_since(self.time.now()));
        let confirmed = self
            .send(&wait, deadline)
            .and_then(|value| u32::from_redis_value(value).map_err(|e| Failure::after_sending(e.into())));
        Ok((reply, confirmed))
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Makes a connection, if none is open, and learns what time it is there.
    fn connect(&self, deadline: Instant) -> Attempt<()> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Failure::Closed);
        }
        if self.time.now() >= deadline {
            return Err(Failure::not_in_time("no connection was free in time"));
        }
        if self.is_open.load(Ordering::SeqCst) {
            return Ok(());
        }
        let handshake = |error| Failure::Handshake { error, tls: false };
        let reply = self.link.send(&[b"TIME".to_vec()], deadline.min(self.time.now() + self.patience));
        let value = reply.map_err(|why| match why {
            Undelivered::Refused => Failure::NotSent(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
            Undelivered::Lost | Undelivered::TimedOut => handshake(error_of(why)),
        })?;
        let (seconds, micros) =
            value.extract_error().and_then(|value| Ok(<(i64, i64)>::from_redis_value(value)?)).map_err(handshake)?;
        self.clock.learn(seconds * 1_000_000 + micros, self.time.now());
        self.is_open.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn send(&self, command: &Cmd, deadline: Instant) -> Attempt<Value> {
        if self.time.now() >= deadline {
            return Err(self.broken(Undelivered::TimedOut));
        }
        let reply = self.link.send(&arguments(command), deadline).map_err(|why| self.broken(why))?;
        reply.extract_error().map_err(Failure::after_sending)
    }

    /// The open connection breaks.
    fn broken(&self, why: Undelivered) -> Failure {
        self.is_open.store(false, Ordering::SeqCst);
        Failure::ReplyLost(error_of(why))
    }
}

fn error_of(why: Undelivered) -> RedisError {
    match why {
        Undelivered::TimedOut => timed_out("the deadline passed"),
        Undelivered::Refused | Undelivered::Lost => io::Error::from(io::ErrorKind::ConnectionReset).into(),
    }
}

fn arguments(command: &Cmd) -> Vec<Vec<u8>> {
    command
        .args_iter()
        .map(|arg| match arg {
            redis::Arg::Simple(bytes) => bytes.to_vec(),
            _ => b"0".to_vec(),
        })
        .collect()
}

//! One connection to a single server, with or without TLS: each of its system calls ends at the deadline of the call that it is for.
//!
//! Invariants:
//! - A call ends at its deadline, or [`SLACK`] after it, however the server sends its reply: at once, byte by byte, or never. The
//!   log-in and the TLS handshake are part of the call that needs the connection.
//! - No reply is taken for another's: a connection that failed once, however long ago the failure was told, is not
//!   [sound](Connection::is_sound), and whoever has it drops it.
//!
//! Faults survived: a server that accepts and says nothing, one that drips, one that breaks off at any byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, ErrorKind, FromRedisValue as _, Parser, RedisError, RedisResult, ServerErrorKind, Value};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::super::errors::Failure;
use super::attempt::Attempt;

/// How much later than the deadline a system call may end. A socket's timeout is set anew only if it is longer than what is left by
/// more than this, so that a call usually costs no system call but those for its data.
const SLACK: Duration = Duration::from_millis(5);

/// A connection that is logged in.
pub(super) struct Connection {
    stream: Stream,
    parser: Parser,
    failed: bool,
}

enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

/// What is said first.
pub(super) struct LogIn<'a> {
    pub username: &'a str,
    pub password: &'a str,
    pub db: i64,
    /// How TLS is spoken, and the name that the server's certificate must have.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Connection {
    /// Connects to one of the addresses, logs in, and asks what time it is there, in microseconds.
    pub(super) fn open(addresses: &[SocketAddr], login: &LogIn<'_>, deadline: Instant) -> Attempt<(Connection, i64)> {
        let socket = Socket::connect(addresses, deadline).map_err(|e| Failure::NotSent(RedisError::from(e)))?;
        let refused = |error| Failure::Handshake { error, tls: login.tls.is_some() };
        let stream = match &login.tls {
            None => Stream::Plain(socket),
            Some((config, name)) => {
                let tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(|e| refused(RedisError::from(e)))?;
                Stream::Tls(Box::new(StreamOwned::new(tls, socket)))
            }
        };
        let mut connection = Connection { stream, parser: Parser::new(), failed: false };
        let time = connection.greet(login).map_err(refused)?;
        Ok((connection, time))
    }

    /// Everything that follows is over by then.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        match &mut self.stream {
            Stream::Plain(socket) => socket.deadline = deadline,
            Stream::Tls(stream) => stream.sock.deadline = deadline,
        }
    }

    /// Whether the next reply will be that of the next command.
    pub(super) fn is_sound(&self) -> bool {
        !self.failed
    }

    /// Sends commands that are packed one behind the other.
    pub(super) fn send(&mut self, packed: &[u8]) -> RedisResult<()> {
        let sent = match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(packed),
            Stream::Tls(stream) => stream.write_all(packed).and_then(|()| stream.flush()),
        };
        self.failed |= sent.is_err();
        Ok(sent?)
    }

    /// The next reply. A server's refusal is a value here.
    pub(super) fn receive(&mut self) -> RedisResult<Value> {
        let received = match &mut self.stream {
            Stream::Plain(socket) => self.parser.parse_value(socket),
            Stream::Tls(stream) => self.parser.parse_value(stream),
        };
        self.failed |= received.is_err();
        received
    }

    /// Sends a command and waits for its reply.
    pub(super) fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.send(&command.get_packed_command())?;
        self.receive()?.extract_error()
    }

    /// Logs in, in one round trip.
    fn greet(&mut self, login: &LogIn<'_>) -> RedisResult<i64> {
        let (mut packed, is_guarded) = (Vec::new(), !login.password.is_empty());
        if is_guarded {
            let mut auth = redis::cmd("AUTH");
            if !login.username.is_empty() {
                auth.arg(login.username);
            }
            auth.arg(login.password).write_packed_command(&mut packed);
        }
        if login.db != 0 {
            redis::cmd("SELECT").arg(login.db).write_packed_command(&mut packed);
        }
        redis::cmd("TIME").write_packed_command(&mut packed);
        self.send(&packed)?;
        if is_guarded {
            self.receive()?.extract_error().map_err(refused_password)?;
        }
        if login.db != 0 {
            self.receive()?.extract_error()?;
        }
        let (seconds, micros) = <(i64, i64)>::from_redis_value(self.receive()?.extract_error()?)?;
        Ok(seconds * 1_000_000 + micros)
    }
}

/// What Redis calls just an error is, as the answer to a password, a refusal of it.
fn refused_password(error: RedisError) -> RedisError {
    let detail = error.detail().unwrap_or_default();
    if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) && !detail.contains("max number of clients") {
        return RedisError::from((ErrorKind::AuthenticationFailed, "the log-in failed", detail.to_owned()));
    }
    error
}

/// A socket whose reads and writes end at a deadline.
struct Socket {
    stream: TcpStream,
    deadline: Instant,
    /// What the system was told last, for reading and for writing.
    timeouts: [Duration; 2],
}

const READ: usize = 0;
const WRITE: usize = 1;

impl Socket {
    /// Connects to one of the addresses. Each has its share of the time that is left.
    fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<Socket> {
        let mut failed = late();
        for (nth, address) in addresses.iter().enumerate() {
            let share = left(deadline)? / u32::try_from(addresses.len() - nth).unwrap_or(u32::MAX);
            match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Socket { stream, deadline, timeouts: [Duration::MAX; 2] });
                }
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }

    /// Makes a system call that ends at the deadline.
    fn until_deadline(&mut self, way: usize, mut call: impl FnMut(&TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let left = left(self.deadline)?;
            if self.timeouts[way] > left + SLACK {
                if way == READ { self.stream.set_read_timeout(Some(left)) } else { self.stream.set_write_timeout(Some(left)) }?;
                self.timeouts[way] = left;
            }
            match call(&self.stream) {
                // It was the timeout of an earlier call, or a signal.
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) =>
                {
                    self.timeouts[way] = Duration::MAX;
                }
                done => return done,
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_deadline(READ, |mut stream| stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_deadline(WRITE, |mut stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(late()) } else { Ok(left) }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the deadline passed")
}

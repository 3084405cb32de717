//! One connection to a single server, with or without TLS: each of its system calls ends at the deadline of the call that it is for.
//!
//! Invariants:
//! - A call ends at its deadline, or [`SLACK`] after it, however the server sends its reply: at once, byte by byte, or never. The
//!   log-in and the TLS handshake are part of the call that needs the connection.
//! - No reply is taken for another's: a connection that failed once, however long ago the failure was told, is not
//!   [sound](Connection::is_sound), and whoever has it drops it.
//! - A reply that is longer than [`MOST_REPLY`] is not read to its end, nor held: it [was too long](Connection::was_too_long).
//!
//! Faults survived: a server that accepts and says nothing, one that drips, one that breaks off at any byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, ErrorKind, FromRedisValue as _, Parser, RedisError, RedisResult, ServerErrorKind, Value};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::super::errors::{Failure, MOST_REPLY};
use super::attempt::Attempt;
use super::credentials::Credentials;
use super::expiry::{Ends, ends};
use super::target::{Target, Way};
use crate::error::{Code, Error, Result};

/// How much later than the deadline a system call may end. A socket's timeout is set anew only if it is longer than what is left by
/// more than this, so that a call usually costs no system call but those for its data.
const SLACK: Duration = Duration::from_millis(5);
/// Between two tries of a socket whose server accepts nobody just now.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// A connection that is logged in.
pub(super) struct Connection {
    stream: Stream,
    parser: Parser,
    failed: bool,
    was_too_long: bool,
    /// Whom it leads to.
    pub address: String,
}

enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

/// How TLS is spoken, and the name that the server's certificate must have.
pub(super) struct TlsName(Arc<ClientConfig>, ServerName<'static>);

impl TlsName {
    /// For a server that is called `host`, unless a setting says how it is called; `None` without TLS.
    pub(super) fn of(credentials: &Credentials, set: &str, host: &str) -> Result<Option<TlsName>> {
        let Some(tls) = &credentials.tls else { return Ok(None) };
        let host = if set.is_empty() { host } else { set };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| Error::new(Code::InvalidConfig, format!("{host:?} is no name that a certificate can have: {e}")))?;
        Ok(Some(TlsName(Arc::clone(&tls.config), name)))
    }
}

/// What is said first.
pub(super) struct LogIn<'a> {
    pub username: &'a str,
    pub password: &'a str,
    pub db: i64,
    /// Whether the server is to tell its part.
    pub asks_role: bool,
}

/// What it answers.
pub(super) struct Greeting {
    /// What time it is there, in microseconds.
    pub micros: i64,
    /// Whether it is a master; also if it was not asked.
    pub is_master: bool,
}

impl Connection {
    /// Connects, and neither logs in nor speaks TLS yet.
    pub(super) fn connect(target: Target, tls: Option<TlsName>, deadline: Instant) -> Attempt<Connection> {
        let socket = match &target.way {
            Way::Addresses(addresses) => Socket::connect(addresses, deadline),
            Way::Socket(path) => Socket::connect_unix(path, deadline),
        };
        let socket = socket.map_err(|e| Failure::NotSent(RedisError::from(e)))?;
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(TlsName(config, name)) => {
                let failed = |e| Failure::Handshake { error: RedisError::from(e), tls: true };
                Stream::Tls(Box::new(StreamOwned::new(ClientConnection::new(config, name).map_err(failed)?, socket)))
            }
        };
        Ok(Connection { stream, parser: Parser::new(), failed: false, was_too_long: false, address: target.address })
    }

    /// Logs in, and asks what time it is there and, if it is to, its part: in one round trip.
    pub(super) fn log_in(&mut self, login: &LogIn<'_>) -> Attempt<Greeting> {
        self.greet(login).map_err(|error| self.broken_off(error))
    }

    /// Logs in, and no more.
    pub(super) fn authenticate(&mut self, username: &str, password: &str) -> Attempt<()> {
        let Some(auth) = auth(username, password) else { return Ok(()) };
        self.query(&auth).map(drop).map_err(|error| self.broken_off(refused_password(error)))
    }

    fn broken_off(&self, error: RedisError) -> Failure {
        Failure::Handshake { error, tls: matches!(self.stream, Stream::Tls(_)) }
    }

    /// When the first certificate of the server ends, which it showed; `None` without TLS.
    pub(super) fn certificate_ends(&self) -> Option<Ends> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => ends(stream.conn.peer_certificates()?),
        }
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

    /// Whether the reply that failed was longer than anybody reads.
    pub(super) fn was_too_long(&self) -> bool {
        self.was_too_long
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
        let stream: &mut dyn Read = match &mut self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream,
        };
        let mut bounded = Bounded { stream, left: MOST_REPLY };
        let received = self.parser.parse_value(&mut bounded);
        self.was_too_long = bounded.left == 0 && received.is_err();
        self.failed |= received.is_err();
        received
    }

    /// Sends a command and waits for its reply.
    pub(super) fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.send(&command.get_packed_command())?;
        self.receive()?.extract_error()
    }

    fn greet(&mut self, login: &LogIn<'_>) -> RedisResult<Greeting> {
        let (mut packed, auth) = (Vec::new(), auth(login.username, login.password));
        if let Some(auth) = &auth {
            auth.write_packed_command(&mut packed);
        }
        if login.db != 0 {
            redis::cmd("SELECT").arg(login.db).write_packed_command(&mut packed);
        }
        redis::cmd("TIME").write_packed_command(&mut packed);
        if login.asks_role {
            redis::cmd("INFO").arg("replication").write_packed_command(&mut packed);
        }
        self.send(&packed)?;
        if auth.is_some() {
            self.receive()?.extract_error().map_err(refused_password)?;
        }
        if login.db != 0 {
            self.receive()?.extract_error()?;
        }
        let (seconds, micros) = <(i64, i64)>::from_redis_value(self.receive()?.extract_error()?)?;
        let is_master = !login.asks_role
            || String::from_redis_value(self.receive()?.extract_error()?)?.lines().any(|line| line.trim() == "role:master");
        Ok(Greeting { micros: seconds * 1_000_000 + micros, is_master })
    }
}

/// What comes of one reply, and no more of it than is read of any. What the parser has read ahead is not counted again.
struct Bounded<'a> {
    stream: &'a mut dyn Read,
    left: usize,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("the reply is too long"));
        }
        let most = buffer.len().min(self.left);
        let read = self.stream.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

fn auth(username: &str, password: &str) -> Option<Cmd> {
    if password.is_empty() {
        return None;
    }
    let mut auth = redis::cmd("AUTH");
    if !username.is_empty() {
        auth.arg(username);
    }
    auth.arg(password);
    Some(auth)
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
    stream: Raw,
    deadline: Instant,
    /// What the system was told last, for reading and for writing.
    timeouts: [Duration; 2],
}

enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

const READ: usize = 0;
const WRITE: usize = 1;

impl Socket {
    fn new(stream: Raw, deadline: Instant) -> Socket {
        Socket { stream, deadline, timeouts: [Duration::MAX; 2] }
    }

    /// Connects to one of the addresses. Each has its share of the time that is left.
    fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<Socket> {
        let mut failed = late();
        for (nth, address) in addresses.iter().enumerate() {
            let share = left(deadline)? / u32::try_from(addresses.len() - nth).unwrap_or(u32::MAX);
            match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Socket::new(Raw::Tcp(stream), deadline));
                }
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }

    /// The same by a socket of this machine. The standard library's has no end where the server accepts nobody.
    fn connect_unix(path: &Path, deadline: Instant) -> io::Result<Socket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let address = SocketAddrUnix::new(path)?;
        while let Err(e) = rustix::net::connect(&socket, &address) {
            if e != rustix::io::Errno::AGAIN && e != rustix::io::Errno::INTR {
                return Err(e.into());
            }
            std::thread::sleep(ACCEPT_PAUSE.min(left(deadline)?));
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(Socket::new(Raw::Unix(stream), deadline))
    }

    /// Makes a system call that ends at the deadline.
    fn until_deadline(&mut self, way: usize, mut call: impl FnMut(&mut Raw) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let left = left(self.deadline)?;
            if self.timeouts[way] > left + SLACK {
                self.stream.set_timeout(way, left)?;
                self.timeouts[way] = left;
            }
            match call(&mut self.stream) {
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

impl Raw {
    fn set_timeout(&self, way: usize, left: Duration) -> io::Result<()> {
        match (self, way) {
            (Raw::Tcp(stream), READ) => stream.set_read_timeout(Some(left)),
            (Raw::Tcp(stream), _) => stream.set_write_timeout(Some(left)),
            (Raw::Unix(stream), READ) => stream.set_read_timeout(Some(left)),
            (Raw::Unix(stream), _) => stream.set_write_timeout(Some(left)),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_deadline(READ, |raw| match raw {
            Raw::Tcp(stream) => stream.read(buffer),
            Raw::Unix(stream) => stream.read(buffer),
        })
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_deadline(WRITE, |raw| match raw {
            Raw::Tcp(stream) => stream.write(bytes),
            Raw::Unix(stream) => stream.write(bytes),
        })
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

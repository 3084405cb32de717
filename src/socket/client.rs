//! A program's end: finds the server of a data folder, and asks it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::value::RawValue;

use super::protocol::{Answer, CONTROL_FILE, FILE, Greeting, LONGEST_PATH, PROTOCOL, Request, SocketOperation, as_line};
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Code, Error, Result};

/// How long the server may take to be there.
const GREETING: Duration = Duration::from_secs(5);
/// How long a server may be busy with others.
const BUSY: Duration = Duration::from_secs(10);
/// How long an operation may take: more than the longest that the server has.
const ANSWER: Duration = Duration::from_secs(180);

/// A connection to the server that has a data folder open.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    server: Greeting,
    lines: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the server of this folder; `None` if none listens there. Waits a few seconds if others keep the server busy.
    ///
    /// Errors: `Permission` if this user may not ask it; `Timeout` if it does not answer; `Unsupported` if it speaks another protocol.
    pub fn connect(folder: &Path) -> Result<Option<Client>> {
        Client::connect_to(folder.join(FILE))
    }

    /// Connects to the socket by which the linked Atlantis of this folder takes changes of its mode; `None` if none listens there.
    ///
    /// Errors: those of [`Client::connect`].
    pub fn connect_to_control(folder: &Path) -> Result<Option<Client>> {
        Client::connect_to(folder.join(CONTROL_FILE))
    }

    fn connect_to(path: PathBuf) -> Result<Option<Client>> {
        let give_up = Instant::now() + BUSY;
        loop {
            match Client::connect_once(&path) {
                Err(e) if e.code() == Code::StoreBusy && Instant::now() < give_up => {
                    SystemClock.sleep(Duration::from_secs_f64(0.02 + 0.2 * SystemClock.jitter()));
                }
                result => return result,
            }
        }
    }

    fn connect_once(path: &Path) -> Result<Option<Client>> {
        let stream = match connect(path) {
            Ok(Some(stream)) => stream,
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(forbidden(path)),
            Err(e) => return Err(silent(path, &e)),
        };
        let mut lines = BufReader::new(stream);
        let first = read_line(&mut lines).and_then(|line| if line.is_empty() { Err(gone()) } else { Ok(line) });
        let first = first.map_err(|e| silent(path, &e))?;
        if let Ok(Answer::Error(refusal)) = serde_json::from_slice(&first) {
            return Err(refusal.error());
        }
        let server: Greeting = serde_json::from_slice(&first).map_err(|e| misunderstood(path, &e))?;
        if server.protocol != PROTOCOL {
            let text = format!(
                "the server (atlock {}) speaks version {} of the socket's protocol, and this command (atlock {}) version {PROTOCOL}: \
                 use the atlock that was installed with the server",
                server.version,
                server.protocol,
                env!("CARGO_PKG_VERSION")
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        Ok(Some(Client { path: path.to_owned(), server, lines }))
    }

    /// The version of the server's library.
    pub fn server_version(&self) -> &str {
        &self.server.version
    }

    /// Asks for an operation; `input` and the answer are JSON.
    ///
    /// Errors: the server's, with its code and text; `OutcomeUnknown` if the connection broke after a change was asked for.
    pub fn ask(&mut self, operation: &SocketOperation, input: &[u8]) -> Result<Vec<u8>> {
        self.ask_for(operation.name, operation.changes, input)
    }

    /// The same for an operation by its name; `changes` says whether it may change something.
    ///
    /// Errors: those of [`Client::ask`].
    pub fn ask_for(&mut self, operation: &str, changes: bool, input: &[u8]) -> Result<Vec<u8>> {
        let input: &RawValue = crate::domain::json::parse_json(input)?;
        let request = Request { op: operation.into(), input: Some(input) };
        let request = serde_json::to_vec(&request).map_err(|e| misunderstood(&self.path, &e))?;
        let answer = self.exchange(&as_line(request)).map_err(|e| self.broken(operation, changes, &e))?;
        match serde_json::from_slice(&answer).map_err(|e| misunderstood(&self.path, &e))? {
            Answer::Ok(json) => Ok(json.get().as_bytes().to_vec()),
            Answer::Error(refusal) => Err(refusal.error()),
        }
    }

    fn exchange(&mut self, line: &[u8]) -> io::Result<Vec<u8>> {
        let stream = self.lines.get_mut();
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(line)?;
        match read_line(&mut self.lines)? {
            line if line.ends_with(b"\n") => Ok(line),
            _ => Err(gone()),
        }
    }

    fn broken(&self, operation: &str, changes: bool, error: &io::Error) -> Error {
        let (code, outcome) = match changes {
            true => (Code::OutcomeUnknown, "the change may or may not have happened: look before you try again"),
            false => (Code::Unreachable, "try again"),
        };
        let text = format!("the server at {} did not answer {} ({error}): {outcome}", self.path.display(), operation);
        Error::new(code, text)
    }
}

/// Connects; `None` if nobody listens at the path.
fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    use std::os::unix::ffi::OsStrExt as _;
    if path.as_os_str().as_bytes().len() > LONGEST_PATH {
        // No server can listen there, either.
        return Ok(None);
    }
    let socket: OwnedFd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Where a server does not accept, connecting waits, too.
    set_socket_timeout(&socket, Timeout::Send, Some(GREETING))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(GREETING))?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?).map_err(io::Error::from) {
        Ok(()) => Ok(Some(UnixStream::from(socket))),
        Err(e)
            if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ConnectionRefused) =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn read_line(lines: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line).map(|_| line)
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")
}

fn forbidden(path: &Path) -> Error {
    let text = format!(
        "this user may not ask the server by its socket {}: run the command as the user that the server runs as (sudo -u …)",
        path.display()
    );
    Error::new(Code::Permission, text)
}

fn silent(path: &Path, error: &io::Error) -> Error {
    let text = format!(
        "a server listens at {} and does not answer ({error}): if its process hangs or was stopped, let it go on or end it, then try again",
        path.display()
    );
    Error::new(Code::Timeout, text)
}

fn misunderstood(path: &Path, error: &serde_json::Error) -> Error {
    let text = format!(
        "what listens at {} does not speak as an atlock server does ({error}): use the atlock that was installed with the server",
        path.display()
    );
    Error::new(Code::Protocol, text)
}

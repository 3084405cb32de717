//! The server's end: one thread that accepts, and one for each connection.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::peer::peer;
use super::protocol::{
    FILE, Greeting, LONGEST_PATH, LONGEST_REQUEST, MOST_CONNECTIONS, PROTOCOL, Request, SocketOperation, line,
};
use crate::audit::Actor;
use crate::config::{self, Config};
use crate::domain::json::parse_json;
use crate::error::{Code, Error, Result};
use crate::service::{Beside, Service};

/// How long a client may take for its next request.
const REQUEST: Duration = Duration::from_secs(5);
/// How long it may take to read an answer, beside a second for each MiB.
const ANSWER: Duration = Duration::from_secs(10);
/// How long those who are being answered have when the server closes.
const FAREWELL: Duration = Duration::from_secs(1);
/// The pause after a connection that could not be accepted: no descriptor was free.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// The same service, listening in `locking.data_dir` until it is closed: other programs of this machine can ask it.
///
/// It never fails: where there can be no socket, [`Service::status`] warns of that. The folder is created for this user alone if it is
/// missing. There is none without a `data_dir`, with `locking.socket: off`, and in strict mode on Atlantis's own store, which is not asked
/// by the library.
#[must_use]
pub fn listening(service: Service, config: &Config) -> Service {
    let access = config.locking.socket;
    match config.locking.data_dir.as_deref().filter(|_| !config.is_on_stocks_store() && access != config::Socket::Off) {
        Some(folder) => service.beside(|service| Box::new(Socket { listening: Listening::start(folder, service, access) })),
        None => service,
    }
}

/// The socket of a service, or why there is none.
#[derive(Debug)]
struct Socket {
    listening: std::result::Result<Listening, String>,
}

impl Beside for Socket {
    /// Why programs cannot ask this server, and what to do.
    fn warning(&self) -> Option<String> {
        match &self.listening {
            Ok(listening) => listening.missing_socket(),
            Err(reason) => Some(reason.clone()),
        }
    }

    /// Removes the socket and lets another server listen. Who is being answered still is.
    fn stop(&self) {
        self.listening.iter().for_each(Listening::stop);
    }

    fn finish(&self) {
        self.listening.iter().for_each(Listening::finish);
    }
}

#[derive(Debug)]
struct Listening {
    path: PathBuf,
    /// Which file the socket is: its device and inode.
    identity: (u64, u64),
    /// Locked while this process listens here.
    folder: File,
    desk: Arc<Desk>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What the threads share.
#[derive(Debug)]
struct Desk {
    listener: UnixListener,
    service: Service,
    access: config::Socket,
    connections: Mutex<Vec<Connection>>,
    is_closing: AtomicBool,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    thread: JoinHandle<()>,
}

impl Listening {
    fn start(folder: &Path, service: Service, access: config::Socket) -> std::result::Result<Listening, String> {
        let none = |why: String| format!("no program can ask this server what it holds: {why}");
        let folder = std::path::absolute(folder).map_err(|e| none(format!("{}: {e}", folder.display())))?;
        let path = folder.join(FILE);
        let shown = path.display().to_string();
        let length = path.as_os_str().as_bytes().len();
        if length > LONGEST_PATH {
            return Err(none(format!(
                "the path of its socket, {shown}, has {length} bytes, and a unix socket's has at most {LONGEST_PATH}: give \
                 locking.data_dir a shorter path"
            )));
        }
        let failed = |e: io::Error| {
            none(format!(
                "the socket {shown} cannot be made: {e}. Use a data_dir of this user on a file system that takes sockets"
            ))
        };
        let folder = lock(&folder)
            .map_err(failed)?
            .ok_or_else(|| none(format!("another server listens at {shown}: give each server a locking.data_dir of its own")))?;
        let found = fs::symlink_metadata(&path);
        if found.is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(none(format!("{shown} is no socket: move that file away and restart")));
        }
        let listener = bind(&path).map_err(failed)?;
        let desk = Desk { listener, service, access, connections: Mutex::default(), is_closing: AtomicBool::new(false) };
        let desk = Arc::new(desk);
        let begin = || {
            let found = fs::symlink_metadata(&path)?;
            let accepts = Arc::clone(&desk);
            let accepting = spawn("atlock-socket", move || accepts.accept())?;
            Ok(((found.dev(), found.ino()), Mutex::new(Some(accepting))))
        };
        let (identity, accepting) = begin().map_err(|e| {
            // Nobody will answer there.
            let _ = fs::remove_file(&path);
            failed(e)
        })?;
        Ok(Listening { path, identity, folder, desk, accepting })
    }

    /// A text for an operator if the socket is not at its path any more.
    fn missing_socket(&self) -> Option<String> {
        (!self.is_there()).then(|| {
            format!(
                "no program can ask this server what it holds: its socket {} was removed or replaced; a restart makes it again",
                self.path.display()
            )
        })
    }

    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    fn stop(&self) {
        if self.desk.is_closing.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.is_there() {
            // It stays behind if it cannot be removed; the next server replaces it.
            let _ = fs::remove_file(&self.path);
        }
        // Closing the folder is not enough: a child process that is just being started has it open until its exec.
        let _ = self.folder.unlock();
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(&self.desk.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.accepting.lock().take() {
            let _ = thread.join();
        }
        // Nobody is accepted any more.
        self.desk.connections.lock().iter().for_each(|connection| drop(connection.stream.shutdown(Shutdown::Read)));
    }

    fn finish(&self) {
        let connections = std::mem::take(&mut *self.desk.connections.lock());
        let until = Instant::now() + FAREWELL;
        while connections.iter().any(|connection| !connection.thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        for Connection { stream, thread } in connections {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }
}

/// The threads hold the desk, so they end before it goes, also where nobody closed the service.
impl Drop for Listening {
    fn drop(&mut self) {
        self.stop();
        self.finish();
    }
}

/// Opens the folder and locks it; `None` if another process has.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let folder = File::open(folder)?;
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// A socket at this path, in the place of what a killed server left there.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let socket: OwnedFd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let listen = || {
        // Before anybody can connect, whatever the umask is.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(rustix::net::listen(&socket, BACKLOG)?)
    };
    match listen() {
        Ok(()) => Ok(UnixListener::from(socket)),
        Err(e) => {
            let _ = fs::remove_file(path);
            Err(e)
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

impl Desk {
    fn accept(self: &Arc<Desk>) {
        loop {
            let accepted = self.listener.accept();
            if self.is_closing.load(Ordering::SeqCst) {
                return;
            }
            match accepted {
                Ok((stream, _)) => self.admit(stream),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Gives a connection its thread, or sends it away. A connection for which there is no descriptor or thread is dropped.
    fn admit(self: &Arc<Desk>, stream: UnixStream) {
        let mut connections = self.connections.lock();
        connections.retain(|connection| !connection.thread.is_finished());
        if connections.len() >= MOST_CONNECTIONS {
            let text = format!("the server answers {MOST_CONNECTIONS} programs at once, and so many ask it now: try again");
            let busy = line(Err(Error::new(Code::StoreBusy, text)));
            // A line fits into the socket's buffer, or it is not sent: nobody waits for it.
            let _ = rustix::net::send(&stream, &busy, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            return;
        }
        let Ok(other_end) = stream.try_clone() else { return };
        let desk = Arc::clone(self);
        if let Ok(thread) = spawn("atlock-asked", move || desk.serve(&other_end)) {
            connections.push(Connection { stream, thread });
        }
    }

    /// Answers until the client goes, is silent, or sends what is no request.
    fn serve(&self, stream: &UnixStream) {
        let greeting = Greeting { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() };
        let Ok(mut greeting) = serde_json::to_vec(&greeting) else { return };
        greeting.push(b'\n');
        let Ok((pid, uid)) = peer(stream) else { return };
        let service = self.service.acting_as(Actor::command_line(pid, uid));
        let mut lines = Lines { stream, rest: Vec::new() };
        let mut sent = send(stream, &greeting);
        while sent.is_ok() {
            let (answer, goes_on) = match lines.next(Instant::now() + REQUEST) {
                Ok(None) | Err(Unread::Broken) => break,
                Ok(Some(request)) => self.answer(&service, &request),
                Err(Unread::TooLong) => {
                    let text = format!("a request has at most {LONGEST_REQUEST} bytes, its line break included");
                    (Err(Error::new(Code::TooLarge, text)), false)
                }
            };
            sent = send(stream, &line(answer));
            if !goes_on {
                break;
            }
        }
        // `connections` holds the same socket until the next connection comes.
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// The answer to a line, and whether it was a request.
    fn answer(&self, service: &Service, request: &[u8]) -> (Result<Vec<u8>>, bool) {
        let request: Request<'_> = match parse_json(request) {
            Ok(request) => request,
            Err(e) => return (Err(e.context(r#"a request is a line like {"op":"list"}"#)), false),
        };
        let input = request.input.map_or("null", |input| input.get()).as_bytes();
        let run = || self.admitted(service, SocketOperation::named(&request.op)?)?.run(service, input);
        let answer = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            Err(Error::new(
                Code::Internal,
                "a bug in atlock: it panicked; please report it. The locks are as they were acknowledged",
            ))
        });
        (answer, true)
    }

    /// The operation, if the settings let programs ask for it.
    fn admitted(&self, service: &Service, operation: &'static SocketOperation) -> Result<&'static SocketOperation> {
        if operation.changes && self.access != config::Socket::All {
            let text = format!(
                "{} is not done by this server's socket: locking.socket is read. Release locks on Atlantis's page or by a comment; or \
                 set locking.socket to all and restart the server",
                operation.name
            );
            let error = Error::new(Code::Permission, text);
            service.denied(operation.name, &error);
            return Err(error);
        }
        Ok(operation)
    }
}

/// Sends all of it by a deadline that grows with it. Without a signal where the client has gone: the program may die of that.
fn send(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + ANSWER + Duration::from_secs(bytes.len() as u64 >> 20);
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match rustix::net::send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The time until a deadline: never zero, which a socket takes for no deadline at all.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
}

/// Reads lines.
struct Lines<'a> {
    stream: &'a UnixStream,
    /// What came behind the last line.
    rest: Vec<u8>,
}

/// Why there is no line.
enum Unread {
    TooLong,
    /// The connection failed, or was silent.
    Broken,
}

impl Lines<'_> {
    /// The next line, without its end; `None` if the client has gone.
    fn next(&mut self, deadline: Instant) -> std::result::Result<Option<Vec<u8>>, Unread> {
        let mut looked_at = 0;
        loop {
            if let Some(end) = self.rest[looked_at..].iter().position(|byte| *byte == b'\n') {
                let behind = self.rest.split_off(looked_at + end + 1);
                let mut line = std::mem::replace(&mut self.rest, behind);
                line.pop();
                return Ok(Some(line));
            }
            looked_at = self.rest.len();
            if looked_at >= LONGEST_REQUEST {
                return Err(Unread::TooLong);
            }
            let mut part = [0; 16 << 10];
            let most = part.len().min(LONGEST_REQUEST - looked_at);
            let left = left(deadline).map_err(|_| Unread::Broken)?;
            self.stream.set_read_timeout(Some(left)).map_err(|_| Unread::Broken)?;
            match (&mut &*self.stream).read(&mut part[..most]) {
                Ok(0) => return Ok(None),
                Ok(read) => self.rest.extend_from_slice(&part[..read]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Unread::Broken),
            }
        }
    }
}

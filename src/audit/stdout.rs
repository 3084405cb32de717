//! The audit trail on the process's stdout, for journald and containers.
//!
//! A reader that does not read holds up no lock: what cannot be taken at once is lost, and counted. The chain begins anew with each process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use rustix::net::{SendFlags, send};

use super::chain::{Hash, line};
use super::event::Event;

#[derive(Debug)]
pub(super) struct Stdout {
    to: To,
    last: Hash,
    /// Whether the last line was cut short.
    torn: bool,
}

#[derive(Debug)]
enum To {
    /// As journald gives it.
    Socket(OwnedFd),
    Other(File),
}

impl Stdout {
    pub(super) fn open() -> io::Result<Stdout> {
        let shared = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let kind = shared.metadata()?.file_type();
        let to = if kind.is_socket() {
            To::Socket(shared.into())
        } else if kind.is_fifo() {
            // Opened anew, since not blocking is of all who share the one that the process was started with.
            let own = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open("/proc/self/fd/1");
            To::Other(own.unwrap_or(shared))
        } else {
            To::Other(shared)
        };
        Ok(Stdout { to, last: Hash::NONE, torn: false })
    }

    pub(super) fn append(&mut self, time: &str, event: &Event<'_>) -> io::Result<()> {
        let text = line(time, event, self.last);
        let bytes = [if self.torn { b"\n" } else { &b""[..] }, &text, b"\n"].concat();
        let written = match &mut self.to {
            To::Socket(socket) => send(&*socket, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?,
            To::Other(file) => file.write(&bytes)?,
        };
        self.torn = written < bytes.len() && (self.torn || written > 0);
        if written < bytes.len() {
            return Err(io::Error::other(format!("only {written} of {} bytes were taken", bytes.len())));
        }
        self.last = Hash::of(&text);
        Ok(())
    }
}

//! A socket in the data folder, by which programs of this machine ask the server that has the folder open: the command line, and
//! monitors, without opening the stores a second time.
//!
//! Invariants:
//! - The socket never makes the server wait. At most 16 connections are answered at once, each by a thread of its own; the others
//!   are told to come again. A line has a limit in bytes, and reading one, writing one and saying nothing each have a deadline. A
//!   client that hangs, or sends what is no request, costs its own connection and nothing else.
//! - No opening of a store fails because of the socket. Where there can be none, the status warns of that and says what to do.
//! - One process listens in a folder: the one that holds the lock (flock) of the folder itself. Only under that lock is a socket that
//!   a killed server left replaced, and what is no socket is never removed. (The lock *file* in the folder is the embedded
//!   store's, which native mode does not keep open.)
//! - Whoever may connect may do all that `locking.socket` says: the socket is its owner's alone (mode 0600) before the first connection,
//!   in a folder with rights of its own. What runs as the server's user, as a pull's Terraform code may, is not told from the operator.
//! - An operation by the socket is the same call as any other: counted, with its deadline, and recorded in the audit trail, with the
//!   process and the user that asked, as the system tells them.
//! - Closing removes the socket first, before anybody else can have the folder. Who is in an operation still hears how it ended; idle
//!   connections end at once. Then all threads are joined.
//!
//! Faults survived: kill -9 of the server at any point (the next one replaces the socket), of a client; a client that is stopped in
//! the middle of a line; the socket removed by somebody else (a warning; a restart makes it again); no free descriptors or
//! threads (that connection is dropped, and the next is tried). What is not bounded is an answer: a list is as long as there are locks,
//! once for each of the connections.
//!
//! | file | what it does |
//! |---|---|
//! | `protocol` | the lines, and the one table of operations |
//! | `peer` | who is at the other end |
//! | `server` | listens, answers, ends |
//! | `client` | asks |

mod client;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod peer;
mod protocol;
mod server;

pub use client::Client;
pub use protocol::{CONTROL_FILE, FILE, OPERATIONS, SocketOperation};
pub use server::listening;

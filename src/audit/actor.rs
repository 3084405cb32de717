//! Who makes a change, and by which way: known to whoever asks for it, and never guessed.

use std::fs;

use serde::{Deserialize, Serialize};

/// A name or address longer than this is cut: what a stranger typed has no place of its own size in the trail.
const LONGEST_NAME: usize = 256;

/// By which way a change came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// A page: Atlantis's own, or `/locking`.
    Page,
    /// An endpoint, with Atlantis's API secret.
    Api,
    /// The command `atlock`.
    CommandLine,
    /// A comment on the pull request, other than a plan or an apply.
    Comment,
    /// The close or the merge of the pull request.
    PullClosed,
    /// A plan, asked for by a comment or begun by a push.
    Plan,
    /// An apply.
    Apply,
    /// The queue: what it takes back, and who yields.
    Queue,
    /// The look for locks of pull requests that are closed.
    StaleLocks,
    /// Hybrid mode, which brings its two stores together.
    Recovery,
    /// Strict mode, or a stock server, which were not asked; found afterwards.
    Stock,
    /// A move to another store.
    Migration,
    /// A signal to the server's process.
    Signal,
}

/// Who: as much as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Person {
    /// Name: of the page's user, of the comment's author, or of this machine's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Number of this machine's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its process; 0 if that is not to be seen from here, as from another container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Where the request came from: an address and a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Who makes a change, and by which way. What is absent is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Actor {
    /// By which way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Person>,
}

/// Who asked for a change of a server's stores, as programs say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A program of this machine, by the server's socket.
    Socket {
        /// Its process when it connected; 0 if it is not to be seen from here.
        pid: i32,
        /// The user that it ran as.
        uid: u32,
    },
    /// A signal to the server's process.
    Signal,
}

impl Actor {
    /// This way, and nobody who is known.
    pub fn via(via: Via) -> Actor {
        Actor { via: Some(via), by: None }
    }

    /// The command line, run by this user of the machine.
    pub fn command_line(pid: i32, uid: u32) -> Actor {
        let by = Person { user: name_of(uid), uid: Some(uid), pid: Some(pid), address: None };
        Actor { via: Some(Via::CommandLine), by: Some(by) }
    }

    /// The command line that this process is.
    pub fn this_process() -> Actor {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Actor::command_line(pid, rustix::process::getuid().as_raw())
    }

    /// The same, with names of a bearable length, and the name of a user of this machine.
    pub(crate) fn cut(mut self) -> Actor {
        if let Some(by) = &mut self.by {
            by.user = by.user.take().or_else(|| by.uid.and_then(name_of));
            for name in [&mut by.user, &mut by.address].into_iter().flatten() {
                let end = (0..=LONGEST_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
                name.truncate(end.unwrap_or_default());
            }
        }
        self
    }
}

impl From<By> for Actor {
    fn from(by: By) -> Actor {
        match by {
            By::Socket { pid, uid } => Actor::command_line(pid, uid),
            By::Signal => Actor::via(Via::Signal),
        }
    }
}

/// The name of a user of this machine, as far as its own file knows: no name service is asked, which might not answer.
fn name_of(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_this_machine_has_a_name() {
        assert_eq!(name_of(0).as_deref(), Some("root"));
        assert_eq!(name_of(u32::MAX - 7), None);
    }

    #[test]
    fn what_a_stranger_typed_is_cut_between_letters() {
        let by = Person { user: Some("ä".repeat(1000)), ..Person::default() };
        let cut = Actor { by: Some(by), ..Actor::default() }.cut();
        assert_eq!(cut.by.and_then(|by| by.user), Some("ä".repeat(LONGEST_NAME / 2)));
    }
}

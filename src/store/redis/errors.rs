//! Redis's errors as ours: what happened, to which server, what to do next.

use std::{fmt, io};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::handshakes;
use crate::error::{Code, Error};

/// Most bytes of one reply: the largest value that anybody here stores, and half as much beside it.
pub(super) const MOST_REPLY: usize = crate::store::contract::local::MAX_VALUE_BYTES / 2 * 3;

/// Why an attempt brought no reply.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// It was not sent: it certainly changed nothing.
    NotSent(RedisError),
    /// It was not sent, for a connection was made, and the server or this side broke off the TLS handshake or the log-in.
    Handshake { error: RedisError, tls: bool },
    /// It was not sent, for something that a setting names cannot be used: files, a command, Sentinels.
    Settings(Error),
    /// It was not sent, for this server, which the Sentinels call the master, is a replica.
    NotMaster(String),
    /// The server refused it: it changed nothing.
    Refused(RedisError),
    /// The store was closed; it was not sent.
    Closed,
    /// It was sent, and the reply was lost: it may have changed something.
    ReplyLost(RedisError),
    /// It was sent, and the reply has more bytes than anybody reads: it may have changed something. The connection is closed.
    TooLong,
    /// The call that it went along with had less time than its own and gave up; `sent`: it may have changed something.
    LeftBehind { sent: bool },
}

impl Failure {
    /// The failure of a command that was sent.
    pub(super) fn after_sending(error: RedisError) -> Failure {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => Failure::Refused(error),
            ErrorKind::ClusterConnectionNotFound | ErrorKind::InvalidClientConfig | ErrorKind::Client => Failure::NotSent(error),
            _ => Failure::ReplyLost(error),
        }
    }

    /// A deadline passed before anything was sent.
    pub(super) fn not_in_time(text: &str) -> Failure {
        Failure::NotSent(timed_out(text))
    }

    /// Whether it was certainly not sent, for a reason that may pass.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(
            self,
            Failure::NotSent(_)
                | Failure::Handshake { .. }
                | Failure::Settings(_)
                | Failure::NotMaster(_)
                | Failure::LeftBehind { sent: false }
        )
    }

    /// Whether it was sent, and nobody knows what came of it.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Failure::ReplyLost(_) | Failure::TooLong | Failure::LeftBehind { sent: true })
    }

    /// What it is to a call that has time left when the one that it went along with had none.
    pub(super) fn left_behind(self) -> Failure {
        match self {
            Failure::NotSent(error) | Failure::Handshake { error, .. } if error.is_timeout() => {
                Failure::LeftBehind { sent: false }
            }
            Failure::ReplyLost(error) if error.is_timeout() => Failure::LeftBehind { sent: true },
            other => other,
        }
    }

    /// What kind of error Redis's client calls it.
    pub(super) fn kind(&self) -> Option<ErrorKind> {
        self.error().map(RedisError::kind)
    }

    /// Whether another attempt may go better at once: it was not the server that took too long.
    pub(super) fn may_be_repeated(&self) -> bool {
        match self {
            Failure::ReplyLost(error) => !error.is_timeout(),
            Failure::LeftBehind { .. } => true,
            _ => false,
        }
    }

    /// Whether the server will soon take what it refuses now: it is loading, or failing over.
    pub(super) fn is_passing(&self) -> bool {
        use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, TryAgain};
        matches!(self, Failure::NotMaster(_))
            || matches!(
                self.kind(),
                Some(
                    ErrorKind::Server(Ask | BusyLoading | ClusterDown | MasterDown | Moved | TryAgain)
                        | ErrorKind::ClusterConnectionNotFound
                )
            )
    }

    /// Whether it is what a master says that has been, or is about to be, replaced.
    pub(super) fn is_of_old_master(&self) -> bool {
        self.kind() == Some(ErrorKind::Server(ServerErrorKind::ReadOnly))
            || self.kind() == Some(ErrorKind::Server(ServerErrorKind::MasterDown))
            || self.error().is_some_and(|error| error.code() == Some("NOREPLICAS"))
    }

    /// Whether the server refused user or password.
    pub(super) fn is_refused_password(&self) -> bool {
        self.error().is_some_and(|error| explain_error(error, "").code() == Code::Authentication)
    }

    fn error(&self) -> Option<&RedisError> {
        match self {
            Failure::NotSent(error) | Failure::Handshake { error, .. } | Failure::Refused(error) | Failure::ReplyLost(error) => {
                Some(error)
            }
            Failure::Settings(_) | Failure::NotMaster(_) | Failure::Closed | Failure::TooLong | Failure::LeftBehind { .. } => {
                None
            }
        }
    }
}

/// Redis's own words.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.error()) {
            (_, Some(error)) => error.fmt(f),
            (Failure::Settings(error), None) => error.fmt(f),
            (Failure::NotMaster(address), None) => write!(f, "{address} is no master"),
            (Failure::TooLong, None) => write!(f, "the reply has more than {MOST_REPLY} bytes"),
            (Failure::LeftBehind { .. }, None) => f.write_str("the call that it went along with gave up"),
            (_, None) => f.write_str("the store is closed"),
        }
    }
}

/// The error of what did not end in time.
pub(super) fn timed_out(text: &str) -> RedisError {
    RedisError::from(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// What a failure means; `server` is the server's address.
pub(super) fn explain(failure: &Failure, server: &str) -> Error {
    match failure {
        Failure::Settings(error) => error.clone(),
        Failure::NotMaster(address) => Error::new(
            Code::FailingOver,
            format!(
                "Redis at {server}: the Sentinels call {address} the master, but it is a replica: a fail-over is under way; try again"
            ),
        ),
        Failure::Closed => Error::new(Code::Closed, format!("Redis at {server}: the store is closed")),
        Failure::TooLong => Error::new(
            Code::EntryUnreadable,
            format!(
                "Redis at {server}: the reply has more than {MOST_REPLY} bytes, and is not read: another program wrote more there than \
                 Atlantis does; `redis-cli --bigkeys` finds it"
            ),
        ),
        Failure::LeftBehind { .. } => Error::new(
            Code::Unreachable,
            format!("Redis at {server}: it did not answer in time: check that it runs and the address"),
        ),
        Failure::Handshake { error, tls } => {
            explain_handshake(error, server, *tls).unwrap_or_else(|| explain_error(error, server))
        }
        Failure::NotSent(error) | Failure::Refused(error) | Failure::ReplyLost(error) => explain_error(error, server),
    }
}

fn explain_error(error: &RedisError, server: &str) -> Error {
    let text = told(error);
    let new = |code, what: &str| Error::new(code, format!("Redis at {server}: {what} ({text})"));
    match error.kind() {
        ErrorKind::AuthenticationFailed => new(Code::Authentication, WRONG_PASSWORD),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let (code, what) = refusal(error.code(), &text);
            new(code, what)
        }
        ErrorKind::InvalidClientConfig => new(Code::InvalidConfig, "the settings cannot be used"),
        ErrorKind::ClusterConnectionNotFound => new(Code::Unreachable, NO_NODE),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            new(Code::Protocol, "a reply that this version does not understand")
        }
        _ if is_late(error) => new(Code::Unreachable, "it did not answer in time: check that it runs and the address"),
        _ => new(Code::Unreachable, "it cannot be reached: check that it runs and the address"),
    }
}

/// Redis's own words, without the script that they quote.
fn told(error: &RedisError) -> String {
    let text = error.to_string();
    match text.split_once(", with args beginning with") {
        Some((before, _)) => before.to_owned(),
        None => text,
    }
}

const DENIED: &str = "its ACL denies the user something that is needed: allow it, see docs/03-configuration.md";
const WRONG_PASSWORD: &str = "it refused the user name or password: check username, password and password_file";
const NO_NODE: &str =
    "no node of the cluster that can answer is connected: is it failing over, and can each node's address be reached?";

/// What a refusal that begins with this word means.
const REFUSALS: &[(&str, Code, &str)] = &[
    ("WRONGPASS", Code::Authentication, WRONG_PASSWORD),
    ("NOAUTH", Code::Authentication, WRONG_PASSWORD),
    ("NOPERM", Code::Permission, DENIED),
    ("READONLY", Code::ReadOnly, "it is a read-only replica: give the address of the master"),
    ("OOM", Code::RedisFull, "it is full and takes no writes: raise maxmemory or free some"),
    ("MISCONF", Code::CannotSave, "it cannot save to its disk and takes no writes: see its log"),
    ("NOREPLICAS", Code::TooFewReplicas, "it has too few replicas and takes no writes: see min-replicas-to-write"),
    ("LOADING", Code::Loading, "it reads its data from its disk: try again soon"),
    ("BUSY", Code::Busy, "it is busy with a script: try again"),
    ("MASTERDOWN", Code::FailingOver, "it is a replica that has lost its master: try again, or give the address of the master"),
    ("CLUSTERDOWN", Code::ClusterDown, "its cluster has no master for some slots: look at CLUSTER INFO and CLUSTER NODES"),
    ("TRYAGAIN", Code::SlotMoving, "its cluster moves the lock to another node just now: try again"),
    ("WRONGTYPE", Code::EntryUnreadable, "the key holds something else than a lock, and stays as it is"),
    ("MOVED", Code::InvalidConfig, NO_CLUSTER_MODE),
    ("ASK", Code::InvalidConfig, NO_CLUSTER_MODE),
    ("CROSSSLOT", Code::InvalidConfig, NO_CLUSTER_MODE),
];
const NO_CLUSTER_MODE: &str = "it belongs to a Redis Cluster: set cluster_mode: true and addresses";

/// The same for what has no word of its own, by what is in its text.
const UNNAMED: &[(&str, Code, &str)] = &[
    // An ACL that denies what a script does: in the words of Redis 7.0, and of later ones and Valkey.
    ("user executing the script", Code::Permission, DENIED),
    ("ACL failure in script", Code::Permission, DENIED),
    ("DB index", Code::InvalidConfig, "it has no such database: check db"),
    ("max number of clients", Code::TooManyClients, "it takes no more connections: raise maxclients, or look who holds them"),
    ("cluster support disabled", Code::InvalidConfig, "it is no Redis Cluster: set cluster_mode: false"),
    ("invalid password", Code::Authentication, WRONG_PASSWORD),
    ("without any password", Code::Authentication, WRONG_PASSWORD),
    ("nknown command", Code::NoSuchCommand, NO_COMMAND),
    ("nknown Redis command", Code::NoSuchCommand, NO_COMMAND),
    ("No such master", Code::InvalidConfig, "it knows no master of this name: check sentinel.master_name"),
];
const NO_COMMAND: &str = "it lacks a command that is needed: it is too old, or the command is renamed or disabled in its settings: docs/03-configuration.md has them";

fn refusal(code: Option<&str>, text: &str) -> (Code, &'static str) {
    let by_word = REFUSALS.iter().find(|(word, ..)| code == Some(*word));
    let found = by_word.or_else(|| UNNAMED.iter().find(|(part, ..)| text.contains(part)));
    match found {
        Some((_, Code::Permission, _)) if text.contains("'select'") => {
            (Code::Permission, "its ACL denies the user SELECT: allow +select, or set db: 0")
        }
        Some((_, code, what)) => (*code, what),
        None => (Code::Protocol, "an unexpected error"),
    }
}

/// What broke the TLS handshake or the log-in off, unless it was something that Redis says later as well.
fn explain_handshake(error: &RedisError, server: &str, tls: bool) -> Option<Error> {
    let text = error.to_string();
    let lower = text.to_lowercase();
    let new = |code, what: &str| Some(Error::new(code, format!("Redis at {server}: {what} ({text})")));
    if tls && let Some(what) = handshakes::broken(&text) {
        return new(Code::Tls, &format!("the TLS handshake failed: {what}"));
    }
    if is_late(error) {
        return if tls {
            new(Code::Unreachable, "it did not answer in time: check that it runs, and that this port speaks TLS")
        } else {
            None
        };
    }
    // A refused connection counts as dropped, too; a cluster's client tells it in its text alone.
    let dropped = error.is_connection_dropped() && !lower.contains("refused");
    if dropped && tls {
        return new(
            Code::Tls,
            "it broke the TLS handshake off: does it run, does this port speak TLS, and does it want a client certificate?",
        );
    }
    if !tls && (error.kind() == ErrorKind::Parse || dropped) {
        return new(Code::Tls, "it does not answer as Redis does: if it wants TLS, set tls.enabled: true; if not, does it run?");
    }
    None
}

/// Whether there was no answer in time. A cluster's client tells it in its text alone.
fn is_late(error: &RedisError) -> bool {
    error.is_timeout() || error.to_string().contains("timed out")
}

/// What a failure means where servers change their part, as in a cluster: what a single server says by MOVED, that it belongs to a cluster, is
/// passing there, and so is a replica that was a master a moment ago.
pub(super) fn explain_change(failure: &Failure, server: &str) -> Error {
    use ServerErrorKind::{Ask, Moved, ReadOnly};
    match failure.kind() {
        Some(ErrorKind::Server(ReadOnly)) => {
            Error::new(Code::FailingOver, format!("Redis at {server}: the master has become a replica: try again ({failure})"))
        }
        Some(ErrorKind::Server(Ask | Moved)) => Error::new(
            Code::SlotMoving,
            format!("Redis at {server}: the lock is being moved to another node: try again ({failure})"),
        ),
        _ => explain(failure, server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a server's refusal.
    fn refused(line: &str) -> Error {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("is a reply");
        explain(&Failure::after_sending(value.extract_error().expect_err("is a refusal")), "here")
    }

    #[test]
    fn each_refusal_has_its_code_and_says_what_to_do() {
        for (line, code, advice) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", Code::Authentication, "password_file"),
            ("NOAUTH Authentication required.", Code::Authentication, "password_file"),
            ("NOPERM User a has no permissions to run the 'get' command", Code::Permission, "docs/03"),
            ("NOPERM User a has no permissions to run the 'select' command", Code::Permission, "+select"),
            ("ERR The user executing the script can't run this command or subcommand", Code::Permission, "docs/03"),
            ("ERR ACL failure in script: User a has no permissions to run the 'set' command", Code::Permission, "docs/03"),
            ("ERR DB index is out of range", Code::InvalidConfig, "check db"),
            ("ERR max number of clients reached", Code::TooManyClients, "maxclients"),
            ("ERR unknown command 'EVAL', with args beginning with: 'return 1' ", Code::NoSuchCommand, "docs/03"),
            ("ERR unknown command `SELECT`, with args beginning with: `1`, ", Code::NoSuchCommand, "docs/03"),
            ("LOADING Redis is loading the dataset in memory", Code::Loading, "try again"),
            ("BUSY Redis is busy running a script.", Code::Busy, "try again"),
            ("MISCONF Redis is configured to save RDB snapshots, but", Code::CannotSave, "its log"),
            ("OOM command not allowed when used memory > 'maxmemory'.", Code::RedisFull, "maxmemory"),
            ("NOREPLICAS Not enough good replicas to write.", Code::TooFewReplicas, "min-replicas-to-write"),
            ("READONLY You can't write against a read only replica.", Code::ReadOnly, "master"),
            ("MASTERDOWN Link with MASTER is down", Code::FailingOver, "master"),
            ("CLUSTERDOWN The cluster is down", Code::ClusterDown, "CLUSTER NODES"),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Code::SlotMoving, "try again"),
            ("MOVED 1 127.0.0.1:7000", Code::InvalidConfig, "cluster_mode: true"),
            ("CROSSSLOT Keys in request don't hash to the same slot", Code::InvalidConfig, "cluster_mode: true"),
            ("WRONGTYPE Operation against a key holding the wrong kind", Code::EntryUnreadable, "stays"),
            ("ERR This instance has cluster support disabled", Code::InvalidConfig, "cluster_mode: false"),
            ("ERR No such master with that name", Code::InvalidConfig, "master_name"),
        ] {
            let error = refused(line);
            assert_eq!(error.code(), code, "{error}");
            assert!(error.message().contains(advice) && !error.message().contains("args beginning"), "{error}");
        }
        assert_eq!(refused("ERR something new").code(), Code::Protocol);
    }
}

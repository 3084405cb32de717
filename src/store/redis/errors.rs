//! Redis's errors as ours: what happened, to which server, what to do next.

use std::{fmt, io};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{Code, Error};

/// Why an attempt brought no reply.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// It was not sent: it certainly changed nothing.
    NotSent(RedisError),
    /// It was not sent, for a connection was made, and the server or this side broke off the TLS handshake or the log-in.
    Handshake { error: RedisError, tls: bool },
    /// It was not sent, for something that a setting names cannot be used.
    Settings(Error),
    /// The server refused it: it changed nothing.
    Refused(RedisError),
    /// The store was closed; it was not sent.
    Closed,
    /// It was sent, and the reply was lost: it may have changed something.
    ReplyLost(RedisError),
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
            Failure::NotSent(_) | Failure::Handshake { .. } | Failure::Settings(_) | Failure::LeftBehind { sent: false }
        )
    }

    /// Whether it was sent, and nobody knows what came of it.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Failure::ReplyLost(_) | Failure::LeftBehind { sent: true })
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
        matches!(
            self.kind(),
            Some(
                ErrorKind::Server(Ask | BusyLoading | ClusterDown | MasterDown | Moved | TryAgain)
                    | ErrorKind::ClusterConnectionNotFound
            )
        )
    }

    fn error(&self) -> Option<&RedisError> {
        match self {
            Failure::NotSent(error) | Failure::Handshake { error, .. } | Failure::Refused(error) | Failure::ReplyLost(error) => {
                Some(error)
            }
            Failure::Settings(_) | Failure::Closed | Failure::LeftBehind { .. } => None,
        }
    }
}

/// Redis's own words.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.error()) {
            (_, Some(error)) => error.fmt(f),
            (Failure::Settings(error), None) => error.fmt(f),
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
        Failure::Closed => Error::new(Code::Closed, format!("Redis at {server}: the store is closed")),
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
    let text = error.to_string();
    let new = |code, what: &str| Error::new(code, format!("Redis at {server}: {what} ({text})"));
    match error.kind() {
        ErrorKind::AuthenticationFailed => new(Code::Authentication, WRONG_PASSWORD),
        ErrorKind::Server(ServerErrorKind::NoPerm) => new(Code::Permission, DENIED),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => {
            new(Code::ReadOnly, "it is a read-only replica: give the address of the master")
        }
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::CrossSlot | ServerErrorKind::Ask) => {
            new(Code::InvalidConfig, "it belongs to a Redis Cluster: set cluster_mode: true and addresses")
        }
        ErrorKind::Server(kind) => explain_code(error.code(), &text).map_or_else(
            || {
                if kind == ServerErrorKind::ResponseError {
                    new(Code::Protocol, "an unexpected error")
                } else {
                    not_now(server, &text)
                }
            },
            |(code, what)| new(code, what),
        ),
        ErrorKind::Extension => explain_code(error.code(), &text)
            .map_or_else(|| new(Code::Protocol, "an unexpected error"), |(code, what)| new(code, what)),
        ErrorKind::InvalidClientConfig => new(Code::InvalidConfig, "the settings cannot be used"),
        ErrorKind::ClusterConnectionNotFound => not_now(server, &text),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            new(Code::Protocol, "a reply that this version does not understand")
        }
        _ if is_late(error) => new(Code::Unreachable, "it did not answer in time: check that it runs and the address"),
        _ => new(Code::Unreachable, "it cannot be reached: check that it runs and the address"),
    }
}

const DENIED: &str = "its ACL denies the user something that is needed: allow it, see docs/03-configuration.md";
const WRONG_PASSWORD: &str = "it refused the user name or password: check username, password and password_file";

fn explain_code(code: Option<&str>, text: &str) -> Option<(Code, &'static str)> {
    match code {
        Some("WRONGPASS" | "NOAUTH") => Some((Code::Authentication, WRONG_PASSWORD)),
        Some("OOM") => Some((Code::ReadOnly, "it is full and takes no writes: raise maxmemory or free some")),
        Some("MISCONF") => Some((Code::ReadOnly, "it cannot save to its disk and takes no writes: see its log")),
        Some("NOREPLICAS") => Some((Code::ReadOnly, "it has too few replicas and takes no writes: see min-replicas-to-write")),
        Some("BUSY") => Some((Code::Unreachable, "it is busy with a script: try again")),
        Some("WRONGTYPE") => Some((Code::EntryUnreadable, "the key holds something else than a lock, and stays as it is")),
        // An ACL that denies what a script does has no code of its own.
        _ if text.contains("user executing the script") => Some((Code::Permission, DENIED)),
        _ if text.contains("DB index") => Some((Code::InvalidConfig, "it has no such database: check db")),
        _ if text.contains("max number of clients") => {
            Some((Code::Unreachable, "it takes no more connections: raise maxclients, or look who holds them"))
        }
        _ if text.contains("cluster support disabled") => {
            Some((Code::InvalidConfig, "it is no Redis Cluster: set cluster_mode: false"))
        }
        _ if text.contains("invalid password") || text.contains("without any password") => {
            Some((Code::Authentication, WRONG_PASSWORD))
        }
        _ => None,
    }
}

/// What broke the TLS handshake or the log-in off, unless it was something that Redis says later as well.
fn explain_handshake(error: &RedisError, server: &str, tls: bool) -> Option<Error> {
    let text = error.to_string();
    let lower = text.to_lowercase();
    let new = |code, what: &str| Some(Error::new(code, format!("Redis at {server}: {what} ({text})")));
    let about_tls = ["certificate", "tls", "corrupt message", "handshake", "invalidcontenttype", "alert"];
    if tls && about_tls.iter().any(|word| lower.contains(word)) {
        return new(Code::Tls, "the TLS handshake failed: check tls.ca_file, tls.cert_file and the host name in the address");
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

/// The server will soon serve again.
pub(super) fn not_now(server: &str, text: &str) -> Error {
    Error::new(
        Code::Unreachable,
        format!("Redis at {server}: it cannot serve now: it is loading, busy or failing over; try again ({text})"),
    )
}

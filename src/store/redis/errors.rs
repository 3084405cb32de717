//! Redis's errors as ours: what happened, to which server, what to do next.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{Code, Error};

/// Why an attempt brought no reply.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// It was not sent: it certainly changed nothing.
    NotSent(RedisError),
    /// The server refused it: it changed nothing.
    Refused(RedisError),
    /// The store was closed; it was not sent.
    Closed(RedisError),
    /// It was sent, and the reply was lost: it may have changed something.
    ReplyLost(RedisError),
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

    /// The failure of a command for a closed store.
    pub(super) fn closed() -> Failure {
        Failure::Closed(RedisError::from(std::io::Error::new(std::io::ErrorKind::NotConnected, "the store is closed")))
    }

    /// Redis's error.
    pub(super) fn error(&self) -> &RedisError {
        match self {
            Failure::NotSent(e) | Failure::Closed(e) | Failure::Refused(e) | Failure::ReplyLost(e) => e,
        }
    }

    /// Whether the server will soon take what it refuses now: it is loading, or failing over.
    pub(super) fn is_passing(&self) -> bool {
        use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, TryAgain};
        let kind = self.error().kind();
        matches!(kind, ErrorKind::Server(Ask | BusyLoading | ClusterDown | MasterDown | Moved | TryAgain))
            || kind == ErrorKind::ClusterConnectionNotFound
    }
}

/// What a server's error means; `server` is its address.
pub(super) fn explain(error: &RedisError, server: &str) -> Error {
    let text = describe(error);
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
                    not_now(server, error)
                }
            },
            |(code, what)| new(code, what),
        ),
        ErrorKind::Extension => explain_code(error.code(), &text)
            .map_or_else(|| new(Code::Protocol, "an unexpected error"), |(code, what)| new(code, what)),
        ErrorKind::InvalidClientConfig => new(Code::InvalidConfig, "the settings cannot be used"),
        ErrorKind::ClusterConnectionNotFound => not_now(server, error),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            new(Code::Protocol, "a reply that this version does not understand")
        }
        _ => unreachable(server, error),
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
        _ if text.contains("cluster support disabled") => {
            Some((Code::InvalidConfig, "it is no Redis Cluster: set cluster_mode: false"))
        }
        _ if text.contains("invalid password") || text.contains("without any password") => {
            Some((Code::Authentication, WRONG_PASSWORD))
        }
        _ => None,
    }
}

/// What a failure to connect means.
pub(super) fn explain_connect(error: &RedisError, server: &str, tls: bool) -> Error {
    let text = describe(error);
    let lower = text.to_lowercase();
    let about_tls = ["certificate", "tls", "corrupt message", "handshake", "invalidcontenttype", "alert"];
    if tls && about_tls.iter().any(|word| lower.contains(word)) {
        let what = "the TLS handshake failed: check tls.ca_file, tls.cert_file and the host name in the address";
        return Error::new(Code::Tls, format!("Redis at {server}: {what} ({text})"));
    }
    // A refused connection counts as dropped, too; a cluster's client tells it in its text alone.
    let dropped = error.is_connection_dropped() && !lower.contains("refused") && !is_late(error);
    if dropped && tls {
        let what = "it broke the TLS handshake off: does this port speak TLS, and does it want a client certificate?";
        return Error::new(Code::Tls, format!("Redis at {server}: {what} ({text})"));
    }
    if is_late(error) && tls {
        let what = "it did not answer in time: check that it runs, and that this port speaks TLS";
        return Error::new(Code::Unreachable, format!("Redis at {server}: {what} ({text})"));
    }
    if !tls && (error.kind() == ErrorKind::Parse || dropped) {
        let what = "it does not answer as Redis does: if it wants TLS, set tls.enabled: true";
        return Error::new(Code::Tls, format!("Redis at {server}: {what} ({text})"));
    }
    explain(error, server)
}

fn unreachable(server: &str, error: &RedisError) -> Error {
    let text = describe(error);
    let what = if is_late(error) { "it did not answer in time" } else { "it cannot be reached" };
    Error::new(Code::Unreachable, format!("Redis at {server}: {what}: check that it runs and the address ({text})"))
}

/// Whether there was no answer in time. A cluster's client tells it in its text alone.
fn is_late(error: &RedisError) -> bool {
    error.is_timeout() || describe(error).contains("timed out")
}

/// The server will soon serve again.
pub(super) fn not_now(server: &str, error: &RedisError) -> Error {
    let text = describe(error);
    Error::new(
        Code::Unreachable,
        format!("Redis at {server}: it cannot serve now: it is loading, busy or failing over; try again ({text})"),
    )
}

/// Redis's own words.
fn describe(error: &RedisError) -> String {
    error.to_string()
}

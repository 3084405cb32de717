//! One error type for the whole library: a stable code and a text for a person.
//!
//! The text says what happened, to which key, file or setting, and what to do next. It never holds a secret
//! (`src/redact.rs`).

use std::borrow::Cow;
use std::ffi::CStr;
use std::fmt;

use serde::Deserialize;

use crate::redact::without_credentials;

/// What kind of failure it was. The numbers are the C ABI's status codes: append-only, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
#[non_exhaustive]
pub enum Code {
    /// A null pointer, text that is not UTF-8, a negative number where none can be.
    InvalidArgument = 1,
    /// The JSON given cannot be read; the text names the offset.
    InvalidJson = 2,
    /// The input is over a documented limit.
    TooLarge = 3,
    /// The configuration is wrong; the text names file, line and key.
    InvalidConfig = 4,
    /// A known setting that this build or this call does not support.
    Unsupported = 5,
    /// The handle was closed.
    Closed = 6,
    /// The data folder is in use by another process.
    StoreBusy = 7,
    /// The data folder cannot be written, or not even read.
    StoreNotWritable = 8,
    /// The data folder was written by a newer version.
    StoreNewerFormat = 9,
    /// The data folder is damaged: it holds less than, or something else than, what was acknowledged.
    StoreDamaged = 10,
    /// An I/O error: the store refuses everything until it is opened again.
    StoreFailed = 11,
    /// The one entry asked for cannot be read. It stays as it is, and so does its lock.
    EntryUnreadable = 12,
    /// Redis cannot be reached.
    Unreachable = 13,
    /// Redis refused the user name or password.
    Authentication = 14,
    /// The Redis user lacks a permission.
    Permission = 15,
    /// The TLS handshake failed.
    Tls = 16,
    /// This Redis is a read-only replica, or the store was opened only to look at it.
    ReadOnly = 17,
    /// The deadline passed, and nothing was changed.
    Timeout = 18,
    /// The deadline passed, or the reply was lost, after a change was sent: it may or may not have happened.
    OutcomeUnknown = 19,
    /// Too few replicas confirmed the grant in time; it was taken back.
    NotReplicated = 20,
    /// A store answered something that this version does not understand.
    Protocol = 21,
    /// The host store's callback reported an error.
    HostStore = 22,
    /// A bug: the library panicked, and the panic was stopped at its border.
    Internal = 23,
    /// Redis cannot be asked, and the local store cannot answer this in its place: nothing was changed; try again later.
    Degraded = 24,
    /// The lock is held by another pull that has the same number: of another Git host, or of another repository whose lock has the
    /// same key. Atlantis compares the numbers alone, and would take the lock for its own.
    OtherPull = 25,
    /// The queue is full: no more pulls can wait for this lock, or in this repository. Nothing was changed.
    QueueFull = 26,
    /// The pull does not wait for this lock.
    NotQueued = 27,
    /// There is no queue: it is off in the configuration.
    QueueDisabled = 28,
    /// The lock is frozen: nobody may take it for now. The text says who froze it, until when, and why.
    Frozen = 29,
    /// A lock can be waited for by a pull request alone, whose number is above 0.
    NoPull = 30,
    /// The lock is free, and the pull may take it only together with the others of its set.
    SetIncomplete = 31,
    /// The locks of this store were moved to another one, or are being moved; the text says where, and what to do.
    StoreMoved = 32,
    /// Redis loads its data from the disk, and answers soon.
    Loading = 33,
    /// Redis is busy with another program's script.
    Busy = 34,
    /// Redis has no memory left (`maxmemory`) and takes no writes.
    RedisFull = 35,
    /// Redis cannot save to its disk and takes no writes.
    CannotSave = 36,
    /// Redis has fewer replicas than it is set to need (`min-replicas-to-write`) and takes no writes.
    TooFewReplicas = 37,
    /// Redis takes no more connections (`maxclients`).
    TooManyClients = 38,
    /// Redis lacks a command that is needed: it is too old, or the command is disabled or renamed there.
    NoSuchCommand = 39,
    /// A Redis Cluster has no master for the lock's slot, or is not whole.
    ClusterDown = 40,
    /// Redis changes its master: the new one is not known yet, or does not answer as one.
    FailingOver = 41,
    /// A Redis Cluster moves the lock's slot to another node just now.
    SlotMoving = 42,
    /// This Redis is older than 7.0, the oldest that is supported.
    RedisTooOld = 43,
    /// The process was forked after it had opened a store, and this is the child. Nothing was done.
    Forked = 44,
    /// The data folder, or a backup, is sealed, and no key that is set opens it; the text names the keys. Nothing was changed.
    EncryptionKey = 45,
    /// The audit trail, which every change needs (`locking.audit.required`), cannot be written. Nothing was changed.
    AuditFailed = 46,
}

impl Code {
    /// Every code, in the order of the numbers.
    pub const ALL: [Code; 46] = [
        Code::InvalidArgument,
        Code::InvalidJson,
        Code::TooLarge,
        Code::InvalidConfig,
        Code::Unsupported,
        Code::Closed,
        Code::StoreBusy,
        Code::StoreNotWritable,
        Code::StoreNewerFormat,
        Code::StoreDamaged,
        Code::StoreFailed,
        Code::EntryUnreadable,
        Code::Unreachable,
        Code::Authentication,
        Code::Permission,
        Code::Tls,
        Code::ReadOnly,
        Code::Timeout,
        Code::OutcomeUnknown,
        Code::NotReplicated,
        Code::Protocol,
        Code::HostStore,
        Code::Internal,
        Code::Degraded,
        Code::OtherPull,
        Code::QueueFull,
        Code::NotQueued,
        Code::QueueDisabled,
        Code::Frozen,
        Code::NoPull,
        Code::SetIncomplete,
        Code::StoreMoved,
        Code::Loading,
        Code::Busy,
        Code::RedisFull,
        Code::CannotSave,
        Code::TooFewReplicas,
        Code::TooManyClients,
        Code::NoSuchCommand,
        Code::ClusterDown,
        Code::FailingOver,
        Code::SlotMoving,
        Code::RedisTooOld,
        Code::Forked,
        Code::EncryptionKey,
        Code::AuditFailed,
    ];

    /// Its name in metrics, in the audit trail and on the socket. Stable, as its number.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    /// The same for C.
    pub fn c_name(self) -> &'static CStr {
        match self {
            Code::InvalidArgument => c"invalid_argument",
            Code::InvalidJson => c"invalid_json",
            Code::TooLarge => c"too_large",
            Code::InvalidConfig => c"invalid_config",
            Code::Unsupported => c"unsupported",
            Code::Closed => c"closed",
            Code::StoreBusy => c"store_busy",
            Code::StoreNotWritable => c"store_not_writable",
            Code::StoreNewerFormat => c"store_newer_format",
            Code::StoreDamaged => c"store_damaged",
            Code::StoreFailed => c"store_failed",
            Code::EntryUnreadable => c"entry_unreadable",
            Code::Unreachable => c"unreachable",
            Code::Authentication => c"authentication",
            Code::Permission => c"permission",
            Code::Tls => c"tls",
            Code::ReadOnly => c"read_only",
            Code::Timeout => c"timeout",
            Code::OutcomeUnknown => c"outcome_unknown",
            Code::NotReplicated => c"not_replicated",
            Code::Protocol => c"protocol",
            Code::HostStore => c"host_store",
            Code::Internal => c"internal",
            Code::Degraded => c"degraded",
            Code::OtherPull => c"other_pull",
            Code::QueueFull => c"queue_full",
            Code::NotQueued => c"not_queued",
            Code::QueueDisabled => c"queue_disabled",
            Code::Frozen => c"frozen",
            Code::NoPull => c"no_pull",
            Code::SetIncomplete => c"set_incomplete",
            Code::StoreMoved => c"store_moved",
            Code::Loading => c"loading",
            Code::Busy => c"busy",
            Code::RedisFull => c"redis_full",
            Code::CannotSave => c"cannot_save",
            Code::TooFewReplicas => c"too_few_replicas",
            Code::TooManyClients => c"too_many_clients",
            Code::NoSuchCommand => c"no_such_command",
            Code::ClusterDown => c"cluster_down",
            Code::FailingOver => c"failing_over",
            Code::SlotMoving => c"slot_moving",
            Code::RedisTooOld => c"redis_too_old",
            Code::Forked => c"forked",
            Code::EncryptionKey => c"encryption_key",
            Code::AuditFailed => c"audit_failed",
        }
    }
}

/// A failure: its [`Code`] and a text for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: Code,
    message: String,
}

/// The result of every fallible function here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this code and text, but for credentials in URLs.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: without_credentials(Cow::Owned(message.into())).into_owned() }
    }

    /// The same error with `context: ` before its text.
    pub fn context(self, context: impl fmt::Display) -> Error {
        Error::new(self.code, format!("{context}: {}", self.message))
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Its text.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice() {
        for pair in Code::ALL.windows(2) {
            assert!((pair[0] as i32) < pair[1] as i32, "{} and {}", pair[0].name(), pair[1].name());
        }
    }
}

//! The status codes. Append-only: a number keeps its meaning for good.

use crate::error::Code;

/// Success.
pub const ATLOCK_OK: i32 = 0;
/// A null pointer, text that is not UTF-8, a number out of range.
pub const ATLOCK_INVALID_ARGUMENT: i32 = 1;
/// The JSON given cannot be read; the text names the byte offset.
pub const ATLOCK_INVALID_JSON: i32 = 2;
/// The input is over a limit: a lock 1 MiB, a pull status 16 MiB, a key 16 KiB.
pub const ATLOCK_TOO_LARGE: i32 = 3;
/// The configuration is wrong; the text names file, line and key.
pub const ATLOCK_INVALID_CONFIG: i32 = 4;
/// A known setting or call that this build does not support.
pub const ATLOCK_UNSUPPORTED: i32 = 5;
/// The handle was closed.
pub const ATLOCK_CLOSED: i32 = 6;
/// The data folder is in use by another process.
pub const ATLOCK_STORE_BUSY: i32 = 7;
/// The data folder cannot be written.
pub const ATLOCK_STORE_NOT_WRITABLE: i32 = 8;
/// The data folder was written by a newer version.
pub const ATLOCK_STORE_NEWER_FORMAT: i32 = 9;
/// The data folder is damaged; nothing was changed in it.
pub const ATLOCK_STORE_DAMAGED: i32 = 10;
/// An I/O error: the store refuses everything until it is opened again.
pub const ATLOCK_STORE_FAILED: i32 = 11;
/// The entry asked for cannot be read. The entry stays, and its lock stays held.
pub const ATLOCK_ENTRY_UNREADABLE: i32 = 12;
/// Redis cannot be reached.
pub const ATLOCK_UNREACHABLE: i32 = 13;
/// Redis refused the user name or password.
pub const ATLOCK_AUTHENTICATION: i32 = 14;
/// The Redis user lacks a permission.
pub const ATLOCK_PERMISSION: i32 = 15;
/// The TLS handshake failed.
pub const ATLOCK_TLS: i32 = 16;
/// This Redis is a read-only replica.
pub const ATLOCK_READ_ONLY: i32 = 17;
/// The deadline passed, and nothing was changed.
pub const ATLOCK_TIMEOUT: i32 = 18;
/// The deadline passed or the reply was lost: the change may or may not have happened.
pub const ATLOCK_OUTCOME_UNKNOWN: i32 = 19;
/// Too few replicas confirmed the grant in time; it was taken back.
pub const ATLOCK_NOT_REPLICATED: i32 = 20;
/// A store answered something that this version does not understand.
pub const ATLOCK_PROTOCOL: i32 = 21;
/// The host store's callback reported an error.
pub const ATLOCK_HOST_STORE: i32 = 22;
/// A bug: the library panicked, and the panic was stopped at its border.
pub const ATLOCK_INTERNAL: i32 = 23;
/// Redis cannot be asked, and the local store cannot answer this in its place: nothing was changed; try again later.
pub const ATLOCK_DEGRADED: i32 = 24;
/// The lock is held by another pull that has the same number: of another Git host, or of another repository whose lock has the same
/// key. Nothing was changed. Atlantis compares the numbers alone, and would take the lock for its own.
pub const ATLOCK_OTHER_PULL: i32 = 25;
/// The queue is full: no more pulls can wait for this lock, or in this repository. Nothing was changed.
pub const ATLOCK_QUEUE_FULL: i32 = 26;
/// The pull does not wait for this lock.
pub const ATLOCK_NOT_QUEUED: i32 = 27;
/// There is no queue: it is off in the configuration.
pub const ATLOCK_QUEUE_DISABLED: i32 = 28;
/// The lock is frozen: nobody may take it for now. The text says who froze it, until when, and why.
pub const ATLOCK_FROZEN: i32 = 29;
/// Only a pull request can wait for a lock: its number is above 0.
pub const ATLOCK_NO_PULL: i32 = 30;
/// The lock is free, and the pull may take it only together with the others of its set.
pub const ATLOCK_SET_INCOMPLETE: i32 = 31;
/// The locks of this store were moved to another one, or are being moved (`atlock migrate`); the text says where, and what to do.
pub const ATLOCK_STORE_MOVED: i32 = 32;
/// Redis loads its data from the disk, and answers soon.
pub const ATLOCK_LOADING: i32 = 33;
/// Redis is busy with another program's script.
pub const ATLOCK_BUSY: i32 = 34;
/// Redis has no memory left (`maxmemory`) and takes no writes.
pub const ATLOCK_REDIS_FULL: i32 = 35;
/// Redis cannot save to its disk and takes no writes.
pub const ATLOCK_CANNOT_SAVE: i32 = 36;
/// Redis has fewer replicas than it is set to need (`min-replicas-to-write`) and takes no writes.
pub const ATLOCK_TOO_FEW_REPLICAS: i32 = 37;
/// Redis takes no more connections (`maxclients`).
pub const ATLOCK_TOO_MANY_CLIENTS: i32 = 38;
/// Redis lacks a command that is needed: it is too old, or the command is disabled or renamed there.
pub const ATLOCK_NO_SUCH_COMMAND: i32 = 39;
/// A Redis Cluster has no master for the lock's slot, or is not whole.
pub const ATLOCK_CLUSTER_DOWN: i32 = 40;
/// Redis changes its master: the new one is not known yet, or does not answer as one.
pub const ATLOCK_FAILING_OVER: i32 = 41;
/// A Redis Cluster moves the lock's slot to another node just now.
pub const ATLOCK_SLOT_MOVING: i32 = 42;
/// This Redis is older than 7.0, the oldest that is supported.
pub const ATLOCK_REDIS_TOO_OLD: i32 = 43;
/// The process was forked after it had opened a store, and this is the child. Nothing was done.
pub const ATLOCK_FORKED: i32 = 44;
/// The data folder, or a backup, is sealed, and none of the configured keys opens it. Nothing was changed. The text names the keys.
pub const ATLOCK_ENCRYPTION_KEY: i32 = 45;
/// The audit trail cannot be written, and every change needs it (`locking.audit.required`): nothing was changed. From
/// `atlock_audit_record`, also without that setting: the entry is not in the trail.
pub const ATLOCK_AUDIT_FAILED: i32 = 46;

/// The C code of each error: one number, two spellings, held together at compile time.
macro_rules! same_numbers {
    ($($name:ident = $code:ident),* $(,)?) => { $(const _: () = assert!($name == Code::$code as i32);)* };
}

same_numbers! {
    ATLOCK_INVALID_ARGUMENT = InvalidArgument, ATLOCK_INVALID_JSON = InvalidJson, ATLOCK_TOO_LARGE = TooLarge,
    ATLOCK_INVALID_CONFIG = InvalidConfig, ATLOCK_UNSUPPORTED = Unsupported, ATLOCK_CLOSED = Closed,
    ATLOCK_STORE_BUSY = StoreBusy, ATLOCK_STORE_NOT_WRITABLE = StoreNotWritable,
    ATLOCK_STORE_NEWER_FORMAT = StoreNewerFormat, ATLOCK_STORE_DAMAGED = StoreDamaged, ATLOCK_STORE_FAILED = StoreFailed,
    ATLOCK_ENTRY_UNREADABLE = EntryUnreadable, ATLOCK_UNREACHABLE = Unreachable, ATLOCK_AUTHENTICATION = Authentication,
    ATLOCK_PERMISSION = Permission, ATLOCK_TLS = Tls, ATLOCK_READ_ONLY = ReadOnly, ATLOCK_TIMEOUT = Timeout,
    ATLOCK_OUTCOME_UNKNOWN = OutcomeUnknown, ATLOCK_NOT_REPLICATED = NotReplicated, ATLOCK_PROTOCOL = Protocol,
    ATLOCK_HOST_STORE = HostStore, ATLOCK_INTERNAL = Internal, ATLOCK_DEGRADED = Degraded,
    ATLOCK_OTHER_PULL = OtherPull, ATLOCK_QUEUE_FULL = QueueFull, ATLOCK_NOT_QUEUED = NotQueued,
    ATLOCK_QUEUE_DISABLED = QueueDisabled, ATLOCK_FROZEN = Frozen, ATLOCK_NO_PULL = NoPull,
    ATLOCK_SET_INCOMPLETE = SetIncomplete, ATLOCK_STORE_MOVED = StoreMoved,
    ATLOCK_LOADING = Loading,
    ATLOCK_BUSY = Busy,
    ATLOCK_REDIS_FULL = RedisFull,
    ATLOCK_CANNOT_SAVE = CannotSave,
    ATLOCK_TOO_FEW_REPLICAS = TooFewReplicas,
    ATLOCK_TOO_MANY_CLIENTS = TooManyClients,
    ATLOCK_NO_SUCH_COMMAND = NoSuchCommand,
    ATLOCK_CLUSTER_DOWN = ClusterDown,
    ATLOCK_FAILING_OVER = FailingOver,
    ATLOCK_SLOT_MOVING = SlotMoving,
    ATLOCK_REDIS_TOO_OLD = RedisTooOld,
    ATLOCK_FORKED = Forked,
    ATLOCK_ENCRYPTION_KEY = EncryptionKey,
    ATLOCK_AUDIT_FAILED = AuditFailed,
}

package client

import "github.com/atlock/atlock/go/internal/capi"

// Error is a failure of the library: a code, which is one of the sentinels below, and a text for a person that says what
// happened, to which key or setting, and what to do next. It never holds a secret. Its fields:
//
//	Code    Code   // one of the sentinels below, as errors.Is compares them; Code.Name() is its name in metrics and in the audit trail
//	Message string // the text
type Error = capi.Error

// Code is which error it is: one of the sentinels below. Name is its name in metrics, in the audit trail and on the sockets.
type Code = capi.Code

// Sentinels for errors.Is.
var (
	ErrInvalidArgument  error = capi.InvalidArgument
	ErrInvalidJSON      error = capi.InvalidJSON
	ErrTooLarge         error = capi.TooLarge
	ErrInvalidConfig    error = capi.InvalidConfig
	ErrUnsupported      error = capi.Unsupported
	ErrClosed           error = capi.Closed           // the database was closed
	ErrStoreBusy        error = capi.StoreBusy        // another process has the data folder open
	ErrStoreNotWritable error = capi.StoreNotWritable // the data folder cannot be written
	ErrStoreNewerFormat error = capi.StoreNewerFormat // a newer version wrote the data folder
	ErrStoreDamaged     error = capi.StoreDamaged     // the data folder lacks what was acknowledged; nothing was changed
	ErrStoreFailed      error = capi.StoreFailed      // an I/O error; open the database again
	ErrEntryUnreadable  error = capi.EntryUnreadable  // the entry is not a lock; it stays, and so does its key's lock
	ErrUnreachable      error = capi.Unreachable      // no connection to Redis
	ErrAuthentication   error = capi.Authentication   // Redis refused user or password
	ErrPermission       error = capi.Permission       // the Redis user may not do what is needed
	ErrTLS              error = capi.TLS              // the TLS handshake failed
	ErrReadOnly         error = capi.ReadOnly         // a read-only replica
	ErrTimeout          error = capi.Timeout          // the deadline passed, nothing was changed
	ErrOutcomeUnknown   error = capi.OutcomeUnknown   // the change may or may not have happened
	ErrNotReplicated    error = capi.NotReplicated    // too few replicas confirmed; the grant was taken back
	ErrProtocol         error = capi.Protocol         // an answer that this version does not understand
	ErrHostStore        error = capi.HostStore        // the host store failed
	ErrInternal         error = capi.Internal         // a bug in atlock
	ErrDegraded         error = capi.Degraded         // Redis is away, and the local store must not decide; try again later
	ErrOtherPull        error = capi.OtherPull        // the holder is another pull with the same number, which Atlantis cannot tell apart
	ErrQueueFull        error = capi.QueueFull        // nobody more can wait for this lock, or in this repository or process
	ErrNotQueued        error = capi.NotQueued        // the pull request waits for no such lock, or was taken out of the queue
	ErrQueueDisabled    error = capi.QueueDisabled    // there is no queue in the settings, or none on this store
	ErrFrozen           error = capi.Frozen           // nobody is to take this lock for now; the text says who wants that, and why
	ErrNoPull           error = capi.NoPull           // only a pull request can wait, and its number is above 0
	ErrSetIncomplete    error = capi.SetIncomplete    // the lock is free, and the pull request takes it only with the others of its set
	ErrStoreMoved       error = capi.StoreMoved       // the locks were moved to another store, or are being moved
	ErrLoading          error = capi.Loading          // Redis reads its data from its disk; try again soon
	ErrBusy             error = capi.Busy             // another program's script keeps Redis busy; try again
	ErrRedisFull        error = capi.RedisFull        // Redis has no memory left and takes no writes
	ErrCannotSave       error = capi.CannotSave       // Redis cannot save to its disk and takes no writes
	ErrTooFewReplicas   error = capi.TooFewReplicas   // Redis has fewer replicas than it is set to need, and takes no writes
	ErrTooManyClients   error = capi.TooManyClients   // Redis takes no more connections
	ErrNoSuchCommand    error = capi.NoSuchCommand    // a command that is needed is disabled or renamed in Redis
	ErrClusterDown      error = capi.ClusterDown      // the Redis Cluster has no master for the lock, or is not whole
	ErrFailingOver      error = capi.FailingOver      // Redis changes its master; try again
	ErrSlotMoving       error = capi.SlotMoving       // the Redis Cluster moves the lock to another node just now; try again
	ErrRedisTooOld      error = capi.RedisTooOld      // Redis is older than 7.0
	ErrForked           error = capi.Forked           // in the child of a process that forked after it had opened a store
	ErrEncryptionKey    error = capi.EncryptionKey    // the data folder, or a backup, is sealed, and no key that is set opens it
	ErrAuditFailed      error = capi.AuditFailed      // the audit trail, which every change needs, cannot be written; nothing was changed
)

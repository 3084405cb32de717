package capi

// #include <atlock.h>
import "C"

// Code is a status of the C API, and an error to compare with by [errors.Is].
type Code int32

// The statuses. The numbers are those of atlock.h, by name, so that none can differ.
const (
	InvalidArgument  = Code(C.ATLOCK_INVALID_ARGUMENT)
	InvalidJSON      = Code(C.ATLOCK_INVALID_JSON)
	TooLarge         = Code(C.ATLOCK_TOO_LARGE)
	InvalidConfig    = Code(C.ATLOCK_INVALID_CONFIG)
	Unsupported      = Code(C.ATLOCK_UNSUPPORTED)
	Closed           = Code(C.ATLOCK_CLOSED)
	StoreBusy        = Code(C.ATLOCK_STORE_BUSY)
	StoreNotWritable = Code(C.ATLOCK_STORE_NOT_WRITABLE)
	StoreNewerFormat = Code(C.ATLOCK_STORE_NEWER_FORMAT)
	StoreDamaged     = Code(C.ATLOCK_STORE_DAMAGED)
	StoreFailed      = Code(C.ATLOCK_STORE_FAILED)
	EntryUnreadable  = Code(C.ATLOCK_ENTRY_UNREADABLE)
	Unreachable      = Code(C.ATLOCK_UNREACHABLE)
	Authentication   = Code(C.ATLOCK_AUTHENTICATION)
	Permission       = Code(C.ATLOCK_PERMISSION)
	TLS              = Code(C.ATLOCK_TLS)
	ReadOnly         = Code(C.ATLOCK_READ_ONLY)
	Timeout          = Code(C.ATLOCK_TIMEOUT)
	OutcomeUnknown   = Code(C.ATLOCK_OUTCOME_UNKNOWN)
	NotReplicated    = Code(C.ATLOCK_NOT_REPLICATED)
	Protocol         = Code(C.ATLOCK_PROTOCOL)
	HostStore        = Code(C.ATLOCK_HOST_STORE)
	Internal         = Code(C.ATLOCK_INTERNAL)
	Degraded         = Code(C.ATLOCK_DEGRADED)
	OtherPull        = Code(C.ATLOCK_OTHER_PULL)
	QueueFull        = Code(C.ATLOCK_QUEUE_FULL)
	NotQueued        = Code(C.ATLOCK_NOT_QUEUED)
	QueueDisabled    = Code(C.ATLOCK_QUEUE_DISABLED)
	Frozen           = Code(C.ATLOCK_FROZEN)
	NoPull           = Code(C.ATLOCK_NO_PULL)
	SetIncomplete    = Code(C.ATLOCK_SET_INCOMPLETE)
	StoreMoved       = Code(C.ATLOCK_STORE_MOVED)
	Loading          = Code(C.ATLOCK_LOADING)
	Busy             = Code(C.ATLOCK_BUSY)
	RedisFull        = Code(C.ATLOCK_REDIS_FULL)
	CannotSave       = Code(C.ATLOCK_CANNOT_SAVE)
	TooFewReplicas   = Code(C.ATLOCK_TOO_FEW_REPLICAS)
	TooManyClients   = Code(C.ATLOCK_TOO_MANY_CLIENTS)
	NoSuchCommand    = Code(C.ATLOCK_NO_SUCH_COMMAND)
	ClusterDown      = Code(C.ATLOCK_CLUSTER_DOWN)
	FailingOver      = Code(C.ATLOCK_FAILING_OVER)
	SlotMoving       = Code(C.ATLOCK_SLOT_MOVING)
	RedisTooOld      = Code(C.ATLOCK_REDIS_TOO_OLD)
	Forked           = Code(C.ATLOCK_FORKED)
	EncryptionKey    = Code(C.ATLOCK_ENCRYPTION_KEY)
	AuditFailed      = Code(C.ATLOCK_AUDIT_FAILED)
)

// Name is the code's name in metrics, in the audit trail and on the sockets.
func (c Code) Name() string { return C.GoString(C.atlock_code_name(C.int32_t(c))) }

var names = map[Code]string{
	InvalidArgument:  "invalid argument",
	InvalidJSON:      "invalid JSON",
	TooLarge:         "too large",
	InvalidConfig:    "invalid configuration",
	Unsupported:      "not supported",
	Closed:           "closed",
	StoreBusy:        "data folder in use",
	StoreNotWritable: "data folder not writable",
	StoreNewerFormat: "data folder of a newer version",
	StoreDamaged:     "data folder damaged",
	StoreFailed:      "store failed",
	EntryUnreadable:  "entry unreadable",
	Unreachable:      "Redis unreachable",
	Authentication:   "Redis refused the password",
	Permission:       "Redis permission missing",
	TLS:              "TLS handshake failed",
	ReadOnly:         "Redis is read-only",
	Timeout:          "timed out, nothing changed",
	OutcomeUnknown:   "outcome unknown",
	NotReplicated:    "not replicated",
	Protocol:         "unexpected answer",
	HostStore:        "host store failed",
	Internal:         "internal error",
	Degraded:         "degraded, try again later",
	OtherPull:        "held by another pull with the same number",
	QueueFull:        "the queue is full",
	NotQueued:        "not in the queue",
	QueueDisabled:    "there is no queue",
	Frozen:           "frozen",
	NoPull:           "no pull request",
	SetIncomplete:    "only with the other locks of its set",
	StoreMoved:       "the locks were moved to another store",
	Loading:          "Redis loads its data",
	Busy:             "Redis is busy with a script",
	RedisFull:        "Redis is full",
	CannotSave:       "Redis cannot save to its disk",
	TooFewReplicas:   "Redis has too few replicas",
	TooManyClients:   "Redis takes no more connections",
	NoSuchCommand:    "Redis lacks a command",
	ClusterDown:      "the Redis Cluster is down",
	FailingOver:      "Redis fails over",
	SlotMoving:       "the lock's slot is being moved",
	RedisTooOld:      "Redis is too old",
	Forked:           "in a forked child",
	EncryptionKey:    "the data is sealed, and no key opens it",
	AuditFailed:      "the audit trail cannot be written",
}

// Error names the code.
func (c Code) Error() string {
	if name, ok := names[c]; ok {
		return "atlock: " + name
	}
	return "atlock: unknown status"
}

// Error is a failure of the library: a code and a text for a person.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

// Unwrap makes errors.Is(err, code) true.
func (e *Error) Unwrap() error { return e.Code }

// check runs one call and turns a failure into an error.
func check(call func(failure *C.atlock_buffer) C.int32_t) error {
	var failure Buffer
	status := call(&failure.buffer)
	if status == C.ATLOCK_OK {
		return nil
	}
	defer failure.Free()
	return &Error{Code: Code(status), Message: string(failure.Bytes())}
}

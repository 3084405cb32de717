package atlock

import (
	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/internal/release"
)

// Settings, state and errors are those of package client, which explains each. They have names here, too, so that an Atlantis needs this
// package alone.
type (
	Config        = client.Config
	Locking       = client.Locking
	Audit         = client.Audit
	Actor         = client.Actor
	Person        = client.Person
	Via           = client.Via
	AuditEntry    = client.AuditEntry
	AuditHolder   = client.AuditHolder
	AtRest        = client.AtRest
	Encryption    = client.Encryption
	Shadow        = client.Shadow
	Enhanced      = client.Enhanced
	Breaker       = client.Breaker
	Probes        = client.Probes
	Redis         = client.Redis
	Sentinel      = client.Sentinel
	TLS           = client.TLS
	RedisTimeouts = client.RedisTimeouts

	PriorityQueue     = client.PriorityQueue
	PriorityRule      = client.PriorityRule
	DeadlockDetection = client.DeadlockDetection
	LockTimeouts      = client.LockTimeouts

	Duration = client.Duration
	Secret   = client.Secret

	Status    = client.Status
	Conflict  = client.Conflict
	Recovery  = client.Recovery
	Fallback  = client.Fallback
	HostStore = client.HostStore
	Change    = client.Change
	UnixMicro = client.UnixMicro

	ShadowStatus     = client.ShadowStatus
	ShadowDifference = client.ShadowDifference

	Health      = client.Health
	StoreHealth = client.StoreHealth

	LockInfo     = client.LockInfo
	FencingToken = client.FencingToken

	PullID     = client.PullID
	Priority   = client.Priority
	Blocker    = client.Blocker
	Place      = client.Place
	QueuedPull = client.QueuedPull
	QueuedKey  = client.QueuedKey
	Checked    = client.Checked
	RunEnded   = client.RunEnded

	Explained     = client.Explained
	LockHolder    = client.LockHolder
	InLine        = client.InLine
	BlockedBy     = client.BlockedBy
	FreezePattern = client.FreezePattern
	FreezeRequest = client.FreezeRequest
	Freeze        = client.Freeze
	Deadlock      = client.Deadlock
	DeadlockLink  = client.DeadlockLink
	Standing      = client.Standing
	Yielded       = client.Yielded

	NextRequest = client.NextRequest
	Next        = client.Next
	Waiter      = client.Waiter
	Turn        = client.Turn
	QueuedLeft  = client.QueuedLeft

	Mode         = client.Mode
	BackendKind  = client.BackendKind
	KeyFormat    = client.KeyFormat
	SocketAccess = client.SocketAccess
	Instances    = client.Instances
	Durability   = client.Durability
	Replan       = client.Replan
	StaleLocks   = client.StaleLocks
	ApplyGuard   = client.ApplyGuard
	Sets         = client.Sets
	Resolve      = client.Resolve
	ShadowStore  = client.ShadowStore
	ShadowState  = client.ShadowState
	CircuitState = client.CircuitState
	HealthState  = client.HealthState
	ChangeResult = client.ChangeResult
	LockState    = client.LockState

	Error = client.Error
	Code  = client.Code
)

// Values of the settings and of what is told, as in package client.
const (
	ModeStrict = client.ModeStrict
	ModeHybrid = client.ModeHybrid
	ModeNative = client.ModeNative

	BackendBoltDB = client.BackendBoltDB
	BackendSled   = client.BackendSled

	KeysCurrent = client.KeysCurrent
	KeysOld     = client.KeysOld

	SocketAll  = client.SocketAll
	SocketRead = client.SocketRead
	SocketOff  = client.SocketOff

	InstancesSingle = client.InstancesSingle
	InstancesMany   = client.InstancesMany

	DurabilitySync  = client.DurabilitySync
	DurabilityAsync = client.DurabilityAsync

	CircuitClosed   = client.CircuitClosed
	CircuitOpen     = client.CircuitOpen
	CircuitHalfOpen = client.CircuitHalfOpen
	CircuitDisabled = client.CircuitDisabled

	ShadowOff   = client.ShadowOff
	ShadowSled  = client.ShadowSled
	ShadowRedis = client.ShadowRedis

	ShadowOpening   = client.ShadowOpening
	ShadowFollowing = client.ShadowFollowing
	ShadowFailing   = client.ShadowFailing
	ShadowRefused   = client.ShadowRefused

	SetsEach  = client.SetsEach
	SetsWhole = client.SetsWhole

	ChangeBegun  = client.ChangeBegun
	ChangeDone   = client.ChangeDone
	ChangeNone   = client.ChangeNone
	ChangeFailed = client.ChangeFailed

	ViaPage        = client.ViaPage
	ViaAPI         = client.ViaAPI
	ViaCommandLine = client.ViaCommandLine
	ViaComment     = client.ViaComment
	ViaPullClosed  = client.ViaPullClosed
	ViaPlan        = client.ViaPlan
	ViaApply       = client.ViaApply
	ViaStaleLocks  = client.ViaStaleLocks
	ViaSignal      = client.ViaSignal

	Healthy   = client.Healthy
	Degraded  = client.Degraded
	Unhealthy = client.Unhealthy

	ResolveReport = client.ResolveReport
	ResolveYield  = client.ResolveYield

	PriorityLow      = client.PriorityLow
	PriorityNormal   = client.PriorityNormal
	PriorityHigh     = client.PriorityHigh
	PriorityCritical = client.PriorityCritical

	ReplanAuto   = client.ReplanAuto
	ReplanNotify = client.ReplanNotify
	ReplanOff    = client.ReplanOff

	StaleOff     = client.StaleOff
	StaleReport  = client.StaleReport
	StaleRelease = client.StaleRelease

	GuardAuto = client.GuardAuto
	GuardOn   = client.GuardOn
	GuardOff  = client.GuardOff

	RunPlan   = client.RunPlan
	RunApply  = client.RunApply
	RunUnlock = client.RunUnlock

	StateFree     = client.StateFree
	StateHeld     = client.StateHeld
	StateReserved = client.StateReserved
	StateFrozen   = client.StateFrozen
	StateConflict = client.StateConflict
	StateUnknown  = client.StateUnknown

	FreezePlansDeny  = client.FreezePlansDeny
	FreezePlansAllow = client.FreezePlansAllow

	Forever            = client.Forever
	NoToken            = client.NoToken
	MetricsContentType = client.MetricsContentType
)

// Sentinels for errors.Is, as in package client, where each is explained.
var (
	ErrInvalidArgument  = client.ErrInvalidArgument
	ErrInvalidJSON      = client.ErrInvalidJSON
	ErrTooLarge         = client.ErrTooLarge
	ErrInvalidConfig    = client.ErrInvalidConfig
	ErrUnsupported      = client.ErrUnsupported
	ErrClosed           = client.ErrClosed
	ErrStoreBusy        = client.ErrStoreBusy
	ErrStoreNotWritable = client.ErrStoreNotWritable
	ErrStoreNewerFormat = client.ErrStoreNewerFormat
	ErrStoreDamaged     = client.ErrStoreDamaged
	ErrStoreFailed      = client.ErrStoreFailed
	ErrEntryUnreadable  = client.ErrEntryUnreadable
	ErrUnreachable      = client.ErrUnreachable
	ErrAuthentication   = client.ErrAuthentication
	ErrPermission       = client.ErrPermission
	ErrTLS              = client.ErrTLS
	ErrReadOnly         = client.ErrReadOnly
	ErrTimeout          = client.ErrTimeout
	ErrOutcomeUnknown   = client.ErrOutcomeUnknown
	ErrNotReplicated    = client.ErrNotReplicated
	ErrProtocol         = client.ErrProtocol
	ErrHostStore        = client.ErrHostStore
	ErrInternal         = client.ErrInternal
	ErrDegraded         = client.ErrDegraded
	ErrOtherPull        = client.ErrOtherPull
	ErrQueueFull        = client.ErrQueueFull
	ErrNotQueued        = client.ErrNotQueued
	ErrQueueDisabled    = client.ErrQueueDisabled
	ErrFrozen           = client.ErrFrozen
	ErrNoPull           = client.ErrNoPull
	ErrSetIncomplete    = client.ErrSetIncomplete
	ErrStoreMoved       = client.ErrStoreMoved
	ErrLoading          = client.ErrLoading
	ErrBusy             = client.ErrBusy
	ErrRedisFull        = client.ErrRedisFull
	ErrCannotSave       = client.ErrCannotSave
	ErrTooFewReplicas   = client.ErrTooFewReplicas
	ErrTooManyClients   = client.ErrTooManyClients
	ErrNoSuchCommand    = client.ErrNoSuchCommand
	ErrClusterDown      = client.ErrClusterDown
	ErrFailingOver      = client.ErrFailingOver
	ErrSlotMoving       = client.ErrSlotMoving
	ErrRedisTooOld      = client.ErrRedisTooOld
	ErrForked           = client.ErrForked
	ErrEncryptionKey    = client.ErrEncryptionKey
	ErrAuditFailed      = client.ErrAuditFailed
)

// LoadConfig is [client.LoadConfig]: it reads a settings file (YAML) and the environment.
func LoadConfig(path string) (Config, error) { return LoadConfigOver(Config{}, path) }

// LoadConfigOver is [client.LoadConfigOver]: [LoadConfig] for a program that has settings of its own.
func LoadConfigOver(defaults Config, path string) (Config, error) {
	if defaults.Locking.KeyFormat == "" && release.KeyFormat != KeysCurrent {
		defaults.Locking.KeyFormat = release.KeyFormat
	}
	return client.LoadConfigOver(defaults, path)
}

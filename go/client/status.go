package client

import (
	"encoding/json"
	"math"
	"time"
)

// Status is what an operator sees: mode, counters since the start, warnings, and the state of hybrid mode. The first six fields are those of
// the original specification.
type Status struct {
	Mode            Mode         `json:"mode"`
	EnhancedEnabled bool         `json:"enhanced_enabled"`
	LegacyOps       uint64       `json:"legacy_ops"`      // operations that the legacy store answered
	EnhancedOps     uint64       `json:"enhanced_ops"`    // operations that Redis answered
	FallbackActive  bool         `json:"fallback_active"` // whether the local store decides in Redis's place
	CircuitState    CircuitState `json:"circuit_state"`
	FallbackOps     uint64       `json:"fallback_ops"` // operations that the local store answered in Redis's place
	Errors          uint64       `json:"errors"`       // operations that ended with an error
	Version         string       `json:"version"`
	Instance        string       `json:"instance,omitempty"`

	AtRest AtRest `json:"at_rest,omitzero"` // which stores hold values in clear

	QueueRepos []string `json:"queue_repos,omitempty"` // patterns of the repositories that have a queue; none where there is no queue

	// Hybrid only.
	Cause          string     `json:"cause,omitempty"`           // why Redis is not asked
	Since          UnixMicro  `json:"since,omitempty"`           // since when it is asked, or is not
	NextProbe      UnixMicro  `json:"next_probe,omitempty"`      // when Redis is probed next; zero unless the breaker is open
	Armed          bool       `json:"armed,omitempty"`           // whether the local store may grant while Redis is away
	UnarmedBecause string     `json:"unarmed_because,omitempty"` // why not
	JournalLength  int        `json:"journal_length,omitempty"`  // keys that Redis does not know of yet
	Conflicts      []Conflict `json:"conflicts,omitempty"`       // locks that both stores granted
	LastRecovery   *Recovery  `json:"last_recovery,omitempty"`   // the last time that both stores were brought together
	Fallbacks      []Fallback `json:"fallbacks,omitempty"`       // the last times in which the local store decided, the newest last
	HostStore      *HostStore `json:"host_store,omitempty"`      // the BoltDB file, kept as a copy

	LastChange *Change       `json:"last_change,omitempty"` // of mode, settings or store, since the process began
	Shadow     *ShadowStatus `json:"shadow,omitempty"`      // nil without one

	Warnings []string `json:"warnings"` // conditions that endanger a promise
}

// CircuitState is whether Redis is asked, in hybrid mode.
type CircuitState string

// The states.
const (
	CircuitClosed   CircuitState = "closed"    // Redis is asked
	CircuitOpen     CircuitState = "open"      // it is not
	CircuitHalfOpen CircuitState = "half-open" // only to see whether it can be asked again
	CircuitDisabled CircuitState = "disabled"  // strict and native mode have no breaker
)

// Conflict is a lock that both stores granted: the pull in Redis holds it, the local one is set aside.
type Conflict struct {
	Key       string    `json:"key"`
	LocalPull *int      `json:"local_pull,omitempty"` // nil for a command's lock
	RedisPull *int      `json:"redis_pull,omitempty"`
	At        UnixMicro `json:"at"` // when it was found
}

// Recovery is what bringing both stores together did, in keys.
type Recovery struct {
	At         UnixMicro `json:"at"`
	DurationMS uint64    `json:"duration_ms"`
	Pushed     uint64    `json:"pushed"`   // decided here while Redis was away, and now in Redis
	Restored   uint64    `json:"restored"` // lost by Redis, and now back there
	Adopted    uint64    `json:"adopted"`  // taken from Redis
	Conflicts  uint64    `json:"conflicts"`
}

// Fallback is a time, since the start, in which the local store decided.
type Fallback struct {
	Since    UnixMicro `json:"since"`
	Until    UnixMicro `json:"until,omitempty"` // zero: it goes on
	Cause    string    `json:"cause"`
	Recovery *Recovery `json:"recovery,omitempty"` // what was done at its end
}

// HostStore is how the BoltDB file stands that hybrid mode keeps as a copy.
type HostStore struct {
	Followed       bool   `json:"followed"`               // whether it is kept up to date
	Error          string `json:"error,omitempty"`        // why it is not, or why it does not take what it lacks
	NotBelieved    string `json:"not_believed,omitempty"` // why its content was replaced at the start
	Refused        int    `json:"refused"`                // entries that it refuses, and lacks
	ReleasedBefore int    `json:"released_before"`        // locks released there before the start, in strict mode or by a stock server
	TakenBefore    int    `json:"taken_before"`           // locks taken there before the start
}

// UnixMicro is a time as the library writes it: microseconds since 1970.
type UnixMicro int64

// Forever is a time without an end: a lock is kept until all of a set is free.
const Forever UnixMicro = math.MaxInt64

// UnmarshalJSON reads a time; what is too large for Go is [Forever].
func (u *UnixMicro) UnmarshalJSON(text []byte) error {
	var micros uint64
	if json.Unmarshal(text, &micros) == nil && micros > math.MaxInt64 {
		*u = Forever
		return nil
	}
	return json.Unmarshal(text, (*int64)(u))
}

// Time is the same for a person.
func (u UnixMicro) Time() time.Time { return time.UnixMicro(int64(u)) }

// AtRest tells which of the stores in use hold values in clear and which hold them sealed: each is "clear", "sealed" or, in clear but for the
// credentials of clone URLs, "credentials_sealed", or empty if there is no such store.
type AtRest struct {
	Encrypted bool   `json:"encrypted"`          // whether all of them are sealed
	Embedded  string `json:"embedded,omitempty"` // the embedded store with its journal
	BoltDB    string `json:"boltdb,omitempty"`   // Atlantis's file, which stock must be able to read
	Redis     string `json:"redis,omitempty"`    // which stock must be able to read
}

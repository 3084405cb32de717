package atlock

// Status is what an operator sees: mode, counters since the start, warnings, and the state of hybrid mode.
type Status struct {
	Version         string   `json:"version"`
	Mode            string   `json:"mode"`
	EnhancedEnabled bool     `json:"enhanced_enabled"`
	Instance        string   `json:"instance,omitempty"`
	LegacyOps       uint64   `json:"legacy_ops"`   // operations that the legacy store answered
	EnhancedOps     uint64   `json:"enhanced_ops"` // operations that Redis answered
	FallbackOps     uint64   `json:"fallback_ops"` // operations that the local store answered in Redis's place
	Errors          uint64   `json:"errors"`       // operations that ended with an error
	Warnings        []string `json:"warnings"`     // conditions that endanger a promise

	// Hybrid only.
	FallbackActive bool       `json:"fallback_active"`           // the local store decides in Redis's place
	CircuitState   string     `json:"circuit_state,omitempty"`   // closed, open or half-open
	Cause          string     `json:"cause,omitempty"`           // why Redis is not asked
	Since          uint64     `json:"since,omitempty"`           // since when, microseconds since 1970
	Armed          bool       `json:"armed,omitempty"`           // the local store may grant while Redis is away
	UnarmedBecause string     `json:"unarmed_because,omitempty"` // why it may not
	JournalLength  int        `json:"journal_length,omitempty"`  // keys decided here that Redis does not know of yet
	Conflicts      []Conflict `json:"conflicts,omitempty"`       // locks that both stores granted
	LastRecovery   *Recovery  `json:"last_recovery,omitempty"`   // the last time both stores were brought together
}

// Conflict is a lock that Redis and the local store granted to different pulls. Redis's counts.
type Conflict struct {
	Key       string `json:"key"`
	LocalPull *int   `json:"local_pull,omitempty"` // nil for a command's lock
	RedisPull *int   `json:"redis_pull,omitempty"`
	At        uint64 `json:"at"` // microseconds since 1970
}

// Recovery tells what was done to bring both stores together.
type Recovery struct {
	At         uint64 `json:"at"` // microseconds since 1970
	DurationMS uint64 `json:"duration_ms"`
	Pushed     uint64 `json:"pushed"`    // keys decided here that Redis took over
	Restored   uint64 `json:"restored"`  // keys that Redis had lost and got back
	Adopted    uint64 `json:"adopted"`   // keys that the local store took over
	Conflicts  uint64 `json:"conflicts"` // keys that both had granted
}

// Health tells whether the stores of the mode answer.
type Health struct {
	// Overall is healthy; degraded if locks are granted, but not as they should be; unhealthy if none can be granted.
	Overall      string       `json:"overall"`
	Enhanced     *StoreHealth `json:"enhanced,omitempty"` // Redis; nil in strict mode
	Legacy       *StoreHealth `json:"legacy,omitempty"`   // the legacy store; nil in native mode
	CircuitState string       `json:"circuit_state"`      // as in Status, or disabled where there is no breaker
}

// StoreHealth tells how a store answered last.
type StoreHealth struct {
	Healthy        bool    `json:"healthy"`
	ResponseTimeMS float64 `json:"response_time"`
	Error          string  `json:"error,omitempty"`
}

// MetricsContentType is the content type of what (*Database).Metrics returns.
const MetricsContentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

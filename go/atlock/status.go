package atlock

// Status is what an operator sees: mode, counters since the start, warnings.
type Status struct {
	Version         string   `json:"version"`
	Mode            string   `json:"mode"`
	EnhancedEnabled bool     `json:"enhanced_enabled"`
	Instance        string   `json:"instance,omitempty"`
	LegacyOps       uint64   `json:"legacy_ops"`   // operations that the legacy store answered
	EnhancedOps     uint64   `json:"enhanced_ops"` // operations that Redis answered
	FallbackOps     uint64   `json:"fallback_ops"` // operations that the local store answered in Redis\'s place
	Errors          uint64   `json:"errors"`       // operations that ended with an error
	Warnings        []string `json:"warnings"`     // conditions that endanger a promise
}

// Health tells whether the store that decides answers, and how fast.
type Health struct {
	Overall        string  `json:"overall"` // healthy or unhealthy
	Store          string  `json:"store"`   // legacy or enhanced
	ResponseTimeMS float64 `json:"response_time_ms"`
	Error          string  `json:"error,omitempty"`
}

// MetricsContentType is the content type of what (*Database).Metrics returns.
const MetricsContentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

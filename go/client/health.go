package client

// HealthState is whether locks can be granted, and as they should be.
type HealthState string

// The states.
const (
	Healthy   HealthState = "healthy"
	Degraded  HealthState = "degraded"  // locks are granted, but not as they should be
	Unhealthy HealthState = "unhealthy" // no lock can be granted
)

// Health tells whether the stores answer, and how fast. In hybrid mode it is what the last probe of each saw.
type Health struct {
	Overall      bool         `json:"overall"`  // whether locks can be granted
	State        HealthState  `json:"state"`    // [Healthy], [Degraded] or [Unhealthy]
	Headline     string       `json:"headline"` // who decides now, or that no lock is granted, and why
	Enhanced     *StoreHealth `json:"enhanced,omitempty"`
	Legacy       *StoreHealth `json:"legacy,omitempty"`
	CircuitState CircuitState `json:"circuit_state"`
}

// StoreHealth is how a store answered last; nil for a store that the mode does not use.
type StoreHealth struct {
	Healthy        bool    `json:"healthy"`
	ResponseTime   string  `json:"response_time"` // with its unit, for example 15ms
	ResponseTimeMS float64 `json:"response_time_ms"`
	Error          string  `json:"error,omitempty"`
}

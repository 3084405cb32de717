package client

// Health tells whether the stores answer, and how fast. In hybrid mode it is what the last probe of each saw.
type Health struct {
	Overall      string       `json:"overall"`  // healthy, degraded (locks are granted, but not as they should be) or unhealthy
	Headline     string       `json:"headline"` // who decides now, or that no lock is granted, and why
	Enhanced     *StoreHealth `json:"enhanced,omitempty"`
	Legacy       *StoreHealth `json:"legacy,omitempty"`
	CircuitState string       `json:"circuit_state"` // closed, open or half-open; disabled in strict and native mode
}

// StoreHealth is how a store answered last; nil for a store that the mode does not use.
type StoreHealth struct {
	Healthy        bool    `json:"healthy"`
	ResponseTimeMS float64 `json:"response_time"`
	Error          string  `json:"error,omitempty"`
}

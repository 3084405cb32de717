package main

import "testing"

// The port that an error suggests is one that any user may listen on, and leaves room for the Git host's.
func TestOtherPort(t *testing.T) {
	for port, want := range map[int]int{80: usualPort, 4141: 4241, 65434: 65534, 65435: usualPort, 65535: usualPort} {
		if got := otherPort(port); got != want {
			t.Errorf("instead of %d it suggests %d, not %d", port, got, want)
		}
	}
}

// Whoever changes the mode sees who decides now.
func TestStatusString(t *testing.T) {
	for want, seen := range map[string]status{
		"Redis decides (breaker closed)":                             {Mode: "hybrid", CircuitState: "closed"},
		"Redis is not asked (breaker open): the local store decides": {Mode: "hybrid", CircuitState: "open", FallbackActive: true},
		"Redis alone decides (native mode)":                          {Mode: "native", CircuitState: "disabled"},
		"The embedded store alone decides (strict mode)":             {Mode: "strict", CircuitState: "disabled"},
	} {
		if got := seen.String(); got != want {
			t.Errorf("it says %q, not %q", got, want)
		}
	}
}

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

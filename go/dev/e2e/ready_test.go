//go:build e2e

package e2e

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestAServerThatGrantsNoLockIsNotReady asks Atlantis's own /readyz and the health while Redis, which decides alone, goes and comes back.
func TestAServerThatGrantsNoLockIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, native)
	paths := []string{"/readyz", "/api/locks/health"}
	if isBefore("v0.46.0") { // which have no /readyz
		paths = paths[1:]
	}
	wantBoth := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(answerLimit); ; time.Sleep(50 * time.Millisecond) {
			codes := make([]int, len(paths))
			for i, path := range paths {
				code, body, err := w.server.Get(t.Context(), path)
				if err != nil {
					t.Fatal(path, err, body)
				}
				codes[i] = code
			}
			if !slices.ContainsFunc(codes, func(code int) bool { return code != want }) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v answer %v, want %d", paths, codes, want)
			}
		}
	}
	wantBoth(http.StatusOK)
	w.redis.Kill()
	wantBoth(http.StatusServiceUnavailable)
	w.redis.Restart(t)
	wantBoth(http.StatusOK)
}

//go:build e2e

package e2e

import (
	"net/http"
	"testing"
	"time"
)

// TestAServerThatGrantsNoLockIsNotReady asks Atlantis's own /readyz and the health while Redis, which decides alone, goes and comes back.
func TestAServerThatGrantsNoLockIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, native)
	wantBoth := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(answerLimit); ; time.Sleep(50 * time.Millisecond) {
			var codes [2]int
			for i, path := range []string{"/readyz", "/api/locks/health"} {
				code, body, err := w.server.Get(t.Context(), path)
				if err != nil {
					t.Fatal(path, err, body)
				}
				codes[i] = code
			}
			if codes == [2]int{want, want} {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("/readyz and the health answer %v, want %d", codes, want)
			}
		}
	}
	wantBoth(http.StatusOK)
	w.redis.Kill()
	wantBoth(http.StatusServiceUnavailable)
	w.redis.Restart(t)
	wantBoth(http.StatusOK)
}

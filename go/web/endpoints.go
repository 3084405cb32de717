package web

import (
	"encoding/json"
	"net/http"

	"github.com/atlock/atlock/go/atlock"
)

// openStatus is what everybody hears of a status: the fields of the original specification. None is an address, an error, a key or a version.
type openStatus struct {
	Mode            atlock.Mode         `json:"mode"`
	EnhancedEnabled bool                `json:"enhanced_enabled"`
	LegacyOps       uint64              `json:"legacy_ops"`
	EnhancedOps     uint64              `json:"enhanced_ops"`
	FallbackActive  bool                `json:"fallback_active"`
	CircuitState    atlock.CircuitState `json:"circuit_state"`
}

// openHealth is the same of a health.
type openHealth struct {
	Overall      bool                `json:"overall"`
	Enhanced     *openStore          `json:"enhanced,omitempty"`
	Legacy       *openStore          `json:"legacy,omitempty"`
	CircuitState atlock.CircuitState `json:"circuit_state"`
}

type openStore struct {
	Healthy      bool   `json:"healthy"`
	ResponseTime string `json:"response_time"`
}

func openStoreOf(store *atlock.StoreHealth) *openStore {
	if store == nil {
		return nil
	}
	return &openStore{store.Healthy, store.ResponseTime}
}

// statusHandler answers with the status. Who logged in hears all of it: counters, warnings, the state of hybrid mode.
func statusHandler(database Database, known login) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := database.Status()
		switch {
		case err != nil:
			writeError(w, err, known.has(r))
		case known.has(r):
			writeJSON(w, http.StatusOK, cleanStatus(status))
		default:
			writeJSON(w, http.StatusOK, openStatus{
				status.Mode, status.EnhancedEnabled, status.LegacyOps, status.EnhancedOps, status.FallbackActive, status.CircuitState,
			})
		}
	})
}

// healthHandler answers 503 if no lock can be granted.
func healthHandler(database Database, known login) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		health, err := database.Health()
		if err != nil {
			writeError(w, err, known.has(r))
			return
		}
		code := http.StatusOK
		if !health.Overall {
			code = http.StatusServiceUnavailable
		}
		if known.has(r) {
			writeJSON(w, code, cleanHealth(health))
			return
		}
		writeJSON(w, code, openHealth{health.Overall, openStoreOf(health.Enhanced), openStoreOf(health.Legacy), health.CircuitState})
	})
}

// writeError answers that the locking layer itself does not: it is closed while the server stops. Everybody hears that, and who logged in why.
func writeError(w http.ResponseWriter, err error, isKnown bool) {
	text := "the locking layer does not answer"
	if isKnown {
		text = withoutCredentials(err.Error())
	}
	writeJSON(w, http.StatusServiceUnavailable, map[string]string{"error": text})
}

func writeJSON(w http.ResponseWriter, code int, answer any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // it fails if the client has left
}

package web

import (
	"encoding/json"
	"net/http"
)

// statusHandler answers with the status: mode, counters, warnings, the state of hybrid mode.
func statusHandler(database Database) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		status, err := database.Status()
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, cleanStatus(status))
	})
}

// healthHandler answers 503 if no lock can be granted.
func healthHandler(database Database) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		health, err := database.Health()
		health = cleanHealth(health)
		switch {
		case err != nil:
			writeError(w, err)
		case !health.Overall:
			writeJSON(w, http.StatusServiceUnavailable, health)
		default:
			writeJSON(w, http.StatusOK, health)
		}
	})
}

// writeError answers that the locking layer itself does not: it is closed while the server stops.
func writeError(w http.ResponseWriter, err error) {
	writeJSON(w, http.StatusServiceUnavailable, map[string]string{"error": withoutCredentials(err.Error())})
}

func writeJSON(w http.ResponseWriter, code int, answer any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // it fails if the client has left
}

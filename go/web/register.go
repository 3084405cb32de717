package web

import (
	"context"
	"net/http"
	"strings"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// Paths of the endpoints, below the base path that Atlantis is reached at.
const (
	StatusPath  = "/api/locks/compatibility/status"
	HealthPath  = "/api/locks/health"
	MetricsPath = "/metrics"
	PagePath    = "/locking"
)

// Database is what is shown of an [atlock.Database].
type Database interface {
	List() ([]models.ProjectLock, error)
	Status() (atlock.Status, error)
	Health() (atlock.Health, error)
	Metrics() (string, error)
	LockInfo(keys []string) ([]atlock.LockInfo, error)
}

var _ Database = (*atlock.Database)(nil)

// Options is what the handlers have to know of the server.
type Options struct {
	// BasePath is the path of Atlantis's URL, for example "/atlantis"; empty if it is reached at the root of its host. As Atlantis's
	// own, the routes are without it, and the links with it: the proxy in front cuts it off.
	BasePath string
	// AtlantisVersion stands in the page's corner.
	AtlantisVersion string
}

// Register adds the endpoints to Atlantis's router, and a link to the page to Atlantis's own. Call it after server.NewServer and
// before (*server.Server).Start, which adds Atlantis's routes: what is added first is found first, so that /metrics has both.
//
// Until the context ends, a goroutine looks at the health every few seconds, for the page's chart.
func Register(ctx context.Context, router *mux.Router, database Database, options Options) {
	options.BasePath = strings.TrimRight(options.BasePath, "/")
	history := newHistory()
	go history.record(ctx, database)

	get := func(path string, handler http.Handler) {
		router.Handle(path, guarded(handler)).Methods(http.MethodGet, http.MethodHead)
	}
	get(StatusPath, statusHandler(database))
	get(HealthPath, healthHandler(database))
	get(MetricsPath, metricsHandler(database))
	get(PagePath, &page{database: database, history: history, options: options})
	get(PagePath+"/{asset}", assetHandler())
	router.Use(linked(database, history, options))
}

// guarded sets the headers that keep a page from being framed, guessed at or kept, and from loading anything that is not this
// server's.
func guarded(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		handler.ServeHTTP(w, r)
	})
}

package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// Paths of the endpoints, below the base path that Atlantis is reached at.
const (
	StatusPath    = "/api/locks/compatibility/status"
	HealthPath    = "/api/locks/health"
	QueuePath     = "/api/locks/queue"
	LeavePath     = "/api/locks/queue/leave"
	ExplainPath   = "/api/locks/explain"
	StatsPath     = "/api/locks/stats"
	CheckPath     = "/api/locks/check"
	FreezesPath   = "/api/locks/freezes"
	DeadlocksPath = "/api/locks/deadlocks"
	StalePath     = "/api/locks/stale"
	MetricsPath   = "/metrics"
	PagePath      = "/locking"
	DetailPath    = PagePath + "/lock"
)

// Database is what is shown of an [atlock.Database], and changed.
type Database interface {
	List() ([]models.ProjectLock, error)
	Status() (atlock.Status, error)
	Health() (atlock.Health, error)
	Metrics() (string, error)
	LockInfo(keys []string) ([]atlock.LockInfo, error)
	CheckCommandLock(name command.Name) (*command.Lock, error)

	Queues(repoFullName string) (map[string][]atlock.QueuedPull, error)
	Explain(key string) (atlock.Explained, error)
	ExplainPull(repoFullName string, pull atlock.PullID) ([]atlock.Explained, error)
	CheckKey(key string, pull atlock.PullID, token atlock.FencingToken) (atlock.Checked, error)
	Enhanced() atlock.EnhancedLocker
	Freezes() ([]atlock.Freeze, error)
	Deadlocks() ([]atlock.Deadlock, error)

	Leave(repoFullName string, pull atlock.PullID, key string) (int, error)
	Freeze(request atlock.FreezeRequest) (atlock.Freeze, error)
	Thaw(id string) (*atlock.Freeze, error)

	// As is the same database, used by somebody: for the audit trail.
	As(actor atlock.Actor) *atlock.Database
}

var _ Database = (*atlock.Database)(nil)

// Options is what the handlers have to know of the server.
type Options struct {
	// BasePath is the path of Atlantis's URL, for example "/atlantis"; empty if it is reached at the root of its host. As Atlantis's
	// own, the routes are without it, and the links with it: the proxy in front cuts it off.
	BasePath string
	// AtlantisVersion stands in the page's corner.
	AtlantisVersion string
	// APISecret is Atlantis's --api-secret. Who sends it may see all that the endpoints have, and change queues and freezes; without one nobody may
	// change anything by them.
	APISecret []byte
	// Origin is scheme and host of Atlantis's URL: forms from there are the page's own, whatever a proxy in front calls this server.
	Origin string
	// WebAuth: Atlantis asks for a user and a password, which are these.
	WebAuth                  bool
	WebUsername, WebPassword string
	// Actions is what the page changes in Atlantis; nil: nothing.
	Actions Actions
	// Stopping is closed once the server begins to stop: pages are told of changes no more, since the server would wait for them. nil: only the
	// context of [Register] ends that.
	Stopping <-chan struct{}
	// AuditFile tells which file the audit trail is written to now; nil, or an empty name: there is none. Where Atlantis asks nobody for a password,
	// nobody is shown what is in it.
	AuditFile func() string
}

// Register adds the endpoints to Atlantis's router, and a link to the page to Atlantis's own. Call it after server.NewServer and
// before (*server.Server).Start, which adds Atlantis's routes: what is added first is found first, so that /metrics has both.
//
// Until the context ends, a goroutine looks at the health every few seconds, for the page's chart. It is an error if the options' origin is
// none.
func Register(ctx context.Context, router *mux.Router, database Database, options Options) error {
	options.BasePath = strings.TrimRight(options.BasePath, "/")
	secret, known := options.APISecret, newLogin(options)
	options.APISecret, options.WebUsername, options.WebPassword = nil, "", "" // no page has them
	shown := database
	if !options.WebAuth {
		shown = discreet{database}
	}
	history := newHistory()
	go history.record(ctx, shown)

	get := func(path string, handler http.Handler) {
		router.Handle(path, guarded(handler)).Methods(http.MethodGet, http.MethodHead)
	}
	// What a load balancer asks for waits for no other question.
	probes, questions := newGate(questionsAtOnce, mostWait), newGate(questionsAtOnce, mostWait)
	ask := func(path string, handler http.Handler) { get(path, known.only(questions.admitted(handler))) }
	get(StatusPath, known.everybody(probes.admitted(statusHandler(database, known))))
	get(HealthPath, known.everybody(probes.admitted(healthHandler(database, known))))
	get(CheckPath, known.everybody(questions.admitted(checkHandler(database, known))))
	ask(QueuePath, queueHandler(database))
	ask(ExplainPath, explainHandler(database))
	ask(StatsPath, statsHandler(database))
	ask(FreezesPath, freezesHandler(database))
	ask(DeadlocksPath, deadlocksHandler(database))
	ask(StalePath, staleHandler(options.Actions))
	metrics := newSharing(metricsHandler(database), metricsFormat)
	page := newSharing(&page{database: shown, history: history, options: options}, pageName)
	get(MetricsPath, metrics)
	get(PagePath, page)
	streaming := newStreams(ctx, options.Stopping, watcher{database: shown, history: history, actions: options.Actions, every: lookEvery}, page.forget)
	router.Handle(StreamPath, guarded(streaming)).Methods(http.MethodGet)
	get(DetailPath, questions.admitted(detail{shown, options}))
	get(PagePath+"/{asset}", newGate(questionsAtOnce, mostWait).admitted(assetHandler()))
	change := func(method, path string, handler http.Handler) {
		router.Handle(path, guarded(withSecret(secret, handler))).Methods(method)
	}
	change(http.MethodPost, LeavePath, leaveHandler(database))
	change(http.MethodPost, FreezesPath, freezeHandler(database))
	change(http.MethodDelete, FreezesPath, thawHandler(database))
	router.Use(linked(shown, history, options), denying(database), forgettingAfterChanges(metrics, page))
	return registerForms(router, shown, options)
}

// registerForms adds what the page's forms are sent to.
func registerForms(router *mux.Router, database Database, options Options) error {
	forms := map[string]func(http.ResponseWriter, *http.Request, url.Values) error{
		FreezePath: freezeByForm(database, options),
		ThawPath:   thawByForm(database, options),
	}
	if options.Actions != nil {
		forms[ReleasePath] = releasing{database, options}.serve
		forms[UnlockAppliesPath] = unlockApplies(options)
	}
	for path, act := range forms {
		handler, err := acting(options, act)
		if err != nil {
			return err
		}
		router.Handle(path, handler).Methods(http.MethodPost)
	}
	return nil
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

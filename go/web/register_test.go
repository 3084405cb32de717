package web_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/controllers"
	"github.com/runatlantis/atlantis/server/controllers/web_templates"
	"github.com/runatlantis/atlantis/server/core/config/valid"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/jobs"
	"github.com/runatlantis/atlantis/server/logging"
	tallyprom "github.com/uber-go/tally/v4/prometheus"
	"github.com/urfave/negroni/v3"

	"github.com/atlock/atlock/go/web"
)

// database is what both Atlantis and the handlers need.
type database interface {
	db.Database
	web.Database
}

// serveAtlantis serves Atlantis's own routes, by the unmodified release's own code, with the handlers added; change may make it
// differ before that.
func serveAtlantis(t testing.TB, database database, change ...func(*server.Server)) *httptest.Server {
	t.Helper()
	return serveActing(t, database, nil, change...)
}

// serveActing is serveAtlantis with a page that releases locks.
func serveActing(t testing.TB, database database, actions web.Actions, change ...func(*server.Server)) *httptest.Server {
	t.Helper()
	logger := logging.NewNoopLogger(t)
	atlantis := &server.Server{
		AtlantisVersion:         "0.47.1",
		AtlantisURL:             &url.URL{Scheme: "http", Host: "127.0.0.1"},
		Router:                  mux.NewRouter(),
		Logger:                  logger,
		Locker:                  locking.NewClient(database),
		ApplyLocker:             locking.NewApplyClient(database, false, false),
		IndexTemplate:           web_templates.IndexTemplate,
		ProjectCmdOutputHandler: &jobs.NoopProjectOutputHandler{},
		WebAuthentication:       true,
		WebUsername:             webUser,
		WebPassword:             webPassword,
	}
	for _, change := range change {
		change(atlantis)
	}
	atlantis.LocksController = &controllers.LocksController{
		AtlantisURL: atlantis.AtlantisURL, Locker: atlantis.Locker, Logger: logger, ApplyLocker: atlantis.ApplyLocker,
		LockDetailTemplate: web_templates.LockTemplate, Database: database,
	}
	err := web.Register(t.Context(), atlantis.Router, database, web.Options{
		BasePath: atlantis.AtlantisURL.Path, AtlantisVersion: atlantis.AtlantisVersion, WebAuth: atlantis.WebAuthentication,
		WebUsername: atlantis.WebUsername, WebPassword: atlantis.WebPassword, APISecret: []byte(apiSecret),
		Origin: "https://atlantis.example.com", Actions: actions,
	})
	if err != nil {
		t.Fatal(err)
	}
	atlantis.SetupRoutes()
	handler := negroni.New(server.NewRequestLogger(atlantis))
	handler.UseHandler(atlantis.Router)
	listening := httptest.NewServer(handler)
	t.Cleanup(listening.Close)
	if atlantis.WebAuthentication {
		listening.Client().Transport = loggedIn{listening.Client().Transport}
	}
	return listening
}

const webUser, webPassword = "ops", "s3cr3t-password"

// loggedIn sends the user and the password of Atlantis's basic auth, as a browser does after it has asked for them.
type loggedIn struct{ http.RoundTripper }

func (l loggedIn) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth(webUser, webPassword)
	return l.RoundTripper.RoundTrip(r)
}

// get asks for a path, and tells the answer's code, headers and text.
func get(t testing.TB, served *httptest.Server, path string) (*http.Response, string) {
	t.Helper()
	response, err := served.Client().Get(served.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	return response, body(t, response)
}

// body is the text of an answer, to its end.
func body(t testing.TB, response *http.Response) string {
	t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// must is get of a path that has to answer 200.
func must(t testing.TB, served *httptest.Server, path string) string {
	t.Helper()
	response, text := get(t, served, path)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", path, response.Status, text)
	}
	return text
}

func TestEndpointsOfEveryMode(t *testing.T) {
	for name, open := range modes(t) {
		t.Run(name, func(t *testing.T) {
			database := open(t)
			take(t, database, "acme/infra", "network", 7)
			served := serveAtlantis(t, database)

			var status struct {
				Mode    string `json:"mode"`
				Version string `json:"version"`
			}
			mode, _, _ := strings.Cut(name, " ")
			decode(t, must(t, served, web.StatusPath), &status)
			if status.Mode != mode || status.Version == "" {
				t.Errorf("the status is %+v", status)
			}
			var health struct {
				Overall  bool   `json:"overall"`
				State    string `json:"state"`
				Headline string `json:"headline"`
			}
			decode(t, must(t, served, web.HealthPath), &health)
			decides := "Redis decides"
			if mode == "strict" {
				decides = "The lock store decides"
			}
			if !health.Overall || health.State != "healthy" || health.Headline != decides {
				t.Errorf("the health is %+v", health)
			}
			if text := must(t, served, web.MetricsPath); !strings.Contains(text, "\natlock_info{") || !strings.Contains(text, "\ngo_goroutines ") {
				t.Errorf("the metrics are %s", text)
			}
			text := must(t, served, web.PagePath)
			for _, wanted := range []string{mode, "acme/infra", "#7", "<code>network</code>", "ada"} {
				if !strings.Contains(text, wanted) {
					t.Errorf("the page does not have %q", wanted)
				}
			}
			text = must(t, served, web.DetailPath+"?id=acme%2Finfra%2Fnetwork%2Fdefault%2F")
			// Atlantis's own store has no fencing tokens.
			token, stock := regexp.MustCompile(`class="token">\d{16}<`), strings.Contains(name, "boltdb") || strings.Contains(name, "passed in")
			if token.MatchString(text) == stock || strings.Contains(text, `class="token">none<`) != stock {
				t.Errorf("the token is missing, or none is: %s", text)
			}
			for _, asset := range []string{"style.css", "script.js", "lock.js", "link.css"} {
				must(t, served, web.PagePath+"/"+asset)
			}
			if response, _ := get(t, served, web.PagePath+"/locking.html"); response.StatusCode != http.StatusNotFound {
				t.Errorf("the template is served: %s", response.Status)
			}
		})
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// Where Atlantis's own configuration asks for Prometheus, one address has both, and its own address stays.
func TestMetricsBesideAtlantissOwn(t *testing.T) {
	for _, endpoint := range []string{"/metrics", "/elsewhere"} {
		t.Run(endpoint, func(t *testing.T) {
			served := serveAtlantis(t, openSled(t), func(s *server.Server) {
				reporter := tallyprom.NewReporter(tallyprom.Options{OnRegisterError: func(error) {}})
				reporter.AllocateCounter("atlantis_own_metric", nil).ReportCount(1)
				s.StatsReporter = reporter
				s.CommandRunner = &events.DefaultCommandRunner{GlobalCfg: valid.GlobalCfg{
					Metrics: valid.Metrics{Prometheus: &valid.Prometheus{Endpoint: endpoint}},
				}}
			})
			if text := must(t, served, web.MetricsPath); !strings.Contains(text, "\natlock_info{") || !strings.Contains(text, "\natlantis_own_metric ") {
				t.Errorf("the metrics lack something: %s", text)
			}
			if text := must(t, served, endpoint); !strings.Contains(text, "\natlantis_own_metric ") {
				t.Errorf("Atlantis's own are gone: %s", text)
			}
		})
	}
}

// Nothing changes anything, whatever the method.
func TestOnlyReading(t *testing.T) {
	database := openSled(t)
	take(t, database, "acme/infra", "network", 7)
	served := serveAtlantis(t, database)
	for _, path := range []string{
		web.StatusPath, web.HealthPath, web.MetricsPath, web.PagePath, web.PagePath + "/style.css", web.QueuePath, web.ExplainPath, web.StatsPath,
		web.CheckPath, web.DeadlocksPath, web.StalePath, web.DetailPath, web.StreamPath,
	} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			request, err := http.NewRequestWithContext(t.Context(), method, served.URL+path, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			response, err := served.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %s", method, path, response.Status)
			}
		}
	}
	if locks, err := database.List(); err != nil || len(locks) != 1 {
		t.Errorf("%d locks are left, %v", len(locks), err)
	}
}

func TestSecurityHeaders(t *testing.T) {
	served := serveAtlantis(t, openSled(t))
	for _, path := range []string{
		web.StatusPath, web.HealthPath, web.MetricsPath, web.PagePath, web.PagePath + "/script.js", web.StatsPath, web.QueuePath,
	} {
		response, text := get(t, served, path)
		for name, wanted := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Cache-Control": "no-store", "Referrer-Policy": "same-origin",
		} {
			if got := response.Header.Get(name); !strings.HasPrefix(got, wanted) {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if !strings.Contains(response.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s may be framed", path)
		}
		if path == web.PagePath && (strings.Contains(text, "<style") || strings.Contains(text, "style=") || strings.Contains(text, "<script>") || strings.Contains(text, " onclick")) {
			t.Error("the page has what its own policy forbids")
		}
	}
}

func TestHealthAnswers503WhenNoLockCanBeGranted(t *testing.T) {
	database := openSled(t)
	served := serveAtlantis(t, database)
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	if response, text := get(t, served, web.HealthPath); response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, "unhealthy") {
		t.Errorf("%s: %s", response.Status, text)
	}
	// The rest still answers something.
	for _, path := range []string{web.StatusPath, web.MetricsPath, web.PagePath} {
		if response, text := get(t, served, path); response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %s: %s", path, response.Status, text)
		}
	}
}

// The link is on Atlantis's own page, and takes nothing from it.
func TestLinkOnAtlantissOwnPage(t *testing.T) {
	database := openSled(t)
	take(t, database, "acme/infra", "network", 7)
	for base, wanted := range map[string]string{
		"": `<link rel="stylesheet" href="/locking/link.css"><p class="title-heading small locking-good"><a href="/locking">Locking: The lock store decides</a></p>`,
		"/atlantis": `<link rel="stylesheet" href="/atlantis/locking/link.css"><p class="title-heading small locking-good"><a href="/atlantis/locking">` +
			`Locking: The lock store decides</a></p>`,
	} {
		served := serveAtlantis(t, database, func(s *server.Server) { s.AtlantisURL.Path = base })
		waitUntil(t, "the store was asked", func() bool { return !strings.Contains(must(t, served, "/"), "The stores were not asked yet") })
		response, text := get(t, served, "/")
		before, after, found := strings.Cut(text, wanted)
		if !found || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") {
			t.Fatalf("base %q: no link %q in %s", base, wanted, text)
		}
		var stock strings.Builder
		locks, err := locking.NewClient(database).List()
		if err != nil {
			t.Fatal(err)
		}
		lock := locks["acme/infra/network/default/"]
		err = web_templates.IndexTemplate.Execute(&stock, web_templates.IndexData{
			Locks: []web_templates.LockIndexData{{
				LockPath: "/lock?id=acme%252Finfra%252Fnetwork%252Fdefault%252F", RepoFullName: "acme/infra", PullNum: 7, Path: "network",
				Workspace: "default", LockedBy: "ada", TimeFormatted: lock.Time.Format("2006-01-02 15:04:05"),
			}},
			ApplyLock:       web_templates.ApplyLockData{GlobalApplyLockEnabled: true},
			AtlantisVersion: "0.47.1", CleanedBasePath: base,
		})
		if err != nil {
			t.Fatal(err)
		}
		if before+after != stock.String() {
			t.Errorf("base %q: without the link it is not Atlantis's own page: %s", base, text)
		}
		page := must(t, served, web.PagePath)
		for _, link := range []string{base + "/static/css/custom.css", base + "/locking/script.js", base + "/lock?id=", base + "/api/locks/health"} {
			if !strings.Contains(page, `"`+link) {
				t.Errorf("base %q: no %s on the page", base, link)
			}
		}
	}
}

// A row leads to Atlantis's own page of that very lock.
func TestARowLeadsToItsLock(t *testing.T) {
	database := openSled(t)
	take(t, database, "acme/infra", "a b/c?d=%2F&e", 7)
	served := serveAtlantis(t, database)
	_, rest, found := strings.Cut(must(t, served, web.PagePath), `<a href="/lock?id=`)
	if !found {
		t.Fatal("no lock on the page")
	}
	id, _, _ := strings.Cut(rest, `"`)
	text := must(t, served, "/lock?id="+id)
	if !strings.Contains(text, "acme/infra/a b/c?d=%2F&amp;e/default/") {
		t.Errorf("another page: %s", text)
	}
	// Which also shows why a discard was refused.
	const script = `<script src="/locking/lock.js" defer></script>`
	if strings.Count(text, script) != 1 || !strings.Contains(must(t, served, "/locking/lock.js"), "ajaxError") {
		t.Errorf("refusals are not shown: %s", text)
	}
}

// Pages that are none, or of another shape, pass through as they are.
func TestOtherPagesPassThrough(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for name, handler := range map[string]http.HandlerFunc{
		long:    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, long) },
		"short": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "short") },
		"":      func(http.ResponseWriter, *http.Request) {},
		insertionPoint + "e": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			_, _ = io.WriteString(w, insertionPoint+"e")
		},
		insertionPoint: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(insertionPoint)))
			_, _ = io.WriteString(w, insertionPoint)
		},
	} {
		router := mux.NewRouter()
		if err := web.Register(t.Context(), router, openSled(t), web.Options{}); err != nil {
			t.Fatal(err)
		}
		router.HandleFunc("/", handler)
		served := httptest.NewServer(router)
		if _, text := get(t, served, "/"); text != name {
			t.Errorf("%.50q became %.50q", name, text)
		}
		served.Close()
	}
}

const insertionPoint = `<p class="title-heading">atlantis</p>`

// The goroutine ends with the context.
func TestTheHistoryEndsWithTheServer(t *testing.T) {
	looked := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := web.Record(ctx, watched{openSled(t), looked})
	<-looked
	cancel()
	<-done
}

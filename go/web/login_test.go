package web_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

// telling is a database in hybrid mode whose every text is one that only an operator may see.
type telling struct{ *atlock.Database }

const internal = "Redis at redis.internal:6379: lua 5.1 errno 13 /var/lib/atlantis"

func (d telling) Status() (atlock.Status, error) {
	status, err := d.Database.Status()
	status.Mode, status.FallbackActive, status.CircuitState = atlock.ModeHybrid, true, atlock.CircuitOpen
	status.Version, status.Instance, status.Cause, status.UnarmedBecause = internal, internal, internal, internal
	status.Warnings = []string{"also told as the cause: " + internal, internal + " once", internal + " twice"}
	status.Fallbacks = []atlock.Fallback{{Since: 1, Cause: internal}}
	status.HostStore = &atlock.HostStore{Error: internal, NotBelieved: internal}
	status.Conflicts = []atlock.Conflict{{Key: "acme/infra/conflict/default/"}}
	status.Shadow = &atlock.ShadowStatus{Because: internal, Differences: []atlock.ShadowDifference{{Key: internal}}}
	return status, err
}

func (d telling) Health() (atlock.Health, error) {
	store := func() *atlock.StoreHealth {
		return &atlock.StoreHealth{ResponseTime: "1ms", ResponseTimeMS: 1, Error: internal}
	}
	return atlock.Health{
		Overall: true, State: atlock.Degraded, Headline: "The local store decides", Enhanced: store(), Legacy: store(), CircuitState: atlock.CircuitOpen,
	}, nil
}

// asking sends a request as nobody, or with what a person knows.
func asking(t *testing.T, served *httptest.Server, path string, know func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, served.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if know != nil {
		know(request)
	}
	client := http.Client{Transport: http.DefaultTransport}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body(t, response), response.Header
}

// Everybody hears the fields of the specification, and nothing else.
func TestWhatEverybodyHears(t *testing.T) {
	database := openQueue(t)
	take(t, database, "acme/infra", "network", 7)
	for name, change := range map[string]func(*server.Server){
		"with basic auth":    func(*server.Server) {},
		"without basic auth": func(s *server.Server) { s.WebAuthentication = false },
	} {
		t.Run(name, func(t *testing.T) {
			served := serveAtlantis(t, telling{database}, change)
			for path, fields := range map[string]string{
				web.StatusPath: "circuit_state enhanced_enabled enhanced_ops fallback_active legacy_ops mode",
				web.HealthPath: "circuit_state enhanced enhanced.healthy enhanced.response_time legacy legacy.healthy legacy.response_time overall",
			} {
				code, text, _ := asking(t, served, path, nil)
				if told := strings.Join(fieldsOf(t, text), " "); code != http.StatusOK || told != fields || strings.Contains(text, "redis.internal") {
					t.Errorf("%s: %d: %s\n%s", path, code, told, text)
				}
			}
			for _, path := range []string{
				web.QueuePath, web.ExplainPath + "?id=acme/infra/network/default/", web.StatsPath, web.FreezesPath, web.DeadlocksPath, web.StalePath,
			} {
				code, text, header := asking(t, served, path, nil)
				asks := header.Get("WWW-Authenticate") != ""
				if code != http.StatusUnauthorized || strings.Contains(text, "acme") || !strings.Contains(text, "log") || asks != (name == "with basic auth") {
					t.Errorf("%s: %d %v %s", path, code, header, text)
				}
			}
			id := "?id=" + url.QueryEscape("acme/infra/network/default/")
			for query, wanted := range map[string]int{id + "&pull=7": 200, id + "&pull=8": 409} {
				if code, text, _ := asking(t, served, web.CheckPath+query, nil); code != wanted || text != "" {
					t.Errorf("%s: %d %q", query, code, text)
				}
			}
		})
	}
}

// Who knows the secret of the API, or the password, hears all; who tries another is refused, and who tries none hears what everybody hears.
func TestWhoLogsInHearsAll(t *testing.T) {
	database := openQueue(t)
	take(t, database, "acme/infra", "network", 7)
	password := func(name, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, password) }
	}
	token := func(secret string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-Atlantis-Token", secret) }
	}
	both := serveAtlantis(t, telling{database})
	tokenOnly := serveAtlantis(t, telling{database}, func(s *server.Server) { s.WebAuthentication = false })
	const all, short, refused = "all", "short", "refused"
	for name, c := range map[string]struct {
		served *httptest.Server
		know   func(*http.Request)
		hears  string
	}{
		"the password":                      {both, password(webUser, webPassword), all},
		"the secret":                        {both, token(apiSecret), all},
		"the secret without basic auth":     {tokenOnly, token(apiSecret), all},
		"a password where nobody is asked":  {tokenOnly, password(webUser, webPassword), short},
		"no password where nobody is asked": {tokenOnly, password("", ""), short},
		"another password":                  {both, password(webUser, webPassword+"x"), refused},
		"another user":                      {both, password("", webPassword), refused},
		"another secret":                    {both, token(apiSecret + "x"), refused},
		"an empty secret":                   {both, token(""), short},
	} {
		code := map[string]int{all: http.StatusOK, short: http.StatusOK, refused: http.StatusUnauthorized}[c.hears]
		for _, path := range []string{web.StatusPath, web.HealthPath} {
			if got, text, _ := asking(t, c.served, path, c.know); strings.Contains(text, internal) != (c.hears == all) || got != code {
				t.Errorf("%s, %s: %d %s", name, path, got, text)
			}
		}
		want := http.StatusUnauthorized
		if c.hears == all {
			want = http.StatusOK
		}
		if got, text, _ := asking(t, c.served, web.QueuePath, c.know); got != want {
			t.Errorf("%s: %d %s", name, got, text)
		}
		want = http.StatusConflict
		if c.hears == refused {
			want = http.StatusUnauthorized
		}
		got, text, _ := asking(t, c.served, web.CheckPath+"?id="+url.QueryEscape("acme/infra/network/default/")+"&pull=8", c.know)
		if got != want || strings.Contains(text, `"num": 7`) != (c.hears == all) {
			t.Errorf("%s: %d %s", name, got, text)
		}
	}
}

// Without a secret nothing that is empty is one.
func TestWithoutAnySecretNobodyLogsIn(t *testing.T) {
	served := serve(t, linkedServer(t, telling{openQueue(t)}, ""))
	for _, know := range []func(*http.Request){
		nil, func(r *http.Request) { r.Header.Set("X-Atlantis-Token", "") }, func(r *http.Request) { r.SetBasicAuth("", "") },
	} {
		if code, text, _ := asking(t, served, web.StatusPath, know); code != http.StatusOK || strings.Contains(text, internal) {
			t.Errorf("%d: %s", code, text)
		}
		if code, text, _ := asking(t, served, web.QueuePath, know); code != http.StatusUnauthorized {
			t.Errorf("%d: %s", code, text)
		}
	}
}

// Atlantis's pages are everybody's where it has no basic auth: then they tell no addresses, reasons and versions.
func TestThePageOfAServerWithoutBasicAuth(t *testing.T) {
	database := openQueue(t)
	take(t, database, "acme/infra", "network", 7)
	open := serveAtlantis(t, telling{database}, func(s *server.Server) { s.WebAuthentication = false })
	for _, path := range []string{web.PagePath, "/"} {
		if _, text, _ := asking(t, open, path, nil); strings.Contains(text, "redis.internal") || !strings.Contains(text, "The local store decides") {
			t.Errorf("%s: %s", path, text)
		}
	}
	_, text, _ := asking(t, open, web.PagePath, nil)
	wantParts(t, text, "Because: the reason is told by", "2 warnings: `atlock status`", "acme/infra/conflict/default/", "<code>network</code>")

	closed := serveAtlantis(t, telling{database})
	if code, text, _ := asking(t, closed, web.PagePath, nil); code != http.StatusUnauthorized || strings.Contains(text, "redis.internal") {
		t.Errorf("%d: %s", code, text)
	}
	if text := must(t, closed, web.PagePath); !strings.Contains(text, internal) {
		t.Errorf("who logged in is not told why: %s", text)
	}
}

// An error is one text for everybody, whatever it says.
func TestErrorsAreNotForEverybody(t *testing.T) {
	for _, webAuth := range []bool{true, false} {
		served := serveAtlantis(t, failing{openSled(t)}, func(s *server.Server) { s.WebAuthentication = webAuth })
		for _, path := range []string{web.StatusPath, web.HealthPath, web.PagePath} {
			if _, text, _ := asking(t, served, path, nil); strings.Contains(text, "cannot be reached") {
				t.Errorf("%s: %s", path, text)
			}
		}
	}
}

func fieldsOf(t *testing.T, text string) []string {
	t.Helper()
	var fields map[string]json.RawMessage
	decode(t, text, &fields)
	var names []string
	for name, value := range fields {
		names = append(names, name)
		var inner map[string]json.RawMessage
		if json.Unmarshal(value, &inner) == nil {
			for _, field := range slices.Collect(maps.Keys(inner)) {
				names = append(names, name+"."+field)
			}
		}
	}
	slices.Sort(names)
	return names
}

package web_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

const apiSecret = "the-api-secret"

// openQueue is the embedded store with a queue, in which a circle counts at once.
func openQueue(t testing.TB) *atlock.Database {
	t.Helper()
	return open(t, atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir(), Enhanced: atlock.Enhanced{
		PriorityQueue:     atlock.PriorityQueue{Enabled: true},
		DeadlockDetection: atlock.DeadlockDetection{Enabled: true, Confirm: atlock.Duration(100 * time.Millisecond)},
	}}})
}

// wait lets a pull request ask for a lock that it is refused, so that it waits.
func wait(t testing.TB, database *atlock.Database, repo, path string, num int) {
	t.Helper()
	waitAs(t, database, repo, path, models.PullRequest{Num: num, URL: fmt.Sprintf("https://git.example.com/%s/pull/%d", repo, num)})
}

func waitAs(t testing.TB, database *atlock.Database, repo, path string, pull models.PullRequest) {
	t.Helper()
	waitIn(t, database, repo, path, "default", pull)
}

func waitIn(t testing.TB, database *atlock.Database, repo, path, workspace string, pull models.PullRequest) {
	t.Helper()
	pull.Author, pull.BaseRepo = "grace", models.Repo{FullName: repo}
	run, err := database.For(pull).Begin(atlock.RunPlan)
	if err != nil {
		t.Fatal(err)
	}
	grant, err := run.TryLock(models.Project{RepoFullName: repo, Path: path}, workspace, models.User{Username: "grace"})
	if err != nil || grant.Acquired {
		t.Fatal(grant, err)
	}
	if _, err := run.End(); err != nil {
		t.Fatal(err)
	}
}

// circle lets two pull requests wait for each other, and waits until that is noticed.
func circle(t testing.TB, database *atlock.Database) {
	t.Helper()
	take(t, database, "acme/infra", "a", 1)
	take(t, database, "acme/infra", "b", 2)
	wait(t, database, "acme/infra", "b", 1)
	wait(t, database, "acme/infra", "a", 2)
	waitUntil(t, "the circle", func() bool { circles, err := database.Deadlocks(); return err == nil && len(circles) == 1 })
}

// freeze freezes a repository's locks.
func freeze(t testing.TB, database *atlock.Database, repo, reason, owner string) atlock.Freeze {
	t.Helper()
	until := atlock.UnixMicro(time.Now().Add(time.Hour).UnixMicro())
	frozen, err := database.Freeze(atlock.FreezeRequest{Pattern: atlock.FreezePattern{Repo: repo}, Reason: reason, Owner: owner, Until: &until})
	if err != nil {
		t.Fatal(err)
	}
	return frozen
}

// serveAPI serves the handlers alone.
func serveAPI(t testing.TB, database web.Database, secret string) *httptest.Server {
	t.Helper()
	router := mux.NewRouter()
	if err := web.Register(t.Context(), router, database, web.Options{APISecret: []byte(secret)}); err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(router)
	t.Cleanup(served.Close)
	served.Client().Transport = askingWith{served.Client().Transport, secret}
	return served
}

// askingWith sends Atlantis's API secret with each question.
type askingWith struct {
	http.RoundTripper
	secret string
}

func (a askingWith) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && a.secret != "" {
		r = r.Clone(r.Context())
		r.Header.Set("X-Atlantis-Token", a.secret)
	}
	return a.RoundTripper.RoundTrip(r)
}

// call sends a request with Atlantis's API secret, or another.
func call(t testing.TB, served *httptest.Server, method, path, body string, secret ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, served.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range secret {
		request.Header.Set("X-Atlantis-Token", secret)
	}
	response, err := served.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		t.Fatal(response.Header, err)
	}
	return response.StatusCode, string(text)
}

func TestTheQueueByHTTP(t *testing.T) {
	database := openQueue(t)
	circle(t, database)
	wait(t, database, "acme/infra", "a", 3)
	frozen := freeze(t, database, "acme/infra", "audit", "ada")
	served := serveAPI(t, database, apiSecret)

	var queues map[string][]struct {
		Pull     atlock.PullID
		URL      string
		User     string
		Priority string
		Since    int64
		Keys     map[string]struct {
			Position      int
			ReservedUntil *int64 `json:"reserved_until"`
		}
	}
	decode(t, must(t, served, web.QueuePath+"?repo=acme/infra"), &queues)
	third := queues["acme/infra"][2]
	if len(queues) != 1 || len(queues["acme/infra"]) != 3 || third.Pull.Num != 3 || third.User != "grace" || third.Priority != "normal" ||
		third.URL != "https://git.example.com/acme/infra/pull/3" || third.Since == 0 || third.Keys["acme/infra/a/default/"].Position != 2 {
		t.Errorf("the queue is %+v", queues)
	}
	decode(t, must(t, served, web.QueuePath+"?repo=acme/other"), &queues)
	var all map[string]any
	if decode(t, must(t, served, web.QueuePath), &all); len(all) != 1 {
		t.Errorf("all queues are %v", all)
	}

	var explained []atlock.Explained
	decode(t, must(t, served, web.ExplainPath+"?id="+url.QueryEscape("acme/infra/a/default/")), &explained)
	if len(explained) != 1 || explained[0].Holder.Pull.Num != 1 || explained[0].Deadlock == "" || len(explained[0].Queue) != 2 {
		t.Errorf("explained is %+v", explained)
	}
	decode(t, must(t, served, web.ExplainPath+"?repo=acme/infra&pull=1"), &explained)
	if len(explained) != 2 {
		t.Errorf("pull 1 has a lock and waits for one: %+v", explained)
	}

	var stats map[string]int64
	if decode(t, must(t, served, web.StatsPath), &stats); stats["active_locks"] != 2 || stats["queue_depth"] != 3 || stats["last_updated"] == 0 {
		t.Errorf("the counters are %v", stats)
	}
	var freezes []atlock.Freeze
	if decode(t, must(t, served, web.FreezesPath), &freezes); len(freezes) != 1 || freezes[0].ID != frozen.ID || freezes[0].Owner != "ada" {
		t.Errorf("the freezes are %+v", freezes)
	}
	var circles []atlock.Deadlock
	if decode(t, must(t, served, web.DeadlocksPath), &circles); len(circles) != 1 || len(circles[0].Pulls) != 2 || circles[0].Suggestion == "" {
		t.Errorf("the circles are %+v", circles)
	}
	for _, path := range []string{web.ExplainPath, web.ExplainPath + "?repo=a/b", web.ExplainPath + "?repo=a/b&pull=x", web.ExplainPath + "?repo=a/b&pull=-1"} {
		if code, text := call(t, served, http.MethodGet, path, ""); code != http.StatusBadRequest || !strings.Contains(text, `"error"`) {
			t.Errorf("%s: %d, %s", path, code, text)
		}
	}
}

// A workflow's last look before its own apply: 200 for who holds the lock by that grant, and 409 for everybody else.
func TestCheckByHTTP(t *testing.T) {
	database := openQueue(t)
	lock := newLock("group/sub/infra", "network", 7)
	_, _, token, err := database.TryLockWithToken(lock)
	if err != nil {
		t.Fatal(err)
	}
	served := serveAPI(t, database, apiSecret)
	id := "?id=" + url.QueryEscape("group/sub/infra/network/default/")
	for query, wanted := range map[string]int{
		id + fmt.Sprintf("&pull=7&token=%d", token): 200,
		id + "&pull=7": 200,
		id + "&pull=8": 409,
		id + fmt.Sprintf("&pull=8&token=%d", token):                           409,
		id + fmt.Sprintf("&pull=7&token=%d", token+1):                         409,
		"?id=" + url.QueryEscape("group/sub/infra/free/default/") + "&pull=7": 409,
		id + "&pull=7&token=":                                                 400, // what a workflow without ATLOCK_TOKEN sends
		id + "&pull=7&token=0":                                                400,
		id + "&pull=7&token=x":                                                400,
		id + "&pull=7&token=-1":                                               400,
		id + "&pull=":                                                         400,
		id:                                                                    400,
		"?pull=7":                                                             400,
	} {
		code, text := call(t, served, http.MethodGet, web.CheckPath+query, "")
		if code != wanted || !strings.Contains(text, `"holds"`) && wanted != 400 {
			t.Errorf("%s: %d, not %d: %s", query, code, wanted, text)
		}
	}
	if code, text := call(t, served, http.MethodGet, web.CheckPath+id+"&pull=8", ""); !strings.Contains(text, `"num": 7`) {
		t.Errorf("who is refused is not told the holder: %d, %s", code, text)
	}
}

func TestChangesByHTTP(t *testing.T) {
	database := openQueue(t)
	take(t, database, "acme/infra", "network", 7)
	wait(t, database, "acme/infra", "network", 8)
	served := serveAPI(t, database, apiSecret)

	until := time.Now().Add(time.Hour).UnixMicro()
	code, text := call(t, served, http.MethodPost, web.FreezesPath,
		fmt.Sprintf(`{"pattern":{"repo":"acme/*","path":"prod/*"},"reason":"audit","owner":"ada","until":%d}`, until), apiSecret)
	var frozen atlock.Freeze
	decode(t, text, &frozen)
	if freezes, err := database.Freezes(); code != 200 || err != nil || len(freezes) != 1 || freezes[0].ID != frozen.ID || freezes[0].Pattern.Path != "prod/*" {
		t.Errorf("%d: %s; %+v, %v", code, text, freezes, err)
	}
	if code, text := call(t, served, http.MethodDelete, web.FreezesPath+"?id="+frozen.ID, "", apiSecret); code != 200 || !strings.Contains(text, frozen.ID) {
		t.Errorf("thawed: %d, %s", code, text)
	}
	if code, text := call(t, served, http.MethodDelete, web.FreezesPath+"?id="+frozen.ID, "", apiSecret); code != 404 || !strings.Contains(text, "no freeze") {
		t.Errorf("thawed again: %d, %s", code, text)
	}
	leave := `{"repo":"acme/infra","pull":{"num":8}}`
	if code, text := call(t, served, http.MethodPost, web.LeavePath, leave, apiSecret); code != 200 || !strings.Contains(text, `"left": 1`) {
		t.Errorf("left: %d, %s", code, text)
	}
	if queues, err := database.Queues(""); err != nil || len(queues) != 0 {
		t.Errorf("somebody waits: %v, %v", queues, err)
	}
	if code, text := call(t, served, http.MethodPost, web.LeavePath, leave, apiSecret); code != 200 || !strings.Contains(text, `"left": 0`) {
		t.Errorf("left again: %d, %s", code, text)
	}

	for _, wrong := range []struct {
		method, path, body string
		code               int
		text               string
	}{
		{http.MethodPost, web.FreezesPath, "", 400, "JSON"},
		{http.MethodPost, web.FreezesPath, "{}", 400, "empty"},
		{http.MethodPost, web.FreezesPath, `{"pattern":{"repo":"a/b"},"reason":"r","owner":"o"}`, 400, "no end"},
		{http.MethodPost, web.FreezesPath, `{"pattern":{"repo":"a/b"},"reason":"r","owner":"o","open_ended":true,"untill":1}`, 400, "untill"},
		{http.MethodPost, web.FreezesPath, `{"pattern":{"repo":"a/b","dir":"x"},"reason":"r","owner":"o","open_ended":true}`, 400, "dir"},
		{http.MethodPost, web.FreezesPath, `{"pattern":{"repo":"a/b"},"reason":"r","owner":"o","open_ended":true} {}`, 400, "more than one"},
		{http.MethodPost, web.FreezesPath, `"` + strings.Repeat("x", 65<<10) + `"`, 413, "too long"},
		{http.MethodDelete, web.FreezesPath, "", 400, "id"},
		{http.MethodPost, web.LeavePath, `{"repo":"acme/infra"}`, 400, "pull"},
		{http.MethodPost, web.LeavePath, `{"pull":{"num":8}}`, 400, "repo"},
		{http.MethodPost, web.LeavePath, `{"repo":"acme/infra","pull":{"num":8,"id":1}}`, 400, "id"},
		{http.MethodPost, web.LeavePath, `[]`, 400, "JSON"},
	} {
		if code, text := call(t, served, wrong.method, wrong.path, wrong.body, apiSecret); code != wrong.code || !strings.Contains(text, wrong.text) {
			t.Errorf("%s %s %.60s: %d, %s", wrong.method, wrong.path, wrong.body, code, text)
		}
	}
	if freezes, err := database.Freezes(); err != nil || len(freezes) != 0 {
		t.Errorf("a refused request froze: %+v, %v", freezes, err)
	}
}

// Nobody changes anything without Atlantis's API secret, and nobody at all where there is none.
func TestChangesNeedTheAPISecret(t *testing.T) {
	database := openQueue(t)
	frozen := freeze(t, database, "acme/infra", "audit", "ada")
	take(t, database, "acme/infra2", "network", 7)
	wait(t, database, "acme/infra2", "network", 8)
	for _, c := range []struct {
		secret string
		given  []string
		code   int
		text   string
	}{
		{apiSecret, nil, 401, "X-Atlantis-Token"},
		{apiSecret, []string{""}, 401, "X-Atlantis-Token"},
		{apiSecret, []string{apiSecret + "x"}, 401, "X-Atlantis-Token"},
		{apiSecret, []string{apiSecret[:3]}, 401, "X-Atlantis-Token"},
		{"", nil, 404, "--api-secret"},
		{"", []string{""}, 404, "--api-secret"},
		{"", []string{apiSecret}, 404, "--api-secret"},
	} {
		served := serveAPI(t, database, c.secret)
		for _, change := range [][3]string{
			{http.MethodPost, web.LeavePath, `{"repo":"acme/infra2","pull":{"num":8}}`},
			{http.MethodPost, web.FreezesPath, `{"pattern":{"repo":"a/b"},"reason":"r","owner":"o","open_ended":true}`},
			{http.MethodDelete, web.FreezesPath + "?id=" + frozen.ID, ""},
		} {
			code, text := call(t, served, change[0], change[1], change[2], c.given...)
			if code != c.code || !strings.Contains(text, c.text) || strings.Contains(text, apiSecret) {
				t.Errorf("%+v, %s %s: %d, %s", c, change[0], change[1], code, text)
			}
		}
	}
	if freezes, err := database.Freezes(); err != nil || len(freezes) != 1 {
		t.Errorf("the freezes are %+v, %v", freezes, err)
	}
	if queues, err := database.Queues(""); err != nil || len(queues["acme/infra2"]) != 1 {
		t.Errorf("the queues are %+v, %v", queues, err)
	}
}

// Where there is no queue, that is said, and which setting makes one; the rest answers.
func TestWithoutAQueue(t *testing.T) {
	for name, c := range map[string]struct {
		database *atlock.Database
		setting  string
	}{
		"sled":   {openSled(t), "locking.enhanced.priority_queue.enabled"},
		"boltdb": {open(t, atlock.Config{}, atlock.WithBoltDB(t.TempDir())), "locking.backend: sled"},
	} {
		take(t, c.database, "acme/infra", "network", 7)
		served := serveAPI(t, c.database, apiSecret)
		for _, request := range [][3]string{
			{http.MethodGet, web.QueuePath, ""},
			{http.MethodGet, web.FreezesPath, ""},
			{http.MethodGet, web.DeadlocksPath, ""},
			{http.MethodPost, web.LeavePath, `{"repo":"acme/infra","pull":{"num":8}}`},
			{http.MethodPost, web.FreezesPath, `{"pattern":{"repo":"a/b"},"reason":"r","owner":"o","open_ended":true}`},
			{http.MethodDelete, web.FreezesPath + "?id=1", ""},
		} {
			if code, text := call(t, served, request[0], request[1], request[2], apiSecret); code != 404 || !strings.Contains(text, c.setting) {
				t.Errorf("%s, %s %s: %d, %s", name, request[0], request[1], code, text)
			}
		}
		id := "?id=" + url.QueryEscape("acme/infra/network/default/")
		for _, path := range []string{web.ExplainPath + id, web.ExplainPath + "?repo=acme/infra&pull=7", web.StatsPath, web.CheckPath + id + "&pull=7"} {
			must(t, served, path)
		}
	}
	noDetection := open(t, atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir(), Enhanced: atlock.Enhanced{
		PriorityQueue: atlock.PriorityQueue{Enabled: true},
	}}})
	code, text := call(t, serveAPI(t, noDetection, apiSecret), http.MethodGet, web.DeadlocksPath, "")
	if code != 404 || !strings.Contains(text, "deadlock_detection.enabled") {
		t.Errorf("nobody looks for circles: %d, %s", code, text)
	}
}

// A locking layer that does not answer is no refusal: 503, and never 200 or 409.
func TestAQueueThatDoesNotAnswer(t *testing.T) {
	database := openQueue(t)
	served := serveAPI(t, database, apiSecret)
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{web.QueuePath, web.ExplainPath + "?id=a", web.StatsPath, web.CheckPath + "?id=a/b/c/d/&pull=7", web.FreezesPath} {
		if code, text := call(t, served, http.MethodGet, path, ""); code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d, %s", path, code, text)
		}
	}
	if _, err := database.Freezes(); !errors.Is(err, atlock.ErrClosed) {
		t.Error(err)
	}
}

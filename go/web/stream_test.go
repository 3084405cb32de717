package web_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

// openStream asks for a stream, until the context is over. The caller closes the answer's body.
func openStream(ctx context.Context, t *testing.T, served *httptest.Server) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, served.URL+web.StreamPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := served.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// listen listens to what changes, and leaves at the latest with the test. Its function gives the next line that is told, or "" at the end.
func listen(t *testing.T, served *httptest.Server) (next func() string, leave func()) {
	t.Helper()
	ctx, leave := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(leave)
	response := openStream(ctx, t, served)
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(response.Status, response.Header)
	}
	lines := bufio.NewScanner(response.Body)
	return func() string {
		for lines.Scan() {
			if text := lines.Text(); text != "" && text != ":" && !strings.HasPrefix(text, "retry:") {
				return text
			}
		}
		return ""
	}, leave
}

const changed = "data: changed"

// Behind Atlantis's own middleware, each page is told of each change, and of nothing more.
func TestPagesAreToldOfChanges(t *testing.T) {
	web.LookEvery(t, 5*time.Millisecond)
	database := openQueue(t)
	served := serveAtlantis(t, database)
	first, _ := listen(t, served)
	second, _ := listen(t, served)
	for num := range 6 { // a page may have been told twice at the start, and never of nothing
		take(t, database, "acme/infra", fmt.Sprint("folder-", num), num+1)
		for _, next := range []func() string{first, second} {
			if told := next(); told != changed {
				t.Fatalf("change %d: %q", num, told)
			}
		}
	}
}

// What there is to see is seen as another with each kind of change, and as the same when it is looked at again: else each page would be fetched
// at each look.
func TestEachKindOfChangeIsSeen(t *testing.T) {
	for name, open := range modes(t) {
		t.Run(name, func(t *testing.T) {
			database := open(t)
			take(t, database, "acme/infra", "network", 7)
			wantSeen(t, database, func() { take(t, database, "acme/infra", "vpc", 7) })
		})
	}
	withoutCircles := open(t, atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir(), Enhanced: atlock.Enhanced{
		PriorityQueue: atlock.PriorityQueue{Enabled: true},
	}}})
	wantSeen(t, withoutCircles, func() { take(t, withoutCircles, "acme/infra", "vpc", 7) })
	database := openQueue(t)
	take(t, database, "acme/infra", "network", 7)
	wantSeen(t, database, func() { wait(t, database, "acme/infra", "network", 8) })
	wantSeen(t, database, func() { freeze(t, database, "acme/other", "audit", "ada") })
	wantSeen(t, database, func() {
		if _, err := database.LockCommand(command.Apply, time.Now()); err != nil {
			t.Fatal(err)
		}
	})
	wantSeen(t, database, func() {
		if _, err := database.UnlockByPull("acme/infra", 7); err != nil {
			t.Fatal(err)
		}
	})
	wantSeen(t, database, func() {
		if err := database.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func wantSeen(t *testing.T, database web.Database, change func()) {
	t.Helper()
	look := web.Looking(database)
	before := look()
	waitUntil(t, "two looks that see the same", func() bool { // hybrid mode brings a lock to its local store behind its grant
		now := look()
		same := now == before
		before = now
		return same
	})
	errors := func() uint64 { status, _ := database.Status(); return status.Errors }
	if count := errors(); look() != before || errors() != count {
		t.Errorf("a look counted %d errors", errors()-count)
	}
	if change(); look() == before {
		t.Error("nothing is to be seen of a change")
	}
}

// counting counts the lists that are asked for.
type counting struct {
	*atlock.Database
	lists chan struct{}
}

func (c counting) List() ([]models.ProjectLock, error) {
	c.lists <- struct{}{}
	return c.Database.List()
}

// One looks for all, twenty listen, and the next is sent away until one leaves. Nobody looks once all have left.
func TestStreamsAreBounded(t *testing.T) {
	web.LookEvery(t, time.Hour)
	database := counting{openSled(t), make(chan struct{}, 100)}
	served := serveAtlantis(t, database)
	var leave func()
	for range web.MostStreams {
		_, leave = listen(t, served)
	}
	<-database.lists
	response, text := get(t, served, web.StreamPath)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %s, %s", response.Status, text)
	}
	if len(database.lists) > 0 {
		t.Errorf("%d more looked", len(database.lists))
	}
	leave()
	waitUntil(t, "a place", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		response := openStream(ctx, t, served)
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// A server that stops waits for nobody who listens, and leaves no goroutine behind.
func TestStreamsEndWithTheServer(t *testing.T) {
	web.LookEvery(t, 5*time.Millisecond)
	before := runtime.NumGoroutine()
	database := openSled(t)
	opened := runtime.NumGoroutine()
	router, stopping := mux.NewRouter(), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	if err := web.Register(ctx, router, database, web.Options{Stopping: stopping}); err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(router)
	next, _ := listen(t, served)
	if told := next(); told != changed {
		t.Fatal(told)
	}
	close(stopping)
	for left := 1; next() != ""; left-- { // at the start a page may be told twice
		if left == 0 {
			t.Fatal("the stream goes on after the stop")
		}
	}
	if response, _ := get(t, served, web.StreamPath); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one that begins after the stop: %s", response.Status)
	}
	if text := must(t, served, web.PagePath); !strings.Contains(text, "No locks found.") {
		t.Errorf("the page is gone while the server drains: %s", text)
	}
	served.Close()
	stop()
	waitUntil(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= max(before, opened) })
}

// Who does not log in, and a page of another site, hear nothing.
func TestStreamsAreNotForEverybody(t *testing.T) {
	served := serveAtlantis(t, openSled(t))
	response, err := http.Get(served.URL + web.StreamPath)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Error(response.Status)
	}
	for site, wanted := range map[string]int{"cross-site": http.StatusForbidden, "same-site": http.StatusForbidden} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, served.URL+web.StreamPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Sec-Fetch-Site", site)
		response, err := served.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != wanted {
			t.Errorf("%s: %s", site, response.Status)
		}
	}
}

package web_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

// held is a database whose reads end when they may.
type held struct {
	*atlock.Database
	release chan struct{}
	inside  atomic.Int64
	most    atomic.Int64
	begun   atomic.Int64
}

func hold(database *atlock.Database) *held {
	return &held{Database: database, release: make(chan struct{})}
}

func (h *held) wait() {
	h.begun.Add(1)
	now := h.inside.Add(1)
	defer h.inside.Add(-1)
	for seen := h.most.Load(); now > seen && !h.most.CompareAndSwap(seen, now); seen = h.most.Load() {
	}
	<-h.release
}

func (h *held) Metrics() (string, error) { h.wait(); return h.Database.Metrics() }

func (h *held) List() ([]models.ProjectLock, error) { h.wait(); return h.Database.List() }

func (h *held) Explain(key string) (atlock.Explained, error) {
	h.wait()
	return h.Database.Explain(key)
}

// flood asks for many paths at once. Of those answered so far it counts the codes; the rest comes at the end.
type flood struct {
	mutex sync.Mutex
	codes map[int]int
	group sync.WaitGroup
}

func floodWith(t *testing.T, served *httptest.Server, count int, path func(nth int) string) *flood {
	f := &flood{codes: map[int]int{}}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for nth := range count {
		f.group.Go(func() {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, served.URL+path(nth), nil)
			if err != nil {
				t.Error(err)
				return
			}
			request.SetBasicAuth(webUser, webPassword)
			response, err := client.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			_, _ = io.Copy(io.Discard, response.Body)
			if response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "" {
				t.Error("a 503 without Retry-After")
			}
			f.mutex.Lock()
			defer f.mutex.Unlock()
			f.codes[response.StatusCode]++
		})
	}
	return f
}

func (f *flood) of(code int) int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.codes[code]
}

// However many ask for pages that differ, few are made at once, and the others are told to come again; and a lock is granted meanwhile.
func TestAFloodOfPagesIsRefusedAndGrantsGoOn(t *testing.T) {
	const count = 60
	database := hold(openSled(t))
	served := serveAtlantis(t, database)
	f := floodWith(t, served, count, func(nth int) string { return fmt.Sprintf("%s?filter=f%d", web.PagePath, nth) })
	waitUntil(t, "all but a few are refused", func() bool { return f.of(http.StatusServiceUnavailable) == count-web.BuildsAtOnce })
	take(t, database, "acme/infra", "network", 7)
	if _, err := database.UnlockByPull("acme/infra", 7); err != nil {
		t.Error(err)
	}
	if inside := database.inside.Load(); inside != web.BuildsAtOnce {
		t.Errorf("%d pages are being made, want %d", inside, web.BuildsAtOnce)
	}
	close(database.release)
	f.group.Wait()
	if f.of(http.StatusOK) != web.BuildsAtOnce || database.most.Load() != web.BuildsAtOnce {
		t.Errorf("%d were answered, %d were made at once, want %d", f.of(http.StatusOK), database.most.Load(), web.BuildsAtOnce)
	}
}

// All who ask for the same while it is made get what is made once, and so does who asks soon afterwards, until something was changed.
func TestOneAnswerIsMadeForAllWhoAskForTheSame(t *testing.T) {
	for _, path := range []string{web.MetricsPath, web.PagePath} {
		web.KeepFor(t, time.Hour)
		const count = 60
		database := hold(openSled(t))
		served := serveAtlantis(t, database)
		f := floodWith(t, served, count, func(int) string { return path })
		waitUntil(t, "it is being made", func() bool { return database.begun.Load() == 1 })
		close(database.release)
		f.group.Wait()
		must(t, served, path+"?page=1") // the same
		if begun := database.begun.Load(); begun != 1 || f.of(http.StatusOK) != count {
			t.Errorf("%s: made %d times, and %d of %d were answered", path, begun, f.of(http.StatusOK), count)
		}
		response, err := served.Client().Post(served.URL+"/apply/lock", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		must(t, served, path)
		if begun := database.begun.Load(); begun != 2 {
			t.Errorf("%s: after a change it was made %d times, want 2", path, begun)
		}
	}
}

// An endpoint answers a few at once, lets some wait, and refuses the rest. Who leaves while waiting costs nothing.
func TestAFloodOfQuestionsIsBounded(t *testing.T) {
	const count = web.QuestionsAtOnce + web.MostWait + 20
	database := hold(openSled(t))
	served := serveAtlantis(t, database)
	f := floodWith(t, served, count, func(nth int) string { return fmt.Sprintf("%s?id=acme/infra/%d/default/", web.ExplainPath, nth) })
	waitUntil(t, "those for whom there is no room are refused", func() bool { return f.of(http.StatusServiceUnavailable) >= 20 })
	take(t, database, "acme/infra", "network", 7)
	close(database.release)
	f.group.Wait()
	if most := database.most.Load(); most != web.QuestionsAtOnce {
		t.Errorf("%d were answered at once, want %d", most, web.QuestionsAtOnce)
	}
	if begun, refused := database.begun.Load(), f.of(http.StatusServiceUnavailable); int(begun) != count-refused {
		t.Errorf("%d of %d were refused, and %d were asked of the database", refused, count, begun)
	}
}

// Requests whose clients have left are not worked off, and do not keep others waiting.
func TestAbandonedRequestsCostNothing(t *testing.T) {
	var asked atomic.Int64
	release := make(chan struct{})
	admitted := web.Admitted(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		<-release
	}))
	ask := func(ctx context.Context) {
		admitted.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	}
	var present, leaving sync.WaitGroup
	for range web.QuestionsAtOnce {
		present.Go(func() { ask(t.Context()) })
	}
	waitUntil(t, "all places are taken", func() bool { return asked.Load() == web.QuestionsAtOnce })
	left, leave := context.WithCancel(t.Context())
	for range web.MostWait {
		leaving.Go(func() { ask(left) })
	}
	leave()
	leaving.Wait() // while all places are taken
	ask(left)
	close(release)
	present.Wait()
	ask(left) // although there is a place now
	if asked.Load() != web.QuestionsAtOnce {
		t.Errorf("%d were answered, want %d", asked.Load(), web.QuestionsAtOnce)
	}
}

// Who does not read an answer does not keep the connection, nor the place; and the time for it ends with it.
func TestASlowReaderEnds(t *testing.T) {
	web.SendWithin(t, 200*time.Millisecond)
	ended := make(chan struct{}, 1)
	admitted := web.Admitted(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 64<<20)) // more than the system takes for a client that does not read
	}))
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		admitted.ServeHTTP(w, r)
		ended <- struct{}{}
	}))
	defer served.Close()
	connection, err := net.Dial("tcp", served.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprint(connection, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("a reader who does not read is served for ever")
	}
}

// The time for an answer of ours does not end what Atlantis sends on the same connection.
func TestTheTimeForAnAnswerEndsWithIt(t *testing.T) {
	web.SendWithin(t, 200*time.Millisecond)
	admitted := web.Admitted(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ours") }))
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ours" {
			admitted.ServeHTTP(w, r)
			return
		}
		time.Sleep(600 * time.Millisecond)
		fmt.Fprint(w, "theirs")
	}))
	defer served.Close()
	for _, path := range []string{"/ours", "/theirs"} { // one connection
		if text := must(t, served, path); text != path[1:] {
			t.Errorf("%s: %q", path, text)
		}
	}
}

// A filter is bounded, however it is sent.
func TestAFilterIsBounded(t *testing.T) {
	served := serveAtlantis(t, openSled(t))
	must(t, served, web.PagePath+"?filter="+strings.Repeat("x", web.LongestFilter))
	response, text := get(t, served, web.PagePath+"?filter="+strings.Repeat("x", web.LongestFilter+1))
	if response.StatusCode != http.StatusBadRequest || !strings.Contains(text, "200 bytes are the limit") {
		t.Errorf("%s: %s", response.Status, text)
	}
}

// A page that cannot be made is an error of those who ask for it, and of nobody else.
func TestAPanicIsOfThoseWhoAsk(t *testing.T) {
	served := serveAtlantis(t, &broken{openSled(t)})
	if response, err := served.Client().Get(served.URL + web.PagePath); err == nil {
		response.Body.Close()
		t.Errorf("a panic was answered with %s", response.Status)
	}
	must(t, served, web.HealthPath)
}

type broken struct{ *atlock.Database }

func (broken) List() ([]models.ProjectLock, error) { panic("broken on purpose") }

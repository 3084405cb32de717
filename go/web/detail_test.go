package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

const networkKey = "acme/infra/network/default/"

// detailOf is the page of a lock, as who logged in sees it, or everybody.
func detailOf(t *testing.T, database web.Database, webAuth bool, file, key string) (int, string) {
	t.Helper()
	router := mux.NewRouter()
	options := web.Options{WebAuth: webAuth, AuditFile: func() string { return file }}
	if err := web.Register(t.Context(), router, database, options); err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	router.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, web.DetailPath+"?id="+url.QueryEscape(key), nil))
	return answer.Code, answer.Body.String()
}

// What the trail has of a lock stands on its page, the newest first, and nothing of other locks; no address of a person, and no secret.
func TestTheTrailOfALock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	database := open(t, atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir(), Audit: atlock.Audit{File: file}}})
	project := models.NewProject("acme/infra", "network", "")
	take(t, database, "acme/infra", "network", 7)
	take(t, database, "acme/infra", "elsewhere", 17)
	if acquired, _, err := database.TryLock(newLock("acme/infra", "network", 8)); acquired || err != nil {
		t.Fatal(acquired, err)
	}
	by := atlock.Actor{Via: atlock.ViaPage, By: atlock.Person{User: "carol", Address: "192.0.2.7:1"}}
	if _, err := database.As(by).Unlock(project, "default"); err != nil {
		t.Fatal(err)
	}
	take(t, database, "acme/infra", "network", 9)

	_, text := detailOf(t, database, true, file, networkKey)
	shown := cells(text)
	var at []int
	for _, wanted := range []string{"grant #9", "release #7 carol page", "refusal #8", "#7 had it", "grant #7"} {
		found := strings.Index(shown, wanted)
		if found < 0 || len(at) > 0 && found < at[len(at)-1] {
			t.Errorf("no %q in its place in %s", wanted, shown)
		}
		at = append(at, found)
	}
	if strings.Contains(text, "#17") || strings.Contains(text, "192.0.2.7") {
		t.Errorf("another lock, or an address: %s", text)
	}
	_, text = detailOf(t, database, false, file, networkKey)
	if wantParts(t, text, "shown once --web-basic-auth is on", "<h1>Held"); strings.Contains(text, "carol") {
		t.Errorf("everybody hears of carol: %s", text)
	}
	_, text = detailOf(t, database, true, "", networkKey)
	wantParts(t, text, "locking.audit.file names one")
}

// The trail is looked at as far as is bounded, and a pipe not at all: what is read from it is gone.
func TestOnlyTheEndOfTheTrailIsRead(t *testing.T) {
	folder := t.TempDir()
	database := openSled(t)
	line := func(kind string, nth int) string {
		return fmt.Sprintf(`{"time":%q,"kind":%q,"key":%q,"pull":%d,"by":"signal","detail":"https://bot:s3cr3t@host/x"}`+"\n",
			time.Now().Format(time.RFC3339Nano), kind, networkKey, nth)
	}
	long := filepath.Join(folder, "long")
	other := strings.Replace(strings.Repeat(line("grant", 1), 1), "network", "other", 1)
	content := line("discard", 4711) + strings.Repeat(other, 3*web.TrailBytes/2/len(other)) + "no line\n" + line("grant", 42) + `{"kind":"release","key":"acme`
	if err := os.WriteFile(long, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	_, text := detailOf(t, database, true, long, networkKey)
	wantParts(t, text, "#42", "Only the last 1024 KiB", "https://host/x")
	if strings.Contains(text, "#4711") || strings.Contains(text, "s3cr3t") {
		t.Errorf("more is read, or a secret: %s", text)
	}
	many := filepath.Join(folder, "many")
	if err := os.WriteFile(many, []byte(strings.Repeat(line("grant", 42), web.MostEntries+5)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, text := detailOf(t, database, true, many, networkKey); strings.Count(text, "#42") != web.MostEntries {
		t.Errorf("%d entries", strings.Count(text, "#42"))
	}
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, wanted := range map[string]string{pipe: "is no regular file", folder: "is no regular file", filepath.Join(folder, "none"): "cannot be read"} {
		_, text := detailOf(t, database, true, name, networkKey)
		wantParts(t, text, wanted)
	}
}

// A lock's page says how it stands: held, with token and queue; free; frozen. What names no lock is refused.
func TestTheDetailsOfALock(t *testing.T) {
	database := openQueue(t)
	take(t, database, "acme/infra", "network", 7)
	for num := 11; num < 14; num++ {
		wait(t, database, "acme/infra", "network", num)
	}
	freeze(t, database, "acme/platform", "audit", "ada")
	for key, wanted := range map[string][]string{
		networkKey:                  {"<h1>Held", `class="token">1`, "What frees it", `data-label="Place">3<`, "/lock?id=acme%252Finfra%252Fnetwork%252Fdefault%252F", "#13"},
		"acme/infra/free/default/":  {"<h1>Free</h1>"},
		"acme/platform/x/default/":  {"<h1>Free, and frozen</h1>", "audit"},
		`acme/<script>/x/default/`:  {"<h1>Free</h1>", "&lt;script&gt;"},
		"":                          {"No lock was named"},
		strings.Repeat("x/", 4000):  {"No lock was named"},
		"acme/infra/\x00/default/x": {"<h1>"},
	} {
		_, text := detailOf(t, database, true, "", key)
		if wantParts(t, text, wanted...); strings.Contains(text, "<script>") {
			t.Errorf("markup: %s", text)
		}
	}
	if code, text := detailOf(t, failing{database}, true, "", networkKey); code == http.StatusOK || strings.Contains(text, secret) {
		t.Errorf("%d: %s", code, text)
	}
	served := serveAtlantis(t, database)
	wantParts(t, must(t, served, web.PagePath), `href="/locking/lock?id=acme%2Finfra%2Fnetwork%2Fdefault%2F"`)
	must(t, served, web.DetailPath+"?id="+url.QueryEscape(networkKey))
}

package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atlock/atlock/go/web"
)

// Locks that nobody will release are told as they are known, without credentials; where nobody looks, the answer names the setting.
func TestStaleLocksByHTTP(t *testing.T) {
	database := openSled(t)
	serve := func(stale []web.StaleLock) *httptest.Server {
		return serveActing(t, database, &acts{stale: stale})
	}
	code, text := call(t, serve(nil), http.MethodGet, web.StalePath, "")
	if code != http.StatusNotFound || !strings.Contains(text, "locking.enhanced.stale_locks") {
		t.Errorf("%d %s", code, text)
	}
	if text := must(t, serve([]web.StaleLock{}), web.StalePath); text != "[]\n" {
		t.Errorf("none are told as %s", text)
	}
	at := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	known := web.StaleLock{
		Key: "acme/infra/a/default/", Repo: "acme/infra", Pull: 7, URL: "https://bot:secret@git.example.com/7", User: "ada",
		Locked: at, Evidence: "closed", Since: at, Confirmed: true,
	}
	text = must(t, serve([]web.StaleLock{known}), web.StalePath)
	var told []map[string]any
	if decode(t, text, &told); len(told) != 1 || strings.Contains(text, "secret") {
		t.Fatal(text)
	}
	for name, wanted := range map[string]any{
		"key": known.Key, "repo": known.Repo, "pull": 7.0, "user": "ada", "locked": "2026-11-30T08:00:00Z", "evidence": "closed",
		"since": "2026-11-30T08:00:00Z", "confirmed": true,
	} {
		if told[0][name] != wanted {
			t.Errorf("%s is %v and not %v", name, told[0][name], wanted)
		}
	}
}

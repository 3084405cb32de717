package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

// openAudited opens a database with a queue and an audit trail. The answer tells the entries of people, each in a few words.
func openAudited(t *testing.T) (database *atlock.Database, trail func() []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "audit")
	database = open(t, atlock.Config{Locking: atlock.Locking{
		Backend: "sled", DataDir: t.TempDir(), Audit: atlock.Audit{File: file},
		Enhanced: atlock.Enhanced{PriorityQueue: atlock.PriorityQueue{Enabled: true}},
	}})
	return database, func() (told []string) {
		text, err := os.ReadFile(file)
		if err != nil || bytes.Contains(text, []byte(apiSecret)) || bytes.Contains(text, []byte("s3cr3t")) {
			t.Fatalf("%s, %v", text, err)
		}
		for line := range bytes.Lines(text) {
			var entry struct {
				Kind, Operation, Via string
				By                   struct{ User, Address string }
			}
			if err := json.Unmarshal(line, &entry); err != nil {
				t.Fatal(err)
			}
			if entry.Kind != "grant" && entry.Kind != "refusal" {
				host, _, _ := strings.Cut(entry.By.Address, ":")
				told = append(told, fmt.Sprintf("%s %s via %s by %s at %s", entry.Kind, entry.Operation, entry.Via, entry.By.User, host))
			}
		}
		return told
	}
}

// What the API and the page change, and whom the API refuses, is told with who asked.
func TestTheTrailSaysWhoAsked(t *testing.T) {
	database, trail := openAudited(t)
	take(t, database, "acme/infra", "network", 7)
	wait(t, database, "acme/infra", "network", 8)
	served := serveAPI(t, database, apiSecret)
	until := time.Now().Add(time.Hour).UnixMicro()
	body := fmt.Sprintf(`{"pattern":{"repo":"acme/*"},"reason":"audit","owner":"ada","until":%d}`, until)
	code, text := call(t, served, http.MethodPost, web.FreezesPath, body, apiSecret)
	var frozen atlock.Freeze
	if decode(t, text, &frozen); code != http.StatusOK {
		t.Fatal(code, text)
	}
	for _, asked := range []struct {
		method, path, body string
		secret             []string
		code               int
	}{
		{http.MethodPost, web.LeavePath, `{"repo":"acme/infra","pull":{"num":8}}`, []string{apiSecret}, http.StatusOK},
		{http.MethodDelete, web.FreezesPath + "?id=" + frozen.ID, "", []string{apiSecret}, http.StatusOK},
		{http.MethodPost, web.FreezesPath, body, []string{"wrong"}, http.StatusUnauthorized},
		{http.MethodPost, web.FreezesPath, body, nil, http.StatusUnauthorized}, // nothing was tried
	} {
		if code, text := call(t, served, asked.method, asked.path, asked.body, asked.secret...); code != asked.code {
			t.Errorf("%s %s: %d %s", asked.method, asked.path, code, text)
		}
	}

	page := serveActing(t, database, nil, func(s *server.Server) {
		s.WebAuthentication, s.WebUsername, s.WebPassword = true, "ops", "s3cr3t-password"
	})
	form := url.Values{"repo": {"acme/infra"}, "reason": {"audit"}, "for": {"3d"}}
	if code, text := post(t, page, web.FreezePath, form, "Authorization", "Basic b3BzOnMzY3IzdC1wYXNzd29yZA=="); code != http.StatusSeeOther {
		t.Errorf("%d %s", code, text)
	}
	expected := []string{
		"freeze freeze via api by  at 127.0.0.1", "leave leave via api by  at 127.0.0.1", "thaw thaw via api by  at 127.0.0.1",
		"denied POST " + web.FreezesPath + " via api by  at 127.0.0.1", "freeze freeze via page by ops at 127.0.0.1",
	}
	if told := trail(); !slices.Equal(told, expected) {
		t.Errorf("\n got %q\nwant %q", told, expected)
	}
}

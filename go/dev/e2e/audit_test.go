//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const webUser, webPassword = "carol", "the-webs-password"

// audited is a mode with an audit trail, in a file and on stdout, and with log-ins at the pages.
func audited(of mode) mode {
	settings := of.settings
	of.name += "-audited"
	of.settings = func(w *world) ([]string, string) {
		flags, content := settings(w)
		trail := fmt.Sprintf("{audit: {file: %q, stdout: true}, ", w.auditFile())
		content = strings.Replace(content, "locking: {", "locking: "+trail, 1)
		if !strings.Contains(content, "audit") {
			panic("the settings have another form: " + content)
		}
		return append(flags, "--web-basic-auth=true", "--web-username="+webUser, "--web-password="+webPassword), content
	}
	return of
}

func (w *world) auditFile() string { return filepath.Join(w.folder, "audit") }

// TestTheTrailSaysWhoDidIt: what the seams know gets into the audit trail, by real pages, comments, webhooks and calls.
func TestTheTrailSaysWhoDidIt(t *testing.T) {
	t.Parallel()
	for _, mode := range []mode{strictBolt, strictSled} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, audited(mode))
			r := w.repository(t, "acme/infra")
			told := 0
			wantTold := func(what string, expected ...string) {
				t.Helper()
				all := w.trail(t)
				if found := all[told:]; !slices.Equal(found, expected) {
					t.Errorf("%s:\n got %q\nwant %q", what, found, expected)
				}
				told = len(all)
			}
			password := map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(webUser+":"+webPassword))}
			ask := func(method, path string, header map[string]string, want int) {
				t.Helper()
				code, body, err := w.server.Do(t.Context(), method, path, header)
				if err != nil || code != want {
					t.Fatalf("%s %s: %d %s %v", method, path, code, body, err)
				}
			}
			key := r.key("network")
			grant := "grant " + key + " via plan by "

			first, comment := r.open(t, "network")
			wantText(t, comment, planned)
			author := r.pull(t, first).Author
			wantTold("an autoplan", grant+author+", of ")
			ask(http.MethodDelete, "/locks?id="+url.QueryEscape(url.QueryEscape(key)), password, http.StatusOK)
			wantTold("Atlantis's page", "release "+key+" via page by carol at 127.0.0.1, of "+author)
			wantText(t, r.command(t, first, "atlantis plan"), planned)
			wantTold("a comment", grant+"bob, of ")
			wantText(t, r.command(t, first, "atlantis unlock"), unlocked)
			wantTold("atlantis unlock", "release "+key+" via comment by bob, of bob")

			ask(http.MethodPost, "/apply/lock", password, http.StatusOK)
			ask(http.MethodDelete, "/apply/unlock", password, http.StatusOK)
			wantTold("the global apply lock", "grant apply via page by carol at 127.0.0.1, of ", "release apply via page by carol at 127.0.0.1, of ")

			if code, body := r.callWhenIdle(t, "plan", first); code != http.StatusOK {
				t.Fatalf("%d %s", code, body)
			}
			wantTold("a call of the API", "grant "+key+" via api by , of ", "release "+key+" via api by , of ")

			wantText(t, r.command(t, first, "atlantis plan"), planned)
			r.merge(t, first)
			r.eventuallyHolders(t, map[string]int{})
			wantTold("a merge", grant+"bob, of ", "release "+key+" via pull_closed by , of bob")

			ask(http.MethodGet, "/locking?token=secret", map[string]string{"Authorization": "Basic Y2Fyb2w6d3Jvbmc="}, http.StatusUnauthorized)
			ask(http.MethodGet, "/", nil, http.StatusUnauthorized) // as a browser does first: no attempt
			wantTold("a wrong password", "denied /locking via page by , of ")
			ask(http.MethodPost, "/api/plan", map[string]string{"X-Atlantis-Token": "wrong"}, http.StatusUnauthorized)
			wantTold("a wrong secret", "denied POST /api/plan via api by  at 127.0.0.1, of ")

			log, err := os.ReadFile(w.server.LogFile())
			if err != nil {
				t.Fatal(err)
			}
			if onStdout := bytes.Count(log, []byte(`,"kind":"release",`)); onStdout != 5 {
				t.Errorf("stdout has %d releases", onStdout)
			}
			trail, err := os.ReadFile(w.auditFile())
			if err != nil || bytes.Contains(trail, []byte("token=")) || bytes.Contains(trail, []byte(webPassword)) {
				t.Errorf("a secret is told: %s, %v", trail, err)
			}
		})
	}
}

// trail are the entries of the audit trail, each in a few words.
func (w *world) trail(t *testing.T) (told []string) {
	t.Helper()
	text, err := os.ReadFile(w.auditFile())
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var entry struct {
			Kind, Operation, Key, Command, Via string
			By                                 struct{ User, Address string }
			Holder                             struct{ User string }
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			t.Fatal(err)
		}
		about := entry.Key + entry.Command
		if about == "" {
			about = entry.Operation
		}
		by := entry.By.User
		if host, _, found := strings.Cut(entry.By.Address, ":"); found {
			by += " at " + host
		}
		told = append(told, fmt.Sprintf("%s %s via %s by %s, of %s", entry.Kind, about, entry.Via, by, entry.Holder.User))
	}
	return told
}

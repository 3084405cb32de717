//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/atlock/atlock/go/dev/internal/atlantis"
)

// TestLockingPage looks at the page /locking in a browser: before, while and after Redis is away. Its pictures are
// build/e2e/locking-*.png.
func TestLockingPage(t *testing.T) {
	t.Parallel()
	// With Atlantis's basic auth: without, the page tells no reasons.
	guarded := hybridSled
	guarded.env = map[string]string{"ATLANTIS_WEB_BASIC_AUTH": "true", "ATLANTIS_WEB_USERNAME": "ops", "ATLANTIS_WEB_PASSWORD": "s3cr3t"}
	w := newWorld(t, guarded)
	infra, platform := w.repository(t, "acme/infra"), w.repository(t, "acme/platform")
	first, _ := infra.open(t, "network", "database")
	_, _ = platform.open(t, "app")
	refused, comment := infra.open(t, "network")
	wantText(t, comment, refusedBy(first))

	tab := newTab(t)
	// As a person gets there: from Atlantis's own page.
	if err := chromedp.Do(tab,
		chromedp.Navigate(strings.Replace(w.server.URL(), "://", "://ops:s3cr3t@", 1)+"/"),
		chromedp.Click(chromedp.CSS(`a[href="/locking"]`)),
		chromedp.WaitVisible(chromedp.ID("locks")),
	); err != nil {
		t.Fatalf("follow the link on Atlantis's page: %v", err)
	}
	w.look(t, tab, "healthy", "Redis decides", "Redis decided all the time", "acme/infra", "acme/platform", "#1")

	w.redis.Kill()
	_, comment = platform.open(t, "network")
	wantText(t, comment, planned)
	w.look(t, tab, "fallback", "The local store decides", "Because: Redis at", "Redis does not answer", "acme/platform")

	w.redis.Restart(t)
	w.look(t, tab, "recovered", "Redis decides", "Redis answers in", "Before, the local store decided for", "Recovery:")
	wantRedisToKnow(t, w)

	// A lock's row leads to where it is discarded.
	if err := chromedp.Do(tab,
		clickLive(`table.locks a[href*="acme%252Finfra%252Fnetwork"]`),
		chromedp.WaitVisible(chromedp.ID("discardPlanUnlock")),
	); err != nil {
		t.Fatalf("follow a lock's link on the page: %v", err)
	}
	discard(t, tab)
	wantText(t, infra.command(t, refused, "atlantis plan"), planned)
	infra.wantHolders(t, map[string]int{"network": refused, "database": first})
}

// look loads the page until it says each of the texts, and takes a picture of it.
func (w *world) look(t *testing.T, tab context.Context, name string, texts ...string) {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(50 * time.Millisecond) {
		if err := chromedp.Do(tab, chromedp.Navigate(w.server.URL()+"/locking")); err != nil {
			t.Fatal(err)
		}
		page, err := chromedp.Run(tab, chromedp.Text(chromedp.CSS("body")))
		if err != nil {
			t.Fatal(err)
		}
		lacking := ""
		for _, text := range texts {
			// What a person sees: the page's style may write capitals.
			if !strings.Contains(strings.ToLower(page), strings.ToLower(text)) {
				lacking = text
			}
		}
		if lacking == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the page does not say %q within %v, but:\n%s", lacking, answerLimit, page)
		}
	}
	picture, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outputPath(t, "locking-"+name+".png"), picture, 0o600); err != nil {
		t.Fatal(err)
	}
}

// endpointsTellTheMode asks for what atlock adds to the server. Without settings there is nothing of it, as in stock. Nowhere is
// there a secret.
func endpointsTellTheMode(t *testing.T, mode mode, r *repository) {
	_, comment := r.open(t, "network")
	wantText(t, comment, planned)
	const status, health, metrics, page = "/api/locks/compatibility/status", "/api/locks/health", "/metrics", "/locking"
	answers := map[string]string{}
	for _, path := range []string{status, health, metrics, page, "/", "/api/locks", "/readyz"} {
		code, body, err := r.server.Get(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		want := http.StatusOK
		if own := path == "/" || path == "/api/locks" || path == "/readyz"; !own && mode.answers == "" {
			want = http.StatusNotFound
		}
		if code != want {
			t.Errorf("GET %s: %d, want %d", path, code, want)
		}
		for _, secret := range []string{atlantis.Token, atlantis.APIToken, webhookSecret} {
			if strings.Contains(body, secret) {
				t.Errorf("GET %s shows a secret, %q", path, secret)
			}
		}
		answers[path] = body
	}
	if mode.answers == "" {
		if strings.Contains(answers["/"], page) {
			t.Error("Atlantis's page has a link to atlock's, though there are no settings")
		}
		return
	}
	var says struct {
		Mode         string `json:"mode"`
		Overall      bool   `json:"overall"`
		State        string `json:"state"`
		CircuitState string `json:"circuit_state"`
	}
	for _, path := range []string{status, health} {
		if err := json.Unmarshal([]byte(answers[path]), &says); err != nil {
			t.Fatalf("GET %s: %v: %s", path, err, answers[path])
		}
	}
	if says.Mode != mode.answers || !says.Overall || says.State != "healthy" {
		t.Errorf("status and health say mode %q, %q", says.Mode, says.State)
	}
	for path, text := range map[string]string{metrics: `atlock_info{`, page: r.name, "/": `href="` + page + `"`} {
		if !strings.Contains(answers[path], text) {
			t.Errorf("GET %s lacks %q:\n%s", path, text, answers[path])
		}
	}
}
